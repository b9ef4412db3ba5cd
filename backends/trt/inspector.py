"""Where an engine's multiply-accumulates run, read from TensorRT's engine inspector.

Source: "Engine Inspector", https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/engine-tools.html:
with profiling verbosity DETAILED a layer has ``ParameterType``, ``Weights`` with ``Type`` and ``Count``, and the
dimensions of its tensors. A layer that Myelin compiled, or whose product the inspector does not describe, is listed by
name, not guessed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from fqbench.errors import DataError
from fqbench.plugins import Arithmetic

from .versions import Version

CONVOLUTIONS = frozenset({"Convolution", "Deconvolution"})
PRODUCTS = frozenset({"MatrixMultiply", "Gemm", "FullyConnected"})
# They multiply inside, and the inspector does not say how much.
OPAQUE = ("Myelin", "ForeignNode", "MHA", "Attention")
INTEGER = ("int8", "int4")
HALF = ("half", "fp16", "bf16", "bfloat16")


def read_arithmetic(information: str, version: Version) -> Arithmetic:
    """Count multiply-accumulates of one image by the type of the weights.

    Parameters
    ----------
    information : str
        ``EngineInspector.get_engine_information(LayerInformationFormat.JSON)`` of a context whose shapes are set.
    version : Version
        The TensorRT that wrote it.

    Raises
    ------
    DataError
        It is not such a text.
    """
    try:
        layers = json.loads(information)["Layers"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"the engine inspector's answer cannot be read ({error}); report it.") from error
    integer, half, total, uncounted = 0, 0, 0, set()
    for layer in layers:
        if not isinstance(layer, Mapping):
            uncounted.add("layers without details")  # names only: the engine was built without DETAILED
            continue
        kind = str(layer.get("ParameterType", layer.get("LayerType", "")))
        if any(word in str(layer.get("LayerType", "")) for word in OPAQUE):
            uncounted.add(str(layer["LayerType"]))
            continue
        if kind not in CONVOLUTIONS | PRODUCTS:
            continue
        macs = _macs(layer, kind)
        if macs is None:
            uncounted.add(kind)
            continue
        total += macs
        integer += macs if _is_integer(layer, version) else 0
        half += macs if str(layer["Weights"].get("Type", "")).lower() in HALF else 0
    return Arithmetic(integer, total, tuple(sorted(uncounted)), half)


def _macs(layer: Mapping[str, Any], kind: str) -> int | None:
    """Multiply-accumulates of one image: each weight meets each place of the output map once."""
    count = int((layer.get("Weights") or {}).get("Count", 0))
    outputs, inputs = layer.get("Outputs") or [], layer.get("Inputs") or []
    if not count or not outputs or not inputs:
        return None
    places: list[int] = (inputs if kind == "Deconvolution" else outputs)[0].get("Dimensions", [])
    if len(places) < 2 or any(size < 1 for size in places[1:]):
        return None
    if kind in CONVOLUTIONS:
        return count * math.prod(places[2:])
    return count * math.prod(places[1:-1])


def _is_integer(layer: Mapping[str, Any], version: Version) -> bool:
    weights = str((layer.get("Weights") or {}).get("Type", "")).lower()
    activation = version.tensor_format(layer["Inputs"][0]).lower()
    return weights in INTEGER and any(kind in activation for kind in INTEGER)
