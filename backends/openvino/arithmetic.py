"""Where OpenVINO runs multiply-accumulates, read from the graph that it executes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from fqbench.plugins import Arithmetic

INTEGER = frozenset({"i8", "u8"})
HALF = {"bf16": "bf16", "f16": "fp16"}  # OpenVINO's names, and ours
# They multiply too, but their cost is not a product of the shapes seen outside; never passed over in silence.
OPAQUE = frozenset(
    {"GRUSequence", "LSTMSequence", "MHA", "RNNCell", "RNNSeq", "ScaledDotProductAttention", "ScaledAttn", "LLMMLP"}
)
MULTIPLYING = ("MatMul", "Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData")


@dataclass(frozen=True)
class Executed:
    """One node of the executed graph.

    Attributes
    ----------
    kind, precision : str
        Type of the layer, and the type that it computes in.
    inputs : tuple of tuple of int
        Shapes of its inputs.
    output : tuple of int
        Shape of its first output.
    fused : tuple of str
        Names of the operators of the model that it executes.
    """

    kind: str
    precision: str
    inputs: tuple[tuple[int, ...], ...]
    output: tuple[int, ...]
    fused: tuple[str, ...] = ()


def measure_arithmetic(compiled: Any, model: Any, batch: int = 1) -> Arithmetic:
    """Count the multiply-accumulates of one image.

    Parameters
    ----------
    compiled : openvino.CompiledModel
        Compiled for ``batch`` images, so that all shapes are known.
    model : openvino.Model
        What it was compiled from.
    batch : int
        Images per run.
    """
    multiplying = {node.get_friendly_name() for node in model.get_ops() if node.get_type_name() in MULTIPLYING}
    counted = count_macs([_executed(node) for node in compiled.get_runtime_model().get_ordered_ops()], multiplying)
    integer, total, half = (count // batch for count in (counted.integer_macs, counted.total_macs, counted.half_macs))
    return Arithmetic(integer, total, counted.uncounted, half)


def count_macs(nodes: Sequence[Executed], multiplying: AbstractSet[str]) -> Arithmetic:
    """Count the multiply-accumulates of an executed graph.

    Parameters
    ----------
    nodes : sequence of Executed
        The graph.
    multiplying : set of str
        Names of the model's operators that multiply: a node of another type that executes one is named as uncounted.
    """
    integer, half, total, uncounted = 0, 0, 0, set()
    for node in nodes:
        macs = _macs(node)
        if macs is None:
            if node.kind in OPAQUE or not multiplying.isdisjoint(node.fused):
                uncounted.add(node.kind)
            continue
        total += macs
        integer += macs if node.precision in INTEGER else 0
        half += macs if node.precision in HALF else 0
    return Arithmetic(integer, total, tuple(sorted(uncounted)), half)


def float_precisions(compiled: Any) -> frozenset[str]:
    """Return the floating-point types that the multiplying layers of an executed graph compute in."""
    executed = map(_executed, compiled.get_runtime_model().get_ordered_ops())
    found = {node.precision for node in executed if _macs(node) is not None} - INTEGER
    return frozenset(HALF.get(name, {"f32": "fp32"}.get(name, name)) for name in found)


def _macs(node: Executed) -> int | None:
    if node.kind == "Convolution":
        return math.prod(node.output) * math.prod(node.inputs[1]) // node.output[1]
    if node.kind == "Deconvolution":
        return math.prod(node.inputs[0]) * math.prod(node.inputs[1]) // node.inputs[0][1]
    if node.kind == "FullyConnected":
        return math.prod(node.output) * math.prod(node.inputs[1]) // node.output[-1]
    if node.kind == "MatMul":
        first, rows = node.inputs[0], node.output[-2] if len(node.output) > 1 else 1
        inner = first[-1] if len(first) < 2 or first[-2] == rows else first[-2]
        return math.prod(node.output) * inner
    return None


def _executed(node: Any) -> Executed:
    facts = {key: str(getattr(value, "value", value)) for key, value in node.get_rt_info().items()}
    shapes = [tuple(one.get_shape()) for one in node.inputs()]
    return Executed(
        facts["layerType"],
        facts["runtimePrecision"],
        tuple(shapes),
        tuple(node.output(0).get_shape()) if node.get_output_size() else (),
        tuple(facts.get("originalLayersNames", "").split(",")),
    )
