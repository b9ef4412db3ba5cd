"""Names in an exported graph: every node carries the path of the module that it came from."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from fqbench.onnx_graph import initializers, origin, producers

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

SCOPES = (
    "pkg.torch.onnx.name_scopes"  # written by torch's exporter: ['', 'layer1', 'layer1.0', 'layer1.0.conv1', 'conv2d']
)
NO_MODULE = "_empty_nn_module_stack"
WEIGHT = ".weight"
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def name_by_module(graph: GraphProto) -> None:
    """Rename nodes to ``module.path/Operator``, and a nameless transposed weight to ``module.path.weight_t``.

    A node with a weight is named after it: with BatchNorm folded in, a convolution would be called ``bn1``.
    The same model gives the same names; a second node of the same kind in a module gets ``_1``.
    """
    weights = initializers(graph)
    taken: dict[str, int] = {}
    renamed: dict[str, str] = {}
    for node in graph.node:
        scope = _module_of(node, weights)
        stem = f"{scope}/{node.op_type}" if scope else node.op_type
        count = taken.get(stem, 0)
        taken[stem] = count + 1
        node.name = f"{stem}_{count}" if count else stem
        second = node.input[1] if len(node.input) > 1 else ""
        if scope and node.op_type == "MatMul" and second in weights and "." not in second and second not in renamed:
            renamed[second] = f"{scope}{WEIGHT}_t"
    if len(set(renamed.values())) == len(renamed) and not set(renamed.values()) & set(weights):
        _rename_values(graph, renamed)


def name_missing(nodes: Sequence[NodeProto]) -> None:
    """Name the nodes without a name, since runtimes report by name."""
    taken = {node.name for node in nodes}
    for index, node in enumerate(nodes):
        if not node.name:
            name = f"{node.op_type}_{index}"
            node.name = name if name not in taken else f"{name}_fqbench"


def head_of(graph: GraphProto) -> str:
    """Return the name of the node that computes the classes: the last one with weights before the output.

    Returns
    -------
    str
        Empty where there is none.
    """
    weights = set(initializers(graph))
    weights |= {node.output[0] for node in graph.node if node.op_type in {"Constant", "DequantizeLinear"}}
    made_by = producers(graph)
    waiting, seen = [graph.output[0].name], set()
    while waiting:
        node = made_by.get(waiting.pop(0))
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if node.op_type in WEIGHTED and origin(node.input[1], made_by, {"Transpose", "Identity", "Cast"}) in weights:
            return str(node.name)
        waiting.extend(node.input)
    return ""


def _module_of(node: NodeProto, weights: dict[str, Any]) -> str:
    if node.op_type in WEIGHTED and len(node.input) > 1:
        parameter = node.input[1]
        if parameter in weights and parameter.endswith(WEIGHT):
            return str(parameter.removesuffix(WEIGHT))
    written = next((entry.value for entry in node.metadata_props if entry.key == SCOPES), "[]")
    modules = [scope for scope in _listed(written)[:-1] if scope and not scope.startswith(NO_MODULE)]
    return modules[-1] if modules else ""


def _listed(text: str) -> list[str]:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return []
    return [str(part) for part in value] if isinstance(value, list) else []


def _rename_values(graph: GraphProto, names: dict[str, str]) -> None:
    def rename(values: Iterable[Any]) -> None:
        for value in values:
            value.name = names.get(value.name, value.name)

    rename(graph.initializer)
    rename(graph.value_info)
    for node in graph.node:
        for index, value in enumerate(node.input):
            if value in names:
                node.input[index] = names[value]
