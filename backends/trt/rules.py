"""TensorRT's rules for explicitly quantized (Q/DQ) models: one rule, one function, one source.

The sources are pages of NVIDIA's documentation below https://docs.nvidia.com/deeplearning/tensorrt/latest/ and of the
parser's list of operators; each rule names its own. Where a rule quotes the placement recommendations, TensorRT builds
the file all the same and is slower or less accurate; the others it refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fqbench.errors import DataError, InputError
from fqbench.onnx_graph import attribute
from fqbench.quant.qdq_graph import DEQUANTIZE, QUANTIZE, WEIGHTED, QdqGraph

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

INT8, INT4 = 3, 22  # onnx.TensorProto
FLOAT8 = frozenset({17, 18, 19, 20})
ACTIVATIONS = frozenset({"Relu", "Clip", "LeakyRelu", "BatchNormalization"})
FLOAT_ONLY = frozenset({"Softmax", "Sigmoid", "Erf", "Gelu", "Tanh", "HardSigmoid", "HardSwish"})


@dataclass(frozen=True)
class Violation:
    """One place where a file breaks a rule."""

    rule: str
    node: str
    problem: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.node}: {self.problem}"


Found = Iterator[tuple["NodeProto", str]]
Rule = Callable[[QdqGraph], Found]


def standard_operators(graph: QdqGraph) -> Found:
    """Q and DQ are ONNX's own operators: the parser knows none of the ``com.microsoft`` domain.

    Source: onnx-tensorrt ``docs/operators.md`` (rows QuantizeLinear, DequantizeLinear).
    """
    for node in graph.nodes(QUANTIZE, DEQUANTIZE):
        if node.domain not in {"", "ai.onnx"}:
            yield node, f"is of the domain {node.domain!r}, which TensorRT's parser does not know"


def zero_point_is_zero(graph: QdqGraph) -> Found:
    """Quantization is symmetric: a zero point is absent, or a constant of zeros.

    Source: C++ API reference, IQuantizeLayer ("only symmetric quantization is supported").
    """
    for node in graph.nodes(QUANTIZE, DEQUANTIZE):
        if len(node.input) < 3 or not node.input[2]:
            continue
        value = graph.value(node.input[2])
        if value is None:
            yield node, "its zero point is not a constant"
        elif np.any(np.asarray(value).astype(np.float64) != 0):
            yield node, "its zero point is not 0"


def signed_integers(graph: QdqGraph) -> Found:
    """Quantized values are INT8 (or INT4, or 8-bit floats): UINT8, 16- and 32-bit integers are refused.

    Source: onnx-tensorrt ``docs/operators.md`` (DequantizeLinear); page "Working with Quantized Types".
    An absent zero point means UINT8 in ONNX, and INT8 to TensorRT's parser: written out, both read the same.
    """
    for node in graph.nodes(QUANTIZE, DEQUANTIZE):
        kind = _integer_type(graph, node)
        if kind is None:
            yield node, "has no zero point, so ONNX calls it UINT8 and TensorRT INT8; write a zero point of INT8"
        elif kind not in {INT8, INT4} | FLOAT8:
            yield node, f"its integers are {_type_name(kind)}"


def scales_are_positive_constants(graph: QdqGraph) -> Found:
    """Every scale is a build-time constant above zero.

    Source: C++ API reference, IQuantizeLayer ("All scale coefficients must have strictly positive values").
    """
    for node in graph.nodes(QUANTIZE, DEQUANTIZE):
        scale = graph.value(node.input[1])
        if scale is None:
            yield node, "its scale is not a constant"
        elif not (np.isfinite(scale.astype(np.float64)).all() and (scale.astype(np.float64) > 0).all()):
            yield node, "its scale is not positive"


def pairs_agree(graph: QdqGraph) -> Found:
    """What a Q writes only DQ nodes read, with the same scale; what a DQ reads is a Q's or a stored constant.

    Source: "Explicit Quantization" (Q/DQ pairs; pre-quantized weights need a DQ before the operator).
    """
    for node in graph.nodes(QUANTIZE):
        for reader in graph.consumers.get(node.output[0], ()):
            if reader.op_type != DEQUANTIZE:
                yield node, f"its integers go into {reader.op_type} without a DequantizeLinear"
            elif not _same_scale(graph, node, reader):
                yield node, "the DequantizeLinear after it has another scale"
        if node.output[0] in graph.outputs:
            yield node, "its integers leave the graph"
    for node in graph.nodes(DEQUANTIZE):
        if graph.quantizer_of(node) is None and not graph.is_constant(node.input[0]):
            yield node, "it reads neither a QuantizeLinear nor a stored constant"


def activations_are_per_tensor(graph: QdqGraph) -> Found:
    """An activation has one scale.

    Source: "Explicit Quantization", Q/DQ placement recommendations (per tensor for activations).
    """
    for node in graph.nodes(QUANTIZE, DEQUANTIZE):
        scale = graph.value(node.input[1])
        if scale is not None and scale.size != 1 and not graph.is_weight(node):
            yield node, f"an activation has {scale.size} scales"


def weights_are_per_channel(graph: QdqGraph) -> Found:
    """A convolution weight has one scale per output channel; a matrix one per column, one per block, or a single one.

    Source: "Explicit Quantization", Q/DQ placement recommendations (per channel for weights); IQuantizeLayer (the
    scale is as long as the axis). NVIDIA's own quantizer keeps one scale for a matrix, so that is not a violation.
    """
    for operator, node in _weights(graph):
        scale, shape = graph.value(node.input[1]), _stored_shape(graph, node)
        if scale is None or shape is None:
            continue
        if scale.size == 1:
            if operator.op_type in {"Conv", "ConvTranspose"} and shape[_channel_axis(operator)] > 1:
                yield node, f"the weight of {operator.op_type} {_name(operator)} has one scale for all channels"
        elif scale.ndim == 1:
            axis = attribute(node, "axis", 1) % len(shape)
            if axis != _channel_axis(operator) % len(shape) or shape[axis] != scale.size:
                yield node, f"the scales of {operator.op_type} {_name(operator)} do not run along its output channels"


def biases_are_float(graph: QdqGraph) -> Found:
    """A bias is added in float: it is not the output of a DequantizeLinear.

    Source: onnx-tensorrt ``docs/operators.md`` (DequantizeLinear takes no INT32, which a quantized bias is).
    """
    for node in graph.nodes("Conv", "ConvTranspose", "Gemm"):
        if len(node.input) > 2 and graph.dequantized_from(node.input[2]) is not None:
            yield node, "its bias is quantized"


def inputs_are_quantized_together(graph: QdqGraph) -> Found:
    """A weighted operator runs in integers only where both its inputs are quantized; INT4 is for weights alone.

    Source: "Explicit Quantization", Q/DQ placement recommendations (quantize all inputs of weighted operations);
    "Working with Quantized Types" (INT4 is weight-only).
    """
    for node in graph.nodes(*WEIGHTED):
        pairs = [graph.dequantized_from(name) for name in node.input[:2]]
        kinds = [None if pair is None else _integer_type(graph, pair) for pair in pairs]
        if INT4 in kinds:
            activation = pairs[1 - kinds.index(INT4)]
            if activation is not None and not graph.is_weight(activation):
                yield node, "its weight is INT4, which is weight-only, and its activation is quantized, too"
        elif (pairs[0] is None) != (pairs[1] is None):
            yield node, "one of its inputs is quantized and the other is not"


def int4_is_for_weights_of_matrices(graph: QdqGraph) -> Found:
    """INT4 belongs to constants that a matrix product reads, in blocks along one of the last two axes.

    Source: "Working with Quantized Types" (INT4 is weight-only); IDequantizeLayer (block dequantization: INT4, the last
    or second to last dimension, without remainder).
    """
    for node in graph.nodes(QUANTIZE, DEQUANTIZE):
        if _integer_type(graph, node) != INT4:
            continue
        if not graph.is_weight(node):
            yield node, "an activation is INT4"
            continue
        block, shape = attribute(node, "block_size", 0), _stored_shape(graph, node)
        if block and shape is not None:
            axis = attribute(node, "axis", 1) % len(shape)
            if axis < len(shape) - 2 or shape[axis] % block:
                yield node, f"blocks of {block} do not divide axis {axis} of {list(shape)}"
    for operator, node in _weights(graph):
        if _integer_type(graph, node) == INT4 and operator.op_type in {"Conv", "ConvTranspose"}:
            yield node, f"the weight of {operator.op_type} {_name(operator)} is INT4"


def activation_functions_stay_fused(graph: QdqGraph) -> Found:
    """No Q/DQ stands between a weighted operator and its activation, nor on an output that nothing integer reads.

    Source: "Explicit Quantization", Q/DQ placement recommendations (do not quantize outputs of weighted operations by
    default; TensorRT fuses BatchNormalization and ReLU by itself).
    """
    for node in graph.nodes(QUANTIZE):
        operator = graph.producers.get(node.input[0])
        if operator is None or operator.op_type not in WEIGHTED:
            continue
        for pair in graph.consumers.get(node.output[0], ()):
            readers = graph.consumers.get(pair.output[0], []) if pair.output else []
            between = sorted({reader.op_type for reader in readers} & (ACTIVATIONS | FLOAT_ONLY))
            if between:
                yield node, f"it stands between {operator.op_type} {_name(operator)} and {', '.join(between)}"
            if pair.output and pair.output[0] in graph.outputs:
                yield node, f"it quantizes the graph's output, which {operator.op_type} {_name(operator)} gives"


def residual_adds_keep_one_branch_float(graph: QdqGraph) -> Found:
    """At an Add, the branch that is fused with a convolution stays in float; only the other may be quantized.

    Source: "Explicit Quantization", Q/DQ placement recommendations (quantize the residual input in skip connections).
    NVIDIA's own quantizer keeps to it for convolutions, and not for matrix products.
    """
    for node in graph.nodes("Add"):
        if any(graph.is_constant(name) for name in node.input):
            continue
        quantized = [_is_pair(graph, name) for name in node.input]
        fused = [graph.convolution_before(name) for name in node.input]
        for position, own in enumerate(quantized):
            before, other = fused[position], fused[1 - position]
            if own and before is not None and (other is None or quantized[1 - position]):
                branch = f"{before.op_type} {_name(before)}"
                yield node, f"its input {position} is quantized, and is fused with {branch}: quantize the other branch"
                break


RULES: tuple[Rule, ...] = (
    standard_operators,
    zero_point_is_zero,
    signed_integers,
    scales_are_positive_constants,
    pairs_agree,
    activations_are_per_tensor,
    weights_are_per_channel,
    biases_are_float,
    inputs_are_quantized_together,
    int4_is_for_weights_of_matrices,
    activation_functions_stay_fused,
    residual_adds_keep_one_branch_float,
)


def violations(graph: GraphProto) -> list[Violation]:
    """Return every place of a graph that breaks a rule, rule by rule."""
    looked_at = QdqGraph(graph)
    return [Violation(rule.__name__, _name(node), problem) for rule in RULES for node, problem in rule(looked_at)]


def require_rules(path: Path) -> int:
    """Check a file against all rules.

    Parameters
    ----------
    path : Path
        An ONNX file.

    Returns
    -------
    int
        How many rules were checked.

    Raises
    ------
    InputError
        The file cannot be read.
    DataError
        It breaks a rule; the message names the first place of it.
    """
    import onnx

    try:
        model = onnx.load(path)
    except OSError as error:
        raise InputError(f"the model {path} cannot be read ({error.strerror or error}); check its path.") from error
    found = violations(model.graph)
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise DataError(
            f"{path.name} breaks TensorRT's rules for quantized models: {found[0]}{more}; quantize with --backend trt."
        )
    return len(RULES)


def _name(node: NodeProto) -> str:
    return node.name or (node.output[0] if node.output else node.op_type)


def _integer_type(graph: QdqGraph, node: NodeProto) -> int | None:
    if len(node.input) > 2 and node.input[2]:
        return graph.element_type(node.input[2])
    if node.op_type == DEQUANTIZE:
        quantizer = graph.quantizer_of(node)
        return graph.element_type(node.input[0]) if quantizer is None else _integer_type(graph, quantizer)
    return attribute(node, "output_dtype", 0) or None


def _type_name(kind: int) -> str:
    from onnx import TensorProto

    return str(TensorProto.DataType.Name(kind))


def _same_scale(graph: QdqGraph, quantizer: NodeProto, dequantizer: NodeProto) -> bool:
    if quantizer.input[1] == dequantizer.input[1]:
        return True
    one, other = graph.value(quantizer.input[1]), graph.value(dequantizer.input[1])
    return one is not None and other is not None and np.array_equal(one, other)


def _weights(graph: QdqGraph) -> Iterator[tuple[NodeProto, NodeProto]]:
    """Yield each weighted operator with the DQ node of its constant weight."""
    for operator in graph.nodes(*WEIGHTED):
        node = graph.producers.get(operator.input[1])
        if node is not None and node.op_type == DEQUANTIZE and graph.is_weight(node):
            yield operator, node


def _stored_shape(graph: QdqGraph, node: NodeProto) -> tuple[int, ...] | None:
    value = graph.value((graph.quantizer_of(node) or node).input[0])
    return None if value is None else tuple(value.shape)


def _channel_axis(operator: NodeProto) -> int:
    if operator.op_type == "Conv":
        return 0
    if operator.op_type == "Gemm":
        return 0 if attribute(operator, "transB", 0) else 1
    return 1 if operator.op_type == "ConvTranspose" else -1


def _is_pair(graph: QdqGraph, name: str) -> bool:
    node = graph.producers.get(name)
    return node is not None and node.op_type == DEQUANTIZE
