"""Weights of 4 and 2 bits: packed on disk, widened to 8-bit integers with the same scales when a model is loaded.

A 4-bit file holds ONNX's own INT4 tensors, so that plain onnxruntime loads it, too (and convolves in float). It knows
no 2-bit tensors: these are stored as bytes, and the widened 4-bit form is written next to it for other programs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.onnx_graph import copied, initializers, values_of
from fqbench.quant.packing import pack_bits, unpack_bits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onnx import ModelProto, TensorProto

    from fqbench.contracts.plan import QuantizationPlan

PORTABLE = "portable.onnx"
KEY = "fqbench.packed"
DEQUANTIZE = "DequantizeLinear"


def write_packed(model: ModelProto, plan: QuantizationPlan, out: Path) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Write a Q/DQ model whose weights are 8-bit integers with the levels of fewer bits.

    Parameters
    ----------
    model : ModelProto
        Changed in place.
    plan : QuantizationPlan
        What it was made of.
    out : Path
        File to write.

    Returns
    -------
    files : tuple of str
        Names of what was written: ``out``, and the file next to it that plain onnxruntime loads, where ``out`` itself
        cannot be loaded by it.
    details : dict
        What the artifact says about them: the facts of the plan, and the second file as ``portable``.
    """
    import onnx

    low = _low_bit_tensors(model, {name: weight.bits for name, weight in plan.weights.items()})
    for name, width in low.items():
        if width == 4:
            _retype(model, name, onnx.TensorProto.INT4)
    two = [name for name, width in low.items() if width == 2]
    if not two:
        onnx.save(model, out)
        return (out.name,), dict(plan.facts)
    portable = copied(model)
    for name in two:
        _retype(portable, name, onnx.TensorProto.INT4)
    onnx.save(portable, out.with_name(PORTABLE))
    tensors = initializers(model.graph)
    shapes: dict[str, list[int]] = {}
    for name in two:
        levels = values_of(tensors[name])
        shapes[name] = list(levels.shape)
        tensors[name].CopyFrom(onnx.numpy_helper.from_array(pack_bits(levels, 2), name))
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, json.dumps(shapes, sort_keys=True)
    onnx.save(model, out)
    return (out.name, PORTABLE), {"portable": PORTABLE, **plan.facts}


def widened(path: Path) -> bytes | None:
    """Return a model with its packed weights as 8-bit integers, serialized; None where nothing is packed."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(path)
    two: dict[str, list[int]] = next(
        (json.loads(entry.value) for entry in model.metadata_props if entry.key == KEY), {}
    )
    four = [tensor.name for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.INT4]
    if not two and not four:
        return None
    tensors = initializers(model.graph)
    for name, shape in two.items():
        levels = unpack_bits(values_of(tensors[name]), 2, tuple(shape))
        tensors[name].CopyFrom(numpy_helper.from_array(levels, name))
    for name in four:
        tensors[name].CopyFrom(numpy_helper.from_array(_int8(tensors[name]), name))
    serialized: bytes = model.SerializeToString()
    return serialized


def _low_bit_tensors(model: ModelProto, bits: Mapping[str, int]) -> dict[str, int]:
    """Return the bits of the integer initializers that were made of these weights."""
    names = initializers(model.graph)
    found = {}
    for node in model.graph.node:
        if node.op_type == DEQUANTIZE and node.input[0] in names:
            width = bits.get(node.input[0].removesuffix("_quantized"))
            if width is not None and width < 8:
                found[node.input[0]] = width
    return found


def _retype(model: ModelProto, name: str, kind: int) -> None:
    """Store a weight and its zero points, which must be of the same type, with fewer bits."""
    from onnx import helper

    tensors = initializers(model.graph)
    together = {name}
    for node in model.graph.node:
        if node.op_type == DEQUANTIZE and node.input[0] == name and len(node.input) > 2:
            together.add(node.input[2])
    for each in together:
        values = _int8(tensors[each])
        nibbles = np.pad(values.reshape(-1).view(np.uint8) & 0xF, (0, values.size % 2))
        packed = (nibbles[::2] | (nibbles[1::2] << 4)).tobytes()  # two's complement, the first in the lower half
        tensors[each].CopyFrom(helper.make_tensor(each, kind, list(values.shape), packed, raw=True))


def _int8(tensor: TensorProto) -> np.ndarray[tuple[int, ...], np.dtype[np.int8]]:
    return values_of(tensor).astype(np.int8)
