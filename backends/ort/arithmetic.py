"""Where ONNX Runtime runs multiply-accumulates, read from its own optimised graph and one profiled run."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fqbench.onnx_graph import attribute, initializers
from fqbench.plugins import Arithmetic

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

CPU = "CPUExecutionProvider"
# It quantizes float weights between quantized tensors by a scale of its own, so that recipes could keep none in float.
DISABLED = ["WeightBiasQuantization"]
FLOAT_CONV = frozenset({"Conv", "FusedConv", "NhwcFusedConv", "ConvTranspose"})
INTEGER_CONV = frozenset({"QLinearConv", "ConvInteger"})
FLOAT_MATMUL = frozenset({"MatMul", "FusedMatMul", "Gemm", "FusedGemm"})
INTEGER_MATMUL = frozenset(
    {"QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QGemm", "MatMulInteger16"}
)
NBITS_MATMUL = frozenset({"MatMulNBits"})
# They multiply too, but their cost is not a product of the shapes seen outside; never passed over in silence.
OPAQUE = frozenset(
    {
        "Attention",
        "QAttention",
        "MultiHeadAttention",
        "GroupQueryAttention",
        "PackedAttention",
        "Einsum",
        "LSTM",
        "GRU",
        "RNN",
    }
)
HALF = frozenset({"float16", "bfloat16"})
INTEGER_ACCURACY_LEVEL = 4  # MatMulNBits quantizes its activations to 8 bits and multiplies integers at this level


class Profiled(NamedTuple):
    """One kernel as profiled: shapes of its first input and output, type of that input, and its execution provider."""

    first: list[int]
    output: list[int]
    kind: str = "float"
    provider: str = CPU


def measure_arithmetic(model: Path | bytes, provider: str, input_shape: tuple[int, ...]) -> Arithmetic:
    """Run one image of zeros with ONNX Runtime's profiler and count multiply-accumulates by kernel.

    Parameters
    ----------
    model : Path or bytes
        ONNX model with one input (N, 3, H, W).
    provider : str
        Execution provider that the model is measured for.
    input_shape : tuple of int
        Channels, height and width of one image.

    Returns
    -------
    Arithmetic
        Of one image. A float Conv in ONNX Runtime's blocked layout is counted as it runs, padding of channels included.
    """
    import onnx
    import onnxruntime as ort

    with tempfile.TemporaryDirectory(prefix="fqbench-arithmetic-") as scratch:
        options = ort.SessionOptions()
        options.log_severity_level = (
            4  # it warns that a graph optimised for this CPU belongs to this CPU: it is not kept
        )
        options.optimized_model_filepath = str(Path(scratch) / "optimized.onnx")
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(scratch) / "profile")
        providers = list(dict.fromkeys((provider, CPU)))
        session = ort.InferenceSession(model, options, providers=providers, disabled_optimizers=DISABLED)
        session.run(None, {session.get_inputs()[0].name: np.zeros((1, *input_shape), dtype=np.float32)})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        graph = onnx.load(Path(scratch) / "optimized.onnx", load_external_data=False).graph
    return count_macs(graph, _profiled(events), provider)


def count_macs(graph: GraphProto, profiled: Mapping[str, Profiled], provider: str = CPU) -> Arithmetic:
    """Count multiply-accumulates of an optimised graph.

    Parameters
    ----------
    graph : GraphProto
        The graph as the runtime executes it.
    profiled : mapping
        Kernels by the name of their node.
    provider : str
        Where they should run; what another provider runs is counted as fallen back.
    """
    weights = {name: list(tensor.dims) for name, tensor in initializers(graph).items()}
    integer, half, fallback, total, uncounted = 0, 0, 0, 0, set()
    for node in graph.node:
        if node.op_type in OPAQUE:
            uncounted.add(node.op_type)
            continue
        if node.op_type not in FLOAT_CONV | INTEGER_CONV | FLOAT_MATMUL | INTEGER_MATMUL | NBITS_MATMUL:
            continue
        macs = _macs(node, weights, profiled)
        if macs is None:
            uncounted.add(node.op_type)
            continue
        total += macs
        integer += macs if _runs_in_integers(node) else 0
        half += macs if profiled[node.name].kind in HALF else 0
        fallback += macs if profiled[node.name].provider != provider else 0
    return Arithmetic(integer, total, tuple(sorted(uncounted)), half, fallback)


def _runs_in_integers(node: NodeProto) -> bool:
    if node.op_type in NBITS_MATMUL:
        return int(attribute(node, "accuracy_level", 0)) == INTEGER_ACCURACY_LEVEL
    return node.op_type in INTEGER_CONV | INTEGER_MATMUL


def _macs(node: NodeProto, weights: Mapping[str, list[int]], profiled: Mapping[str, Profiled]) -> int | None:
    if node.name not in profiled:
        return None
    first, output = profiled[node.name][:2]
    weight = next((weights[name] for name in _weight_inputs(node) if name in weights), None)
    if node.op_type == "ConvTranspose":
        return None if weight is None else math.prod(first) * math.prod(weight[1:])
    if node.op_type in FLOAT_CONV | INTEGER_CONV:
        return None if weight is None else math.prod(output) * math.prod(weight[1:])
    if node.op_type in NBITS_MATMUL:
        return math.prod(output) * int(attribute(node, "K", 0))
    inner = math.prod(weight) // output[-1] if weight is not None and len(weight) == 2 else first[-1]
    return math.prod(output) * inner


def _weight_inputs(node: NodeProto) -> list[str]:
    """Return the inputs that can hold the weight: the fourth of the operators that take scales, else the second."""
    position = 3 if node.op_type in {"QLinearConv", "QLinearMatMul", "QGemm"} else 1
    return list(node.input[position : position + 1])


def _profiled(events: list[dict[str, Any]]) -> dict[str, Profiled]:
    found = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            inputs, outputs = event["args"]["input_type_shape"], event["args"]["output_type_shape"]
            if inputs and outputs:
                name = event["name"].removesuffix("_kernel_time")
                ((kind, first),) = inputs[0].items()
                found[name] = Profiled(first, next(iter(outputs[0].values())), kind, event["args"].get("provider", CPU))
    return found
