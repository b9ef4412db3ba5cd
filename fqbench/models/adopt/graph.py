"""Edit an ONNX graph while it is read: every look-up sees the changes made before it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.onnx_graph import copied, initializer_values, initializers

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto, NodeProto

FLOAT = 1  # onnx.TensorProto.FLOAT


class Editor:
    """Inspect and change the graph of a model in place.

    Parameters
    ----------
    model : ModelProto
        Its constants are initializers.
    """

    def __init__(self, model: ModelProto) -> None:
        self.model = model
        self._count = 0

    @property
    def graph(self) -> GraphProto:
        """The graph."""
        return self.model.graph

    @property
    def input(self) -> Any:
        """The one input that is not an initializer."""
        return self.graph.input[0]

    def maker(self, name: str) -> NodeProto | None:
        """Return the node that computes a value."""
        return next((node for node in self.graph.node if name in node.output), None)

    def readers(self, name: str) -> list[NodeProto]:
        """Return the nodes that read a value, in the order of the graph."""
        return [node for node in self.graph.node if name in node.input]

    def is_output(self, name: str) -> bool:
        """Whether a value leaves the graph."""
        return any(value.name == name for value in self.graph.output)

    def constant(self, name: str) -> NDArray[Any] | None:
        """Return a constant's values; None where the value is computed."""
        return initializer_values(self.graph, name)

    def set_constant(self, name: str, values: NDArray[Any]) -> None:
        """Replace the values of a constant."""
        from onnx import numpy_helper

        initializers(self.graph)[name].CopyFrom(numpy_helper.from_array(np.asarray(values, order="C"), name))

    def add_constant(self, values: NDArray[Any], stem: str) -> str:
        """Add a constant, and return its name."""
        from onnx import numpy_helper

        name = self.fresh(stem)
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(values, order="C"), name))
        return name

    def add_node(self, operator: str, inputs: list[str], stem: str, **attributes: Any) -> str:
        """Add a node at the end; return the name of its output."""
        from onnx import helper

        output = self.fresh(stem)
        self.graph.node.append(helper.make_node(operator, inputs, [output], f"{stem}/{operator}", **attributes))
        return output

    def fresh(self, stem: str) -> str:
        """Return an unused name."""
        taken = {name for node in self.graph.node for name in (*node.input, *node.output, *_captured(node))}
        taken |= {value.name for value in (*self.graph.initializer, *self.graph.input, *self.graph.output)}
        name = stem
        while name in taken:
            self._count += 1
            name = f"{stem}_{self._count}"
        return name

    def redirect(self, old: str, new: str) -> None:
        """Let the readers of one value read another."""
        for node in self.graph.node:
            for index, name in enumerate(node.input):
                if name == old:
                    node.input[index] = new

    def rename(self, old: str, new: str) -> None:
        """Rename a value everywhere."""
        _rename_inside(self.graph.node, old, new)
        for value in (*self.graph.input, *self.graph.output, *self.graph.value_info, *self.graph.initializer):
            if value.name == old:
                value.name = new

    def sort(self) -> None:
        """Sort the nodes topologically."""
        waiting = [copied(node) for node in self.graph.node]
        made = {name for node in waiting for name in node.output}
        ordered: list[NodeProto] = []
        while waiting:
            ready = [node for node in waiting if not made & {*node.input, *_captured(node)}]
            waiting = [node for node in waiting if made & {*node.input, *_captured(node)}]
            ordered += ready
            made -= {name for node in ready for name in node.output}
            if not ready:
                raise ValueError("the graph has a cycle")
        del self.graph.node[:]
        self.graph.node.extend(ordered)

    def prune(self) -> None:
        """Remove nodes and constants that no output depends on."""
        needed = {value.name for value in self.graph.output}
        kept = []
        for node in reversed(self.graph.node):
            if needed & set(node.output):
                kept.append(node)
                needed |= {name for name in (*node.input, *_captured(node)) if name}
        nodes = [copied(node) for node in reversed(kept)]
        del self.graph.node[:]
        self.graph.node.extend(nodes)
        constants = [copied(tensor) for tensor in self.graph.initializer if tensor.name in needed]
        del self.graph.initializer[:]
        self.graph.initializer.extend(constants)


def called(node: NodeProto) -> str:
    """Return how a node is named in messages: its operator, and its name or that of its output."""
    return f"{node.op_type} {node.name or (node.output[0] if node.output else '')!r}"


def dimensions(value: Any) -> list[int | str]:
    """Return the shape of a value: numbers, and names (perhaps empty) of the free ones."""
    return [
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else dim.dim_param
        for dim in value.type.tensor_type.shape.dim
    ]


def shape_text(value: Any) -> str:
    """Return a shape as in ``(N, 224, 224, 3)``."""
    names = iter("NABCDEFG")
    return "(" + ", ".join(str(size) if isinstance(size, int) else next(names) for size in dimensions(value)) + ")"


def _bodies(node: NodeProto) -> Iterator[GraphProto]:
    """Yield the bodies of an If or Loop."""
    for entry in node.attribute:
        yield from (*([entry.g] if entry.HasField("g") else []), *entry.graphs)


def _rename_inside(nodes: Iterable[NodeProto], old: str, new: str) -> None:
    """Rename a value in nodes and in their bodies, except where a body has a value of its own of this name."""
    for node in nodes:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == old:
                    names[index] = new
        for body in _bodies(node):
            own = {value.name for value in (*body.input, *body.initializer)}
            own |= {name for inner in body.node for name in inner.output}
            if old not in own:
                _rename_inside(body.node, old, new)
                for value in body.output:
                    value.name = new if value.name == old else value.name


def _captured(node: NodeProto) -> set[str]:
    """Return the names that the bodies of an If or Loop take from outside."""
    found: set[str] = set()
    for body in _bodies(node):
        for inner in body.node:
            found |= set(inner.input) | _captured(inner)
        found |= {value.name for value in body.output}
    return found
