"""Look-ups in ONNX graphs, on one graph with each case."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from fqbench import onnx_graph
from fqbench.reference_executor import reference_session


@pytest.fixture
def model() -> ModelProto:
    stored, inline = np.array([1.0, 2.0], np.float32), np.array([3.0, 4.0], np.float32)
    nodes = [
        helper.make_node("Constant", [], ["inline"], "constant", value=numpy_helper.from_array(inline, "inner")),
        helper.make_node("Constant", [], ["number"], "number", value_float=2.0),
        helper.make_node("Identity", ["inline"], ["same"], "identity"),
        helper.make_node("Clip", ["x", "", "number"], ["clipped"], "clip"),
        helper.make_node("Mul", ["clipped", "clipped"], ["square"], "mul"),
        helper.make_node("Add", ["square", "stored"], ["sum"], "add"),
        helper.make_node("Concat", ["sum", "same"], ["y"], "concat", axis=-1),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])
    listed = helper.make_tensor_value_info("stored", TensorProto.FLOAT, [2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
    graph = helper.make_graph(nodes, "g", [listed, x], [y], [numpy_helper.from_array(stored, "stored")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def test_attributes_have_their_value_or_the_default(model: ModelProto) -> None:
    concat, clip = model.graph.node[-1], model.graph.node[3]
    assert onnx_graph.attribute(concat, "axis", 0) == -1
    assert onnx_graph.attribute(clip, "axis", 7) == 7
    assert onnx_graph.attribute(clip, "axis") is None


def test_producers_and_consumers_leave_out_inputs_that_are_not_given(model: ModelProto) -> None:
    made_by, read_by = onnx_graph.producers(model.graph), onnx_graph.consumers(model.graph)
    assert {name: node.name for name, node in made_by.items()}["sum"] == "add"
    assert "x" not in made_by
    assert "" not in read_by
    assert [node.name for node in read_by["clipped"]] == ["mul", "mul"]
    assert "y" not in read_by


def test_constants_are_initializers_and_tensors_of_constant_nodes(model: ModelProto) -> None:
    assert list(onnx_graph.initializers(model.graph)) == ["stored"]
    found = onnx_graph.constants(model.graph)
    assert {name: onnx_graph.values_of(tensor).tolist() for name, tensor in found.items()} == {
        "stored": [1.0, 2.0],
        "inline": [3.0, 4.0],
    }
    assert onnx_graph.initializer_values(model.graph, "inline") is None
    assert onnx_graph.initializer_values(model.graph, "") is None


def test_an_initializer_that_is_listed_as_input_is_none_of_the_callers(model: ModelProto) -> None:
    assert [value.name for value in onnx_graph.true_inputs(model.graph)] == ["x"]


def test_the_origin_is_found_through_passing_operators_alone(model: ModelProto) -> None:
    made_by = onnx_graph.producers(model.graph)
    assert onnx_graph.origin("same", made_by, {"Identity"}) == "inline"
    assert onnx_graph.origin("y", made_by, {"Concat", "Add", "Mul"}) == "clipped"
    assert onnx_graph.origin("same", made_by, set()) == "same"


def test_inner_values_are_given_by_a_copy(model: ModelProto) -> None:
    before = model.SerializeToString()
    opened = onnx_graph.with_outputs(model, ["square", "y"])
    assert [value.name for value in opened.graph.output] == ["y", "square"]
    session = reference_session(opened.SerializeToString())
    (square,) = session.run(["square"], {"x": np.array([-1.0, 3.0], np.float32)})
    assert square.tolist() == [1.0, 4.0]
    assert model.SerializeToString() == before
