"""The one writer of Q/DQ graphs: onnxruntime's ``QDQQuantizer``, told every scale and zero point of a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.errors import DataError
from fqbench.onnx_graph import initializers
from fqbench.quant.graph import quiet_quantizer

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto

    from fqbench.contracts.plan import QuantizationPlan, QuantizedWeight
    from fqbench.contracts.qparams import QParams

FLOAT = 1  # TensorProto.FLOAT
STORED_BITS = 8  # fewer bits are stored in 8, with the levels of fewer


@dataclass(frozen=True)
class Dialect:
    """The placement and types of a runtime's Q/DQ nodes.

    Attributes
    ----------
    op_types : tuple of str
        Operator types that carry them.
    signed : bool
        Whether activations are signed.
    nodes : tuple of str
        The only operators that carry them; empty for all of these types.
    tensors : tuple of str
        Further activations to quantize.
    floats : tuple of str
        Operators of these types that carry none.
    signed_tensors : frozenset of str
        Activations that are signed though others are not.
    options : mapping
        Options of ``QDQQuantizer``.
    """

    op_types: tuple[str, ...]
    signed: bool = False
    nodes: tuple[str, ...] = ()
    tensors: tuple[str, ...] = ()
    floats: tuple[str, ...] = ()
    signed_tensors: frozenset[str] = frozenset()
    options: Mapping[str, Any] = field(default_factory=dict)


def write_qdq(plan: QuantizationPlan, dialect: Dialect) -> ModelProto:
    """Return the plan's graph with Q/DQ nodes: weights as 8-bit integers, whatever their bits.

    Raises
    ------
    DataError
        onnxruntime cannot quantize this graph; the message has its reason.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    model = plan.copied_model()
    _put_weights(model, plan.weights)
    known = plan.activations.items()
    ranges = {name: TensorData(lowest=_single(one.low), highest=_single(one.high)) for name, one in known}
    floats = {*plan.float_nodes, *dialect.floats, *without_ranges(model, plan, dialect.op_types)}
    signed = {name: dialect.signed or name in dialect.signed_tensors for name in plan.activations}
    overrides = {name: [_activation(one, signed[name])] for name, one in plan.activations.items()}
    overrides |= {name: _channels(weight) for name, weight in plan.weights.items()}
    with quiet_quantizer():
        quantizer = QDQQuantizer(
            model,
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QInt8 if dialect.signed else QuantType.QUInt8,
            tensors_range=TensorsData(CalibrationMethod.MinMax, ranges),
            nodes_to_quantize=list(dialect.nodes),
            nodes_to_exclude=sorted(floats),
            op_types_to_quantize=list(dialect.op_types),
            extra_options={**dialect.options, "TensorQuantOverrides": overrides},
        )
        for name in dialect.tensors:
            quantizer.quantize_activation_tensor(name)
        try:
            quantized: ModelProto = quantizer.quantize_model()
        except ValueError as error:
            raise DataError(f"onnxruntime cannot quantize this model ({error}); observe it again.") from error
    _clip_low_bits(quantized, plan.activations)
    return quantized


def quantizable_types() -> tuple[str, ...]:
    """Return the types of all operators that onnxruntime's quantizer knows."""
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    return tuple(sorted({*QLinearOpsRegistry, *QDQRegistry}))


def without_ranges(model: ModelProto, plan: QuantizationPlan, op_types: Sequence[str]) -> list[str]:
    """Name the operators that touch an activation without a range, or a weight that the plan leaves in float."""
    constants = set(initializers(model.graph))
    values = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    floats = {value.name for value in values if value.type.tensor_type.elem_type == FLOAT} - constants
    weights = {layer.weight for layer in plan.layers if layer.weight} - set(plan.weights)
    return [
        node.name
        for node in model.graph.node
        if node.op_type in op_types
        and (
            any(name in floats and name not in plan.activations for name in (*node.input, *node.output))
            or weights & set(node.input)
        )
    ]


def _put_weights(model: ModelProto, weights: Mapping[str, QuantizedWeight]) -> None:
    """Replace weights by their integers times their scales, which round to exactly these integers."""
    from onnx import numpy_helper

    for tensor in model.graph.initializer:
        weight = weights.get(tensor.name)
        if weight is not None:
            shape = [1] * weight.levels.ndim
            shape[weight.axis] = -1
            values = weight.levels.astype(np.float32) * weight.scale.reshape(shape)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _activation(one: QParams, signed: bool) -> dict[str, Any]:
    from onnxruntime.quantization import QuantType

    kinds: dict[tuple[bool, bool], tuple[Any, np.dtype[Any]]] = {
        (True, False): (QuantType.QInt8, np.dtype(np.int8)),
        (True, True): (QuantType.QInt16, np.dtype(np.int16)),
        (False, False): (QuantType.QUInt8, np.dtype(np.uint8)),
        (False, True): (QuantType.QUInt16, np.dtype(np.uint16)),
    }
    kind, dtype = kinds[signed, one.bits > STORED_BITS]
    zero_point = one.zero_point - (2 ** (one.bits - 1) if signed else 0)
    return {"quant_type": kind, "scale": np.array(one.scale, np.float32), "zero_point": np.array(zero_point, dtype)}


def _channels(weight: QuantizedWeight) -> list[dict[str, Any]]:
    """Tell the quantizer the scale of each channel of a weight."""
    from onnxruntime.quantization import QuantType

    channels: list[dict[str, Any]] = [
        {"quant_type": QuantType.QInt8, "scale": np.float32(value), "zero_point": np.int8(0)} for value in weight.scale
    ]
    channels[0]["axis"] = weight.axis
    return channels


def _clip_low_bits(model: ModelProto, activations: Mapping[str, QParams]) -> None:
    """Clip activations of fewer than 8 bits to their levels, since the stored type has more."""
    from onnx import helper, numpy_helper

    low_bits = {name: one for name, one in activations.items() if one.bits < STORED_BITS}
    for node in [node for node in model.graph.node if node.op_type == "QuantizeLinear" and node.input[0] in low_bits]:
        name, one = node.input[0], low_bits[node.input[0]]
        ends = [f"{name}.lowest", f"{name}.highest"]
        if ends[0] not in initializers(model.graph):
            pair = zip((one.low, one.high), ends, strict=True)
            model.graph.initializer.extend([numpy_helper.from_array(_single(end), which) for end, which in pair])
        clipped = f"{node.name}.clipped"
        clip = helper.make_node("Clip", [name, *ends], [clipped], name=f"{node.name}.clip")
        model.graph.node.insert(list(model.graph.node).index(node), clip)
        node.input[0] = clipped


def _single(value: float) -> NDArray[np.float32]:
    return np.array(value, dtype=np.float32)
