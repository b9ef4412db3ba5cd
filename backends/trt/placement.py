"""Where Q/DQ nodes go in a TensorRT model; the nodes themselves are written by onnxruntime's ``QDQQuantizer``.

NVIDIA's own quantizer is the reference (``modelopt.onnx.quantization``); ``benchmarks/trt_placement.py`` compares the
two tensor by tensor. Quantized are the inputs of convolutions and of matrix products with constant weights, and at a
residual Add the one branch that is not fused with a convolution, and both inputs of a squeeze-and-excitation's Mul.
Left in float are the last classifier (at batch 1 a matrix times a vector, which no Tensor Core takes), products of two
activations, and every bias.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.errors import DataError
from fqbench.quant.graph import quiet_quantizer

from .qdq_graph import QdqGraph
from .rules import require_rules

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto, NodeProto

    WeightScales = tuple[int, NDArray[np.float32]]  # the axis of the output channels, and the scale of each

INT8_MAX = 127
SIGMOIDS = frozenset({"Sigmoid", "HardSigmoid"})
SIDES = {"Conv": (0,), "ConvTranspose": (0,), "Gemm": (0,), "MatMul": (0, 1)}


@dataclass(frozen=True)
class Placement:
    """What is quantized.

    Attributes
    ----------
    operators : tuple of str
        Names of the weighted nodes that run in integers.
    residuals, gates : tuple of str
        Tensors quantized for a residual Add alone, and for the Mul of a squeeze-and-excitation.
    left_out : dict
        Weighted nodes that stay in float, and why.
    """

    operators: tuple[str, ...]
    residuals: tuple[str, ...]
    gates: tuple[str, ...]
    left_out: dict[str, str]


def scale_of(low: float, high: float) -> np.float32:
    """Return the scale of a symmetric INT8 range as onnxruntime writes it: the larger end over 127; 1 where it is 0."""
    largest = np.float64(max(abs(np.float32(low)), abs(np.float32(high))))
    scale = largest / INT8_MAX
    return np.float32(scale if scale >= np.finfo(np.float32).tiny else 1.0)


def place(graph: GraphProto) -> Placement:
    """Choose what to quantize in a cleaned FP32 graph whose nodes are named."""
    looked_at = QdqGraph(graph)
    shapes = {value.name: value.type.tensor_type.shape for value in [*graph.value_info, *graph.input, *graph.output]}
    operators, left_out = [], {}
    for node in looked_at.nodes(*SIDES):
        reason = _why_not(looked_at, node, shapes)
        if reason:
            left_out[node.name] = reason
        else:
            operators.append(node.name)
    residuals = [name for node in looked_at.nodes("Add") if (name := residual_branch(looked_at, node)) is not None]
    gates = [name for node in looked_at.nodes("Mul") if is_gate(looked_at, node) for name in node.input]
    chosen = set(operators)
    read = {name for node in graph.node if node.name in chosen for name in node.input}
    own, gated = ([name for name in dict.fromkeys(names) if name not in read] for names in (residuals, gates))
    return Placement(tuple(operators), tuple(own), tuple(gated), left_out)


def is_gate(graph: QdqGraph, node: NodeProto) -> bool:
    """Whether a Mul scales a map by a sigmoid of something else, as squeeze-and-excitation does.

    Its inputs are quantized, so that the map goes from one convolution to the next in 8 bits. The Mul of a SiLU, whose
    sigmoid is of the map itself, is an activation and stays beside its convolution.
    """
    if any(graph.is_constant(name) for name in node.input):
        return False
    for sigmoid, other in (node.input, reversed(node.input)):
        producer = graph.producers.get(sigmoid)
        if producer is not None and producer.op_type in SIGMOIDS:
            return bool(producer.input[0] != other)
    return False


def residual_branch(graph: QdqGraph, node: NodeProto) -> str | None:
    """Return the input of an Add that is to be quantized; None where the Add is none of a residual connection.

    One branch is fused with the convolution that it is the only result of. Where both are such, the longer one is
    fused: it ends later, and the shorter one, a convolution of the shortcut, is what has to be kept until then.
    """
    if len(node.input) != 2 or any(graph.is_constant(name) or name not in graph.producers for name in node.input):
        return None
    convolutions = [graph.convolution_before(name) is not None for name in node.input]
    if not any(convolutions):
        return None
    if all(convolutions):
        lengths = [_weighted_upstream(graph, name) for name in node.input]
        return str(node.input[0] if lengths[0] < lengths[1] else node.input[1])
    return str(node.input[1] if convolutions[0] else node.input[0])


def write_qdq(
    model: ModelProto,
    ranges: Mapping[str, tuple[float, float]],
    out: Path,
    *,
    weights: Mapping[str, WeightScales] | None = None,
    fixed: Mapping[str, float] | None = None,
) -> Placement:
    """Write the Q/DQ model.

    Parameters
    ----------
    model : ModelProto
        FP32, with constants and BatchNormalization folded, shapes inferred and all nodes named; it is used up.
    ranges : mapping
        Range of every activation by name.
    out : Path
        Where to write; the same inputs give the same bytes.
    weights : mapping, optional
        Scales of weights by name of their initializer; others get that of their largest magnitude.
    fixed : mapping, optional
        Scales of activations by name, in place of those that their ranges give.

    Raises
    ------
    DataError
        A range is missing, or the result breaks one of TensorRT's rules.
    """
    import onnx

    placement = place(model.graph)
    with quiet_quantizer():  # it warns of steps that were taken before
        quantizer = _quantizer(model, placement.operators, ranges, weights or {}, fixed or {})
        for name in (*placement.residuals, *placement.gates):
            quantizer.quantize_activation_tensor(name)
        try:
            quantized = quantizer.quantize_model()
        except ValueError as error:
            raise DataError(f"onnxruntime cannot quantize this model ({error}); observe it again.") from error
    onnx.save(quantized, out)
    require_rules(out)
    return placement


def _quantizer(
    model: ModelProto,
    operators: Sequence[str],
    ranges: Mapping[str, tuple[float, float]],
    weights: Mapping[str, WeightScales],
    fixed: Mapping[str, float],
) -> Any:
    """Return onnxruntime's quantizer with the options that TensorRT asks for."""
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    known = {name: TensorData(lowest=_single(low), highest=_single(high)) for name, (low, high) in ranges.items()}
    return QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, known),
        nodes_to_quantize=list(operators),
        nodes_to_exclude=[],
        op_types_to_quantize=list(SIDES),
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "QDQDisableWeightAdjustForInt32Bias": True,
            "OpTypesToExcludeOutputQuantization": sorted({node.op_type for node in model.graph.node}),
            "ForceQuantizeNoInputCheck": True,
            "TensorQuantOverrides": {name: _fixed(given) for name, given in weights.items()}
            | {name: [_int8(scale)] for name, scale in fixed.items()},
        },
    )


def _fixed(given: WeightScales) -> list[dict[str, Any]]:
    """Tell the quantizer the scale of each channel of a weight."""
    axis, scales = given
    channels = [_int8(float(value)) for value in scales]
    channels[0]["axis"] = axis
    return channels


def _int8(scale: float) -> dict[str, Any]:
    from onnxruntime.quantization import QuantType

    return {"quant_type": QuantType.QInt8, "scale": np.array(scale, np.float32), "zero_point": np.array(0, np.int8)}


def _single(value: float) -> NDArray[np.float32]:
    return np.array(value, dtype=np.float32)


def _why_not(graph: QdqGraph, node: NodeProto, shapes: Mapping[str, Any]) -> str:
    constant = [graph.is_constant(name) for name in node.input[:2]]
    if node.op_type == "MatMul" and not any(constant):
        return "a product of two activations"
    if node.op_type != "MatMul" and not constant[1]:
        return "its weight is not constant"
    if node.op_type in {"Conv", "ConvTranspose"}:
        return ""
    activation = node.input[constant.index(False)] if not all(constant) else node.input[0]
    dims: Any = shapes[activation].dim if activation in shapes else ()
    batch = graph.graph.input[0].type.tensor_type.shape.dim[0]
    if len(dims) == 2 and (dims[0].dim_param, dims[0].dim_value) == (batch.dim_param, batch.dim_value):
        return "at batch 1 it multiplies a vector"
    return ""


def _weighted_upstream(graph: QdqGraph, name: str, seen: dict[str, int] | None = None) -> int:
    """Most weighted operators on a way from the graph's input to a tensor."""
    depths = {} if seen is None else seen
    stack = [name]
    while stack:
        current = stack[-1]
        node = graph.producers.get(current)
        pending = [] if node is None else [given for given in node.input if given and given not in depths]
        if pending:
            stack.extend(pending)
            continue
        own = 0 if node is None else int(node.op_type in SIDES)
        before = [] if node is None else [depths[given] for given in node.input if given]
        depths[current] = own + max(before, default=0)
        stack.pop()
    return depths[name]
