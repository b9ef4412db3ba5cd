"""Where Q/DQ nodes go in a TensorRT model; the nodes themselves are written by onnxruntime's ``QDQQuantizer``.

NVIDIA's own quantizer is the reference (``modelopt.onnx.quantization``); ``benchmarks/trt_placement.py`` compares the
two tensor by tensor. Quantized are the inputs of convolutions and of matrix products with constant weights, and at a
residual Add the one branch that is not fused with a convolution, and both inputs of a squeeze-and-excitation's Mul.
Left in float are the last classifier (at batch 1 a matrix times a vector, which no Tensor Core takes), products of two
activations, and every bias.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fqbench.quant.qdq import Dialect, write_qdq
from fqbench.quant.qdq_graph import QdqGraph, residual_branch

from .rules import require_rules

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

    from fqbench.contracts.plan import QuantizationPlan

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


def place(graph: GraphProto, floats: Collection[str] = ()) -> Placement:
    """Choose what to quantize in a cleaned FP32 graph whose nodes are named; ``floats`` are left as they are."""
    looked_at = QdqGraph(graph)
    shapes = {value.name: value.type.tensor_type.shape for value in [*graph.value_info, *graph.input, *graph.output]}
    operators, left_out = [], {}
    for node in looked_at.nodes(*SIDES):
        reason = "the recipe leaves it in float" if node.name in floats else _why_not(looked_at, node, shapes)
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
    sigmoid is of the map itself, is an activation and stays next to its convolution.
    """
    if any(graph.is_constant(name) for name in node.input):
        return False
    for sigmoid, other in (node.input, reversed(node.input)):
        producer = graph.producers.get(sigmoid)
        if producer is not None and producer.op_type in SIGMOIDS:
            return bool(producer.input[0] != other)
    return False


def write_placed(plan: QuantizationPlan, out: Path) -> Placement:
    """Write the Q/DQ model of a plan, with the nodes where TensorRT wants them.

    Raises
    ------
    DataError
        A range is missing, or the result breaks one of TensorRT's rules.
    """
    import onnx

    placement = place(plan.model.graph, plan.float_nodes)
    dialect = Dialect(
        op_types=tuple(SIDES),
        signed=True,
        nodes=placement.operators,
        tensors=(*placement.residuals, *placement.gates),
        options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "QDQDisableWeightAdjustForInt32Bias": True,
            "OpTypesToExcludeOutputQuantization": sorted({node.op_type for node in plan.model.graph.node}),
            "ForceQuantizeNoInputCheck": True,
        },
    )
    onnx.save(write_qdq(plan, dialect), out)
    require_rules(out)
    return placement


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
