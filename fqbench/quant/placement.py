"""Placement variants: operators that may run faster, or answer more closely, in float than with integers around them.

Each variant is a list of overrides, so it can be written into a recipe as it is.
"""

from __future__ import annotations

import glob
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fqbench.contracts.scheme import Override
from fqbench.onnx_graph import producers
from fqbench.quant.recipe import GATES, roles_of, squeeze_excite_blocks
from fqbench.quant.weights import Weight, weights_of

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

RULES = "fusion rules"  # the default placement: the runtime's own
NARROW = 16  # channels; integer kernels work on blocks of that many
COMPUTING = frozenset({"Conv", "MatMul", "Gemm"})
GATED = frozenset({"HardSwish", "Gelu", "Mish"})


@dataclass(frozen=True)
class PlacementVariant:
    """One placement.

    Attributes
    ----------
    name : str
        What stays in float, for tables.
    nodes : frozenset of str
        The operators that stay in float.
    overrides : tuple of Override
        The same for a recipe: by operator type where all of a type are meant, else by name.
    """

    name: str
    nodes: frozenset[str]
    overrides: tuple[Override, ...]


def variants(model: ModelProto) -> tuple[PlacementVariant, ...]:
    """Return the placements that are worth a trial for a cleaned graph, without the default one.

    Those that leave out nothing, everything with weights, or the same as an earlier one are not returned.
    """
    weighted = {weight.node.name for weight in weights_of(model)}
    found: dict[frozenset[str], PlacementVariant] = {}
    for name, nodes in _candidates(model):
        chosen = frozenset(nodes)
        if chosen and chosen not in found and not weighted <= chosen:
            found[chosen] = variant(name, chosen, model.graph)
    return tuple(found.values())


def combined(parts: Iterable[PlacementVariant], model: ModelProto) -> PlacementVariant | None:
    """Return the placement that leaves in float what any of some variants does; None where it would be all weights."""
    several = tuple(parts)
    nodes = frozenset[str]().union(*(one.nodes for one in several))
    if {weight.node.name for weight in weights_of(model)} <= nodes:
        return None
    return variant(" + ".join(one.name for one in several), nodes, model.graph)


def variant(name: str, nodes: Collection[str], graph: GraphProto) -> PlacementVariant:
    """Return the placement that leaves some operators of a graph in float."""
    types = {node.op_type for node in graph.node if node.name in nodes}
    whole = {kind for kind in types if all(node.name in nodes for node in graph.node if node.op_type == kind)}
    single = [node.name for node in graph.node if node.name in nodes and node.op_type not in whole]
    overrides = (
        *(Override(op=kind, quantize=False) for kind in sorted(whole)),
        *(Override(name=glob.escape(one), quantize=False) for one in single),
    )
    return PlacementVariant(name, frozenset(nodes), overrides)


def _candidates(model: ModelProto) -> Iterator[tuple[str, Iterable[str]]]:
    graph = model.graph
    weights = {weight.node.name: weight for weight in weights_of(model)}
    roles = roles_of(model, weights)
    gated = [node.name for block in squeeze_excite_blocks(graph, weights) for node in block]
    yield "activation functions", _self_gated(graph)
    yield "squeeze-and-excitation", gated
    normalizing = {"Softmax", "LayerNormalization"}
    yield "Softmax and LayerNormalization", [node.name for node in graph.node if node.op_type in normalizing]
    yield "first layer", [name for name, own in roles.items() if "first" in own]
    yield "head", [name for name, own in roles.items() if "head" in own]
    yield (
        f"convolutions under {NARROW} channels",
        [name for name, one in weights.items() if one.node.op_type == "Conv" and _is_narrow(one)],
    )
    yield f"matrix products under {NARROW}", _narrow_products(graph, weights)
    yield "all but Conv, MatMul, Gemm", [node.name for node in graph.node if node.op_type not in COMPUTING]


def _self_gated(graph: GraphProto) -> Iterator[str]:
    """Name the parts of SiLU and hard-swish, ``x * gate(x)``, and those that are one operator."""
    made_by = producers(graph)
    for node in graph.node:
        if node.op_type in GATED:
            yield node.name
        if node.op_type != "Mul" or len(node.input) != 2:
            continue
        for gate, value in (node.input, reversed(node.input)):
            maker = made_by.get(gate)
            if maker is not None and maker.op_type in GATES and maker.input[0] == value:
                yield from (maker.name, node.name)


def _is_narrow(weight: Weight) -> bool:
    """Whether a weight has few output channels, or few channels that each output reads; depthwise ones are not."""
    outputs = weight.values.shape[weight.axis]
    depthwise = weight.node.op_type == "Conv" and weight.values.shape[1] == 1
    inputs = weight.values.shape[1] if weight.node.op_type == "Conv" else weight.rows.shape[1]
    return bool(outputs < NARROW or (inputs < NARROW and not depthwise))


def _narrow_products(graph: GraphProto, weights: dict[str, Weight]) -> Iterator[str]:
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.input, *graph.output)
    }
    for node in graph.node:
        if node.op_type not in {"MatMul", "Gemm"}:
            continue
        if node.name in weights:
            narrow = _is_narrow(weights[node.name])
        else:
            sizes = [shapes[name][-1:] for name in node.input[:2] if name in shapes]
            narrow = any(0 < size < NARROW for ends in sizes for size in ends)
        if narrow:
            yield node.name


def as_recipe(overrides: Iterable[Override]) -> list[dict[str, object]]:
    """Return overrides as a recipe file has them."""
    return [one.model_dump(mode="json", exclude_none=True) for one in overrides]
