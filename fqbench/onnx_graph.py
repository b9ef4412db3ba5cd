"""Look-ups in ONNX graphs, the only place for them: opset, attributes, producers, consumers, constants and inputs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

Message = TypeVar("Message")


def opset_of(model: ModelProto) -> int:
    """Return the version of ONNX's own operators that a model uses."""
    return int(next((entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), 1))


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    """Return the value of a node's attribute, or the default where the node does not have it."""
    from onnx import helper

    found = next((given for given in node.attribute if given.name == name), None)
    return default if found is None else helper.get_attribute_value(found)


def producers(graph: GraphProto) -> dict[str, NodeProto]:
    """Return the node that writes each value."""
    return {name: node for node in graph.node for name in node.output if name}


def consumers(graph: GraphProto) -> dict[str, list[NodeProto]]:
    """Return the nodes that read each value, in the order of the graph, once for each input that reads it."""
    found: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            if name:
                found.setdefault(name, []).append(node)
    return found


def initializers(graph: GraphProto) -> dict[str, TensorProto]:
    """Return the initializers by name; a change of one changes the graph."""
    return {tensor.name: tensor for tensor in graph.initializer}


def constants(graph: GraphProto) -> dict[str, TensorProto]:
    """Return the initializers and the tensors of Constant nodes, by the name of the value."""
    found = initializers(graph)
    for node in graph.node:
        if node.op_type == "Constant" and (tensor := attribute(node, "value")) is not None:
            found[node.output[0]] = tensor
    return found


def values_of(tensor: TensorProto) -> NDArray[Any]:
    """Return the values of a tensor; not to be written to."""
    from onnx import numpy_helper

    return np.asarray(numpy_helper.to_array(tensor))


def initializer_values(graph: GraphProto, name: str) -> NDArray[Any] | None:
    """Return the values of an initializer; None where there is none of this name."""
    found = next((tensor for tensor in graph.initializer if tensor.name == name), None)
    return None if found is None or not name else values_of(found)


def true_inputs(graph: GraphProto) -> list[ValueInfoProto]:
    """Return the inputs that a caller has to give: old files list initializers as inputs, too."""
    known = initializers(graph)
    return [value for value in graph.input if value.name not in known]


def origin(name: str, made_by: Mapping[str, NodeProto], passing: Collection[str]) -> str:
    """Follow a value back through the first inputs of operators of these types, to the first value of another one.

    Parameters
    ----------
    name : str
        The value.
    made_by : mapping
        As `producers` returns it.
    passing : collection of str
        Operator types to step over.
    """
    while name in made_by and made_by[name].op_type in passing:
        name = made_by[name].input[0]
    return name


def with_outputs(model: ModelProto, names: Iterable[str]) -> ModelProto:
    """Return a copy of a model that gives these values, too; the runtime infers their types."""
    from onnx import ValueInfoProto

    opened = copied(model)
    known = {value.name for value in opened.graph.output}
    opened.graph.output.extend([ValueInfoProto(name=name) for name in names if name not in known])
    return opened


def copied(message: Message) -> Message:
    """Return a copy of a model, node or tensor."""
    copy = type(message)()
    copy.CopyFrom(message)  # type: ignore[attr-defined]  # every protobuf message has it
    return copy
