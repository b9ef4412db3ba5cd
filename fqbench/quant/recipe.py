"""Recipes: a scheme with overrides as YAML, resolved for every operator of a graph."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from fqbench.config import read_mapping
from fqbench.contracts.plan import Layer
from fqbench.contracts.scheme import Override, Scheme
from fqbench.errors import InputError, did_you_mean
from fqbench.onnx_graph import attribute, producers
from fqbench.quant.weights import Weight, weights_of
from fqbench.storage import write_whole

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

SETTINGS = {"bits", "act_bits", "range_rule", "calib_policy", "weight_rule"}
GATES = frozenset({"Sigmoid", "HardSigmoid"})
POOLS = frozenset({"GlobalAveragePool", "ReduceMean"})
# Between the parts of a squeeze-and-excitation: activations, and what only moves values.
PASSED = frozenset({"Relu", "Clip", "Sigmoid", "Mul", "HardSigmoid", "HardSwish", "Flatten", "Reshape", "Unsqueeze"})


def read_recipe(path: Path) -> Scheme:
    """Read a recipe file: the fields of `Scheme`, with ``overrides`` as a list.

    Raises
    ------
    InputError
        It cannot be read, or a field or value is not known.
    """
    otherwise = "holds no settings; write one on each line, as in `bits: 4`."
    values = read_mapping(path, "the recipe", "--recipe", otherwise)
    try:
        return Scheme.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"])) or "the file"
        known = Override.model_fields if "overrides" in problem["loc"] else Scheme.model_fields
        hint = did_you_mean(str(problem["loc"][-1]), known) if problem["type"] == "extra_forbidden" else ""
        raise InputError(f"the recipe {path}: {place}: {problem['msg']}. {hint}".strip()) from error


def write_recipe(scheme: Scheme, path: Path) -> None:
    """Write a scheme as a recipe file."""
    import yaml

    values = scheme.model_dump(mode="json", exclude_defaults=True)
    overrides = [override.model_dump(mode="json", exclude_none=True) for override in scheme.overrides]
    if overrides:
        values["overrides"] = overrides
    write_whole(path, yaml.safe_dump(values or {"bits": scheme.bits}, sort_keys=False))


def resolve(model: ModelProto, scheme: Scheme) -> tuple[Layer, ...]:
    """Return the settings of every operator of a cleaned graph.

    Raises
    ------
    InputError
        An override matches no operator.
    """
    weights = {weight.node.name: weight for weight in weights_of(model)}
    roles, shapes = roles_of(model, weights), _shapes(model.graph)
    used: set[int] = set()
    layers = []
    for node in model.graph.node:
        weight, own = weights.get(node.name), roles.get(node.name, ())
        path = weight.path if weight is not None else ""
        matching = [number for number, one in enumerate(scheme.overrides) if _matches(one, node, path, own)]
        used.update(matching)
        settings: dict[str, Any] = scheme.model_dump(include=SETTINGS) | {"quantize": True}
        for number in matching:
            settings |= scheme.overrides[number].changes
        layers.append(
            Layer(
                node=node.name,
                op=node.op_type,
                path=path,
                weight=weight.name if weight is not None else "",
                roles=own,
                macs=_macs(node, weight, shapes) if weight is not None else 0,
                parameters=weight.values.size if weight is not None else 0,
                **settings,
            )
        )
    unused = [override for number, override in enumerate(scheme.overrides) if number not in used]
    if unused:
        which = ", ".join(f"{key} {value!r}" for key, value in unused[0] if key in {"name", "op", "role"} and value)
        known = did_you_mean(unused[0].name, [layer.name for layer in layers if layer.weight]) if unused[0].name else ""
        raise InputError(f"the override for {which} matches no layer of this model. {known}".strip())
    return tuple(layers)


def roles_of(model: ModelProto, weights: dict[str, Weight]) -> dict[str, tuple[str, ...]]:
    """Return the roles of the operators with weights, by name of the operator."""
    ordered = [node for node in model.graph.node if node.name in weights]
    blocks = squeeze_excite_blocks(model.graph, set(weights))
    squeezed = {node.name for block in blocks for node in block}
    found = {}
    for number, node in enumerate(ordered):
        group, values = attribute(node, "group", 1), weights[node.name].values
        named = {
            "first": number == 0,
            "head": number == len(ordered) - 1,
            "depthwise": node.op_type == "Conv" and group > 1 and group == values.shape[0] and values.shape[1] == 1,
            "squeeze-excite": node.name in squeezed,
        }
        found[node.name] = tuple(role for role, holds in named.items() if holds)
    return found


def _matches(override: Override, node: NodeProto, path: str, roles: tuple[str, ...]) -> bool:
    names = [name for name in (path, node.name) if name]
    return (
        (override.op is None or override.op == node.op_type)
        and (override.role is None or override.role in roles)
        and (override.name is None or any(fnmatch.fnmatchcase(name, override.name) for name in names))
    )


def _shapes(graph: GraphProto) -> dict[str, list[int]]:
    values = (*graph.value_info, *graph.output)
    return {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in values}


def _macs(node: NodeProto, weight: Weight, shapes: Mapping[str, list[int]]) -> int:
    """Multiply-accumulates of one image: weights times the output positions."""
    sizes = shapes.get(node.output[0], [])[1:]
    positions = sizes[1:] if node.op_type == "Conv" else sizes[:-1]
    return int(weight.values.size * math.prod(positions)) if sizes else 0


def squeeze_excite_blocks(graph: GraphProto, weighted: Collection[str]) -> Iterator[list[NodeProto]]:
    """Yield the operators of each squeeze-and-excitation: from the product with the gate back to the global pooling.

    Parameters
    ----------
    graph : GraphProto
        Cleaned.
    weighted : collection of str
        Names of the operators with weights.
    """
    made_by = producers(graph)
    for mul in graph.node:
        if mul.op_type != "Mul":
            continue
        for gate in (made_by.get(name) for name in mul.input):
            if gate is None or gate.op_type not in GATES:
                continue
            found, node = [mul, gate], made_by.get(gate.input[0])
            while node is not None and (node.name in weighted or node.op_type in PASSED):
                found.append(node)
                node = made_by.get(node.input[0])
            if node is not None and node.op_type in POOLS:
                yield [*found, node]
