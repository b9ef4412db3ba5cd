"""Equalization and smoothing: the same answers, channels that use their range, and nothing moved elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from fqbench.quant.equalization import equalize
from fqbench.quant.graph import cleaned
from fqbench.quant.moments import input_moments
from fqbench.quant.smoothing import smooth
from fqbench.quant.weights import rounded, scales, weights_of
from fqbench.reference_executor import reference_session
from fqbench.testing.tiny_model import Pictures, calibration_set, pictures, tiny_model


def answers(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    """What the graph says, without fusions."""
    session = reference_session(model.SerializeToString(), optimize=False)
    logits: np.ndarray = session.run(None, {session.get_inputs()[0].name: images})[0]
    return logits


def same_answers(model: onnx.ModelProto, changed: onnx.ModelProto, images: np.ndarray) -> None:
    expected, found = answers(model, images), answers(changed, images)
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def largest(model: onnx.ModelProto, name: str, axis: int) -> np.ndarray:
    """Largest magnitudes of a weight along one of its axes."""
    values = next(weight.values for weight in weights_of(model) if weight.name == name)
    return np.abs(np.moveaxis(values, axis, 0)).reshape(values.shape[axis], -1).max(axis=1)


def chain(between: list[onnx.NodeProto], *, group: int = 1, outputs: tuple[str, ...] = ()) -> onnx.ModelProto:
    """Two convolutions of channels of very different size, "c1" and "c2", with nodes from "a" to "b" between them."""
    rng = np.random.default_rng(4)
    spread = np.exp(rng.normal(0, 2, 8))
    second = rng.normal(0, 0.3, (4 if group == 1 else 8, 8 // group, 3, 3))
    weights = {
        "w1": rng.normal(0, 0.3, (8, 3, 3, 3)) * spread[:, None, None, None],
        "b1": rng.normal(0, 0.3, 8) * spread,
        "w2": second if group > 1 else second / spread[:, None, None],
        "zero": np.array(0),
        "six": np.array(6),
        "huge": np.array(np.finfo(np.float32).max),
    }
    nodes = [
        helper.make_node("Conv", ["images", "w1", "b1"], ["a"], "c1"),
        *between,
        helper.make_node("Conv", ["b", "w2"], ["out"], "c2", group=group),
    ]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("images", 1, ["N", 3, 32, 32])],
        [helper.make_tensor_value_info(name, 1, None) for name in ("out", *outputs)],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def node(operator: str, *inputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, ["a", *inputs], ["b"], **attributes)


@pytest.mark.parametrize("group", [1, 2, 8])
@pytest.mark.parametrize(
    "function",
    [node("Relu"), node("LeakyRelu", alpha=0.1), node("Identity"), node("Clip", "zero"), node("Clip", "zero", "huge")],
    ids=["Relu", "LeakyRelu", "Identity", "Clip", "Clip to the largest float"],
)
def test_both_sides_of_a_pair_use_their_range(function: onnx.NodeProto, group: int) -> None:
    model = chain([function], group=group)
    before = model.SerializeToString()
    equalized = equalize(model)
    assert equalized.pairs == (("w1", ("w2",)),)
    assert model.SerializeToString() == before
    same_answers(model, equalized.model, pictures(4, 1))
    mine = largest(equalized.model, "w1", 0)
    values = next(weight.values for weight in weights_of(equalized.model) if weight.name == "w2")
    by_group = np.abs(values.reshape(group, -1, *values.shape[1:])).max(axis=(1, 3, 4)).reshape(-1)
    np.testing.assert_allclose(mine, by_group, rtol=5e-3)
    assert np.ptp(np.log(largest(model, "w1", 0))) > 3


@pytest.mark.parametrize(
    "between",
    [
        [node("Clip", "zero", "six")],
        [node("HardSwish")],
        [node("Sigmoid")],
        [node("Elu")],
        [helper.make_node("Relu", ["a"], ["r"]), helper.make_node("Add", ["r", "a"], ["b"])],
        [node("MaxPool", kernel_shape=[2, 2])],
    ],
    ids=["Relu6", "HardSwish", "Sigmoid", "Elu", "branch", "MaxPool"],
)
def test_nothing_moves_where_the_answers_would_change(between: list[onnx.NodeProto]) -> None:
    model = chain(between)
    equalized = equalize(model)
    assert equalized.pairs == ()
    assert equalized.model == model


def test_an_output_of_the_graph_is_left_alone() -> None:
    assert equalize(chain([node("Relu")], outputs=("a",))).pairs == ()
    assert equalize(chain([node("Relu")], outputs=("b",))).pairs == ()


def test_a_weight_of_two_operators_is_left_alone() -> None:
    model = chain([node("Relu")])
    model.graph.node.append(helper.make_node("Conv", ["images", "w1"], ["other"], "c3"))
    model.graph.output.append(helper.make_tensor_value_info("other", 1, None))
    assert equalize(model).pairs == ()


def test_a_bias_of_two_operators_keeps_its_value_for_the_other() -> None:
    model = chain([node("Relu")])
    model.graph.node.append(helper.make_node("Identity", ["b1"], ["other"]))
    model.graph.output.append(helper.make_tensor_value_info("other", 1, None))
    equalized = equalize(model)
    assert equalized.pairs == (("w1", ("w2",)),)
    same_answers(model, equalized.model, pictures(2, 1))
    bias = next(tensor for tensor in equalized.model.graph.initializer if tensor.name == "b1")
    np.testing.assert_array_equal(numpy_helper.to_array(bias), numpy_helper.to_array(model.graph.initializer[1]))


def test_a_dead_channel_has_the_factor_one() -> None:
    model = chain([node("Relu")])
    weight = numpy_helper.to_array(model.graph.initializer[0]).copy()
    weight[3] = 0
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "w1"))
    equalized = equalize(model).model
    same_answers(model, equalized, pictures(2, 1))
    before, after = (numpy_helper.to_array(one.graph.initializer[2])[:, 3] for one in (model, equalized))
    np.testing.assert_array_equal(after, before)


def test_it_wins_back_what_uneven_channels_lose(tmp_path: Path) -> None:
    """The tiny model with factors between its convolutions answers the same in float, and not at 4 bits."""
    even = cleaned(tiny_model(tmp_path).path)
    uneven = onnx.ModelProto()
    uneven.CopyFrom(even)
    spread = np.exp(np.random.default_rng(1).normal(0, 2, 16)).astype(np.float32)
    for tensor in uneven.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.name in {"conv1.weight", "conv1.bias"}:
            values = values * spread.reshape(-1, *[1] * (values.ndim - 1))
        elif tensor.name == "conv2.weight":
            values = values / spread[:, None, None]
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    images = pictures(32, 2)
    same_answers(even, uneven, images)
    expected = answers(even, images)
    models = (even, uneven, equalize(uneven).model)
    off = [np.abs(answers(at_four_bits(model), images) - expected).mean() for model in models]
    assert off[1] > 1.5 * off[0]
    assert off[2] < off[0] + 0.3 * (off[1] - off[0])


def at_four_bits(model: onnx.ModelProto) -> onnx.ModelProto:
    """The weights rounded to 4 bits per output channel."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    tensors = {tensor.name: tensor for tensor in changed.graph.initializer}
    for weight in weights_of(model):
        values = rounded(weight.rows, scales(weight.rows, 4, "minmax"), 4)
        shape = np.moveaxis(weight.values, weight.axis, 0).shape
        back = np.ascontiguousarray(np.moveaxis(values.reshape(shape), 0, weight.axis))
        tensors[weight.name].CopyFrom(numpy_helper.from_array(back, weight.name))
    return changed


@pytest.mark.slow
@pytest.mark.parametrize(("name", "pairs"), [("mobilenet_v2", 2), ("resnet10t", 6)])
def test_exported_networks_answer_the_same_equalized(name: str, pairs: int, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from fqbench.testing.study_models import study_model

    model = cleaned(study_model(name, tmp_path).path)
    equalized = equalize(model)
    assert len(equalized.pairs) == pairs
    images = np.random.default_rng(0).normal(0, 1, (4, 3, 64, 64)).astype(np.float32)
    same_answers(model, equalized.model, images)


@pytest.mark.slow
def test_an_exported_transformer_answers_the_same_smoothed(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from fqbench.testing.study_models import study_model

    model = cleaned(study_model("vit_tiny_patch16_224", tmp_path).path)
    images = np.random.default_rng(0).normal(0, 1, (8, 3, 64, 64)).astype(np.float32)
    calibration = calibration_set(8, images=Pictures(images))
    maxima = {one.weight: one.maxima({"dark": 1.0, "light": 1.0}) for one in input_moments(model, calibration)}
    smoothed = smooth(model, maxima)
    assert len(smoothed.pairs) == 24  # two in each of 12 blocks; behind the last one a token is chosen
    same_answers(model, smoothed.model, images)


def transformer_block() -> onnx.ModelProto:
    """A LayerNormalization with an outlying channel, read by two MatMuls."""
    rng = np.random.default_rng(5)
    scale = np.ones(32)
    scale[3] = 50
    parameters = {
        "scale": scale,
        "bias": rng.normal(0, 0.1, 32),
        "w1": rng.normal(0, 0.2, (32, 16)),
        "w2": rng.normal(0, 0.2, (32, 16)),
        "shape": np.array([0, 96, 32], np.int64),
    }
    nodes = [
        helper.make_node("Reshape", ["images", "shape"], ["rows"]),
        helper.make_node("LayerNormalization", ["rows", "scale", "bias"], ["normal"], axis=-1),
        helper.make_node("MatMul", ["normal", "w1"], ["m1"]),
        helper.make_node("MatMul", ["normal", "w2"], ["m2"]),
        helper.make_node("Mul", ["m1", "m2"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "block",
        [helper.make_tensor_value_info("images", 1, ["N", 3, 32, 32])],
        [helper.make_tensor_value_info("out", 1, None)],
        [
            numpy_helper.from_array(array if array.dtype == np.int64 else array.astype(np.float32), name)
            for name, array in parameters.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def maxima_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {one.weight: one.maxima({"dark": 1.0, "light": 1.0}) for one in input_moments(model, calibration_set(8))}


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_smoothing_shares_the_spread_as_the_paper_says(alpha: float) -> None:
    model = transformer_block()
    before = maxima_of(model)
    smoothed = smooth(model, before, alpha=alpha)
    assert smoothed.pairs == (("scale", ("w1", "w2")),)
    same_answers(model, smoothed.model, pictures(4, 3))
    of_weights = np.maximum(largest(model, "w1", 0), largest(model, "w2", 0))
    expected = before["w1"] / (before["w1"] ** alpha / of_weights ** (1 - alpha))
    np.testing.assert_allclose(maxima_of(smoothed.model)["w2"], expected, rtol=1e-4)


def test_smoothing_leaves_other_readers_alone() -> None:
    model = transformer_block()
    maxima = maxima_of(model)
    assert smooth(model, {"w1": maxima["w1"]}).pairs == ()
    model.graph.node.append(helper.make_node("Relu", ["normal"], ["other"]))
    model.graph.output.append(helper.make_tensor_value_info("other", 1, None))
    assert smooth(model, maxima).pairs == ()
    with pytest.raises(ValueError, match="alpha must be from 0 to 1"):
        smooth(model, maxima, alpha=1.5)
