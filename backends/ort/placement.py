"""Where Q/DQ nodes go for ONNX Runtime: around every operator that its quantizer knows, attention excepted.

The products of queries with keys, and of softmax with values, have no constant factor that could be packed ahead, and
every Q/DQ pair around them is a pass over memory: with attention in float a ViT is faster (docs/decisions/0099).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fqbench.onnx_graph import origin
from fqbench.quant.qdq import Dialect, quantizable_types, write_qdq
from fqbench.quant.qdq_graph import TRANSPARENT, QdqGraph, activation_products

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

    from fqbench.contracts.plan import QuantizationPlan

FEEDING = frozenset({"Softmax", "Mul", "Div"})


def write_placed(plan: QuantizationPlan) -> ModelProto:
    """Return the plan's graph with Q/DQ nodes where ONNX Runtime wants them.

    Raises
    ------
    DataError
        onnxruntime cannot quantize this graph.
    """
    return write_qdq(plan, Dialect(quantizable_types(), floats=tuple(attention(plan.model.graph))))


def attention(graph: GraphProto) -> Iterator[str]:
    """Name the products of two activations, and what scales or normalizes their factors."""
    known = QdqGraph(graph)
    for node in activation_products(known):
        yield node.name
        for name in node.input:
            before = known.producers.get(origin(name, known.producers, TRANSPARENT))
            if before is not None and before.op_type in FEEDING:
                yield before.name
