"""Move Q/DQ pairs up through operators that only move or choose values, to where those values are computed.

Behind a convolution OpenVINO makes a quantization part of its kernel, which then writes 8 bits. Behind a Concat or a
MaxPool it is a pass of its own over floats that were written for nothing. Rounding to levels never changes an order, so
that a maximum of rounded values is the rounded maximum: moving changes no answer. It stops at a tensor with a second
reader, which would get rounded values, or have them rounded twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fqbench.onnx_graph import copied
from fqbench.quant.qdq_graph import DEQUANTIZE, QUANTIZE, TRANSPARENT, QdqGraph

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

MOVING = (TRANSPARENT - {"Cast"}) | {"Concat", "MaxPool"}


def lift(graph: GraphProto) -> int:
    """Move pairs as far up as they go, in place; return the number of moves."""
    moves = 0
    while True:
        known = QdqGraph(graph)
        found = next((node for node in known.nodes(QUANTIZE) if _may_move(known, node)), None)
        if found is None:
            return moves
        _move(graph, known, found)
        moves += 1


def _given(node: NodeProto) -> list[str]:
    """Return the inputs of an operator that hold what it moves; the others are shapes and axes."""
    return list(node.input if node.op_type == "Concat" else node.input[:1])


def _may_move(known: QdqGraph, quantizer: NodeProto) -> bool:
    name = quantizer.input[0]
    node = known.producers.get(name)
    if node is None or node.op_type not in MOVING or len(node.output) != 1 or name in known.outputs:
        return False
    if len(known.consumers[name]) != 1:
        return False
    if {reader.op_type for reader in known.consumers.get(quantizer.output[0], ())} != {DEQUANTIZE}:
        return False
    return all(
        (source := known.producers.get(given)) is not None
        and source.op_type != DEQUANTIZE
        and not known.is_constant(given)
        and len(known.consumers[given]) == 1
        for given in _given(node)
    )


def _move(graph: GraphProto, known: QdqGraph, quantizer: NodeProto) -> None:
    name = quantizer.input[0]
    node = known.producers[name]
    dequantizers = known.consumers[quantizer.output[0]]
    place = list(graph.node).index(node)
    for number, given in enumerate(_given(node)):
        levels, rounded = f"{given}_lifted_levels", f"{given}_lifted"
        for model, source, made in ((quantizer, given, levels), (dequantizers[0], levels, rounded)):
            copy = copied(model)
            copy.name, copy.input[0], copy.output[0] = made, source, made
            graph.node.insert(place, copy)
            place += 1
        node.input[number] = rounded
    for dequantizer in dequantizers:
        for reader in known.consumers.get(dequantizer.output[0], ()):
            for number, given in enumerate(reader.input):
                if given == dequantizer.output[0]:
                    reader.input[number] = name
    for gone in (quantizer, *dequantizers):
        graph.node.remove(gone)
