"""Where Q/DQ nodes go in an OpenVINO model; onnxruntime's ``QDQQuantizer`` writes them.

OpenVINO's low-precision transformations carry a dequantization through the operators that follow, and fuse bias,
activation and residual Add into the convolution before them. A Q/DQ pair after every operator is in their way, so only
the inputs of the operators that multiply are quantized, and both branches of each residual Add: with one of them in
float, a factor stands between convolution and Add, and the Add is a pass of its own over floats. Behind a Concat or
MaxPool pairs are moved up to the operators that compute (`lifting`). The product of attention's softmax and its values
stays in float, as in NNCF (``MULTIHEAD_ATTENTION_OUTPUT`` of its ignored patterns); every bias is float, because it is
added to the dequantized sum. Where both factors are activations, as attention's queries and keys, the transformations
take neither with a zero point, so their levels lie symmetrically about zero; so do those of ranges that nearly do
anyway, since a zero point costs the convolution that reads it a correction.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fqbench.contracts.qparams import QParams
from fqbench.onnx_graph import origin, producers
from fqbench.quant.qdq import Dialect, write_qdq
from fqbench.quant.qdq_graph import TRANSPARENT, QdqGraph, activation_products, residual_branch

from .hard_swish import restore_hard_swish
from .lifting import lift

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

    from fqbench.contracts.plan import QuantizationPlan

OPERATORS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# The shorter side of a range over the longer one, from which on its levels are symmetric: steps grow by 14 % at most.
NEARLY_SYMMETRIC = 0.75


def write_placed(plan: QuantizationPlan) -> ModelProto:
    """Return the plan's graph with Q/DQ nodes where OpenVINO wants them.

    Raises
    ------
    DataError
        A range is missing.
    """
    plan, symmetric = with_symmetric_levels(plan)
    graph = plan.model.graph
    dialect = Dialect(
        op_types=OPERATORS,
        nodes=operators(graph),
        tensors=residuals(plan),
        signed_tensors=symmetric,
        options={
            "QuantizeBias": False,
            "QDQDisableWeightAdjustForInt32Bias": True,
            "OpTypesToExcludeOutputQuantization": sorted({node.op_type for node in graph.node}),
            "ForceQuantizeNoInputCheck": True,
        },
    )
    model = write_qdq(plan, dialect)
    lift(model.graph)
    restore_hard_swish(model)
    return model


def operators(graph: GraphProto) -> tuple[str, ...]:
    """Name the operators whose inputs are quantized, in the order of the graph."""
    made_by = producers(graph)

    def is_softmax(name: str) -> bool:
        node = made_by.get(origin(name, made_by, TRANSPARENT))
        return node is not None and node.op_type == "Softmax"

    return tuple(
        node.name
        for node in graph.node
        if node.op_type in OPERATORS and not (node.op_type == "MatMul" and any(map(is_softmax, node.input)))
    )


def with_symmetric_levels(plan: QuantizationPlan) -> tuple[QuantizationPlan, frozenset[str]]:
    """Return a plan with signed levels, zero in the middle, where OpenVINO is faster with them, and those tensors.

    They are the factors of products of two activations, and the tensors whose range is nearly symmetric. A first factor
    without negative levels keeps them, since its zero point is 0 already. What was learned in training is not changed:
    a product of two activations stays in float unless it was trained with signed ones.
    """
    if plan.calibration is None:
        return plan, frozenset()
    factors = _factors(plan)
    found = {
        name: QParams.of(one.low, one.high, one.bits, symmetric=True)
        for name, one in plan.activations.items()
        if name in factors or min(-one.low, one.high) >= NEARLY_SYMMETRIC * max(-one.low, one.high)
    }
    return replace(plan, activations={**plan.activations, **found}), frozenset(found)


def _factors(plan: QuantizationPlan) -> set[str]:
    """Name the factors of quantized products of two activations, but for first ones whose zero point is 0."""
    chosen = set(operators(plan.model.graph)) - plan.float_nodes
    found = set[str]()
    for node in activation_products(QdqGraph(plan.model.graph)):
        if node.name in chosen and all(name in plan.activations for name in node.input):
            first, second = node.input
            found |= {first, second} if plan.activations[first].zero_point else {second}
    return found


def residuals(plan: QuantizationPlan) -> tuple[str, ...]:
    """Name the branches of residual Adds that no operator reads quantized, where the plan has a range for them."""
    graph = QdqGraph(plan.model.graph)
    chosen = set(operators(plan.model.graph)) - plan.float_nodes
    read = {name for node in plan.model.graph.node if node.name in chosen for name in node.input}
    adds = [node for node in graph.nodes("Add") if node.name not in plan.float_nodes and residual_branch(graph, node)]
    branches = dict.fromkeys(name for node in adds for name in node.input)
    return tuple(name for name in branches if name in plan.activations and name not in read)
