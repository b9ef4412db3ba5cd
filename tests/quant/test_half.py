"""A graph in half precision: types, answers, what cannot be held, and the rounding that stands for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fqbench.errors import DataError
from fqbench.quant.half import half_graph, rounded_to_half
from fqbench.reference_executor import reference_session
from fqbench.testing.tiny_model import onnxruntime_logits, pictures, tiny_model


def linear(weight: np.ndarray, folder: Path) -> Path:
    """Logits of one Gemm over the flattened image, then a Resize-free Relu."""
    nodes = [
        helper.make_node("Flatten", ["images"], ["flat"], name="flatten"),
        helper.make_node("Gemm", ["flat", "weight"], ["sums"], name="gemm"),
        helper.make_node("Relu", ["sums"], ["logits"], name="relu"),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 1, 2, 2])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", weight.shape[1]])],
        [numpy_helper.from_array(weight.astype(np.float32), "weight")],
    )
    path = folder / "linear.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


def test_weights_are_float16_and_the_ends_are_float32(tmp_path: Path) -> None:
    graph = half_graph(tiny_model(tmp_path).path).graph
    floats = {tensor.data_type for tensor in graph.initializer} - {TensorProto.INT64}
    assert floats == {TensorProto.FLOAT16}
    assert [value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)] == [TensorProto.FLOAT] * 2
    assert [node.op_type for node in (graph.node[0], graph.node[-1])] == ["Cast", "Cast"]


@pytest.mark.parametrize("cast", [half_graph, rounded_to_half])
def test_answers_move_by_what_float16_rounds(cast: object, tmp_path: Path) -> None:
    path, images = tiny_model(tmp_path).path, pictures(32, seed=5)
    session = reference_session(cast(path).SerializeToString())  # type: ignore[operator]
    answers, expected = session.run(None, {"images": images})[0], onnxruntime_logits(path, images)
    difference = float(np.abs(answers - expected).max())
    assert 0 < difference < 0.01 * float(np.abs(expected).max())


def test_the_rounding_is_that_of_numpy(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    weight, images = generator.normal(size=(4, 3)), generator.normal(size=(5, 1, 2, 2)).astype(np.float32)
    session = reference_session(rounded_to_half(linear(weight, tmp_path)).SerializeToString())
    rounded = images.astype(np.float16).astype(np.float32).reshape(5, 4)
    sums = rounded @ weight.astype(np.float16).astype(np.float32)
    expected = np.maximum(sums.astype(np.float16).astype(np.float32), 0)
    np.testing.assert_allclose(session.run(None, {"images": images})[0], expected, rtol=2**-10)


def test_a_weight_that_float16_cannot_hold_is_refused(tmp_path: Path) -> None:
    path = linear(np.full((4, 3), 70000.0), tmp_path)
    for cast in (half_graph, rounded_to_half):
        with pytest.raises(DataError, match=r"linear.onnx cannot be cast to fp16: 'weight' holds 7e\+04.*bf16"):
            cast(path)


def test_scales_of_a_resize_stay_float32(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Resize", ["images", "", "scales"], ["logits"], name="resize", mode="nearest")],
        "resize",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 1, 2, 2])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 1, 4, 4])],
        [numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")],
    )
    path = tmp_path / "resize.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    made = half_graph(path)
    assert [tensor.data_type for tensor in made.graph.initializer] == [TensorProto.FLOAT]
    images = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
    answers = reference_session(made.SerializeToString()).run(None, {"images": images})[0]
    np.testing.assert_array_equal(answers, images.repeat(2, axis=2).repeat(2, axis=3))


def enlarged(folder: Path, *, constant: bool, opset: int) -> Path:
    """The middle of an image, three times as large: Resize with a region, or Upsample of the whole image."""
    region = np.array([0, 0, 0.25, 0.25, 1, 1, 0.75, 0.75], np.float32)
    inputs = {"region": region, "scales": np.array([1, 1, 3, 3], np.float32)}
    if opset < 10:
        inputs.pop("region")
        node = helper.make_node("Upsample", ["images", "scales"], ["logits"], "enlarge", mode="nearest")
    else:
        node = helper.make_node(
            "Resize",
            ["images", "region", "scales"],
            ["logits"],
            "enlarge",
            mode="linear",
            coordinate_transformation_mode="tf_crop_and_resize",
        )
    tensors = [numpy_helper.from_array(array, name) for name, array in inputs.items()]
    nodes = [helper.make_node("Constant", [], [each.name], each.name, value=each) for each in tensors if constant]
    graph = helper.make_graph(
        [*nodes, node],
        "enlarged",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 1, 4, 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 1, "h", "w"])],
        [] if constant else tensors,
    )
    path = folder / "enlarged.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10), path)
    return path


@pytest.mark.parametrize("cast", [half_graph, rounded_to_half])
@pytest.mark.parametrize("constant", [False, True], ids=["initializers", "constants"])
@pytest.mark.parametrize("opset", [9, 21])
def test_scales_and_regions_stay_in_float32(cast: object, constant: bool, opset: int, tmp_path: Path) -> None:
    path = enlarged(tmp_path, constant=constant, opset=opset)
    images = np.random.default_rng(4).normal(size=(2, 1, 4, 4)).astype(np.float16).astype(np.float32)
    expected = reference_session(path.read_bytes()).run(None, {"images": images})[0]
    model = cast(path)  # type: ignore[operator]
    given = [each.attribute[0].t for each in model.graph.node if each.op_type == "Constant"] or model.graph.initializer
    assert {each.data_type for each in given} == {TensorProto.FLOAT}
    (answers,) = reference_session(model.SerializeToString()).run(None, {"images": images})
    np.testing.assert_allclose(answers, expected, rtol=2e-3, atol=2e-3)
