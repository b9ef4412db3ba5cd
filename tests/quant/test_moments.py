"""Second moments: those of the inputs that the operators really meet, per group, within the memory that is given."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from fqbench.errors import DataError
from fqbench.quant.calibration import CalibrationSet
from fqbench.quant.graph import cleaned
from fqbench.quant.moments import POSITIONS, InputMoments, _passes, _positions, input_moments
from fqbench.quant.policies import Policy
from fqbench.quant.weights import Weight, weights_of
from fqbench.reference_executor import reference_session
from fqbench.testing.tiny_model import calibration_set, tiny_model

ONES = {"dark": 1.0, "light": 1.0}


def convolution(channels: int, size: tuple[int, int], **attributes: Any) -> onnx.ModelProto:
    """One convolution without a bias over pictures of at most 256 positions, so that all of them are looked at."""
    weights = np.random.default_rng(1).normal(size=(channels, 3 // attributes.get("group", 1), *size))
    graph = helper.make_graph(
        [
            helper.make_node("AveragePool", ["images"], ["small"], kernel_shape=[2, 2], strides=[2, 2]),
            helper.make_node("Conv", ["small", "w"], ["out"], **attributes),
        ],
        "one",
        [helper.make_tensor_value_info("images", 1, ["N", 3, 32, 32])],
        [helper.make_tensor_value_info("out", 1, None)],
        [numpy_helper.from_array(weights.astype(np.float32), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def tokens(kind: str) -> onnx.ModelProto:
    """Rows of a picture as tokens, into a MatMul or, image by image, a Gemm."""
    rng = np.random.default_rng(2)
    shape = [0, 96, 32] if kind == "MatMul" else [-1, 32]
    weights = rng.normal(size=(8, 32) if kind == "Gemm" else (32, 8)).astype(np.float32)
    attributes = {"transB": 1} if kind == "Gemm" else {}
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["images", "shape"], ["rows"]),
            helper.make_node(kind, ["rows", "w"], ["out"], **attributes),
        ],
        "one",
        [helper.make_tensor_value_info("images", 1, ["N", 3, 32, 32])],
        [helper.make_tensor_value_info("out", 1, None)],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.array(shape), "shape")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def mean_squares(model: onnx.ModelProto, images: np.ndarray, channel_axis: int) -> np.ndarray:
    """Mean square of each output channel over images and positions, by onnxruntime."""
    answer = reference_session(model.SerializeToString()).run(None, {"images": images})[0].astype(np.float64)
    return (np.moveaxis(answer, channel_axis, 0) ** 2).reshape(answer.shape[channel_axis], -1).mean(axis=1)


def power(weight: Weight, blocks: list[np.ndarray]) -> np.ndarray:
    """The same, by the moments."""
    assert len(blocks) == 1
    rows = weight.rows.astype(np.float64).reshape(len(blocks[0]), -1, weight.rows.shape[1])
    return np.einsum("gri,gij,grj->gr", rows, blocks[0], rows).reshape(-1)


MODELS = {
    "padded": (convolution(4, (3, 3), pads=[1, 1, 1, 1]), 1),
    "strides, dilations and uneven padding": (
        convolution(4, (3, 2), pads=[2, 0, 1, 1], strides=[2, 1], dilations=[1, 2]),
        1,
    ),
    "same upper": (convolution(4, (4, 3), auto_pad="SAME_UPPER", strides=[2, 2]), 1),
    "same lower": (convolution(4, (4, 3), auto_pad="SAME_LOWER", strides=[2, 2]), 1),
    "valid": (convolution(4, (3, 3), auto_pad="VALID"), 1),
    "depthwise": (convolution(6, (3, 3), pads=[1, 1, 1, 1], group=3), 1),
    "MatMul": (tokens("MatMul"), 2),
    "Gemm": (tokens("Gemm"), 1),
}


@pytest.mark.parametrize("name", MODELS)
def test_moments_give_the_power_of_what_comes_out(name: str) -> None:
    """Right taps, channels, padding and groups, or the mean square of onnxruntime's outputs is another."""
    model, channel_axis = MODELS[name]
    calibration = calibration_set(12)
    weight = weights_of(model)[0]
    (moments,) = input_moments(model, calibration)
    images = calibration.images.batch(calibration.rows)
    np.testing.assert_allclose(
        power(weight, moments.weighted(ONES)), mean_squares(model, images, channel_axis), rtol=1e-4
    )
    light = (calibration.frame["group"] == "light").to_numpy()
    np.testing.assert_allclose(
        power(weight, moments.weighted({"dark": 0.0, "light": 1.0})),
        mean_squares(model, images[light], channel_axis),
        rtol=1e-4,
    )


def test_policies_weight_groups_as_they_do_for_ranges(tmp_path: Path) -> None:
    model = cleaned(tiny_model(tmp_path).path)
    calibration = calibration_set(16)
    moments = next(input_moments(model, calibration))
    assert dict(zip(moments.groups, moments.images, strict=True)) == {"dark": 12, "light": 4}
    by_group = moments.blocks[0] / moments.images[:, None, None, None]

    class Counts:  # what a policy asks of a record
        groups, images, population = moments.groups, moments.images, {"dark": 90, "light": 10}

    def mean(policy: str) -> np.ndarray:
        weights = Policy.parse(policy).image_weights(Counts)  # type: ignore[arg-type]
        return moments.weighted(dict(zip(moments.groups, weights, strict=True)))[0]

    np.testing.assert_allclose(mean("balanced"), by_group.mean(axis=0))
    np.testing.assert_allclose(mean("as-sampled"), 0.75 * by_group[0] + 0.25 * by_group[1])
    np.testing.assert_allclose(mean("stratified"), 0.9 * by_group[0] + 0.1 * by_group[1])
    np.testing.assert_allclose(mean("only=light"), by_group[1])


def arrays_of(moments: InputMoments) -> list[np.ndarray]:
    return [*moments.blocks, moments.images]


def test_several_passes_give_what_one_gives(tmp_path: Path) -> None:
    model = cleaned(tiny_model(tmp_path).path)
    calibration = calibration_set(6)
    one = list(input_moments(model, calibration))
    assert [moments.weight for moments in one] == ["conv1.weight", "conv2.weight", "classifier.weight"]
    largest = max(sum(block.nbytes for block in moments.blocks) for moments in one)
    many = list(input_moments(model, calibration, memory=largest))
    for first, second in zip(one, many, strict=True):
        for array, other in zip(arrays_of(first), arrays_of(second), strict=True):
            np.testing.assert_array_equal(array, other)


def test_little_memory_means_smaller_blocks_of_whole_channels(tmp_path: Path) -> None:
    model = cleaned(tiny_model(tmp_path).path)
    calibration = calibration_set(6)
    memory = 2 * 8 * 144 * 40  # 144 inputs of conv2, 40 of them with each other
    (whole,) = input_moments(model, calibration, weights={"conv2.weight"})
    (blocks,) = input_moments(model, calibration, weights={"conv2.weight"}, memory=memory)
    assert [block.shape[-1] for block in blocks.blocks] == [36, 36, 36, 36]
    assert sum(block.nbytes for block in blocks.blocks) <= memory
    np.testing.assert_array_equal(blocks.blocks[1], whole.blocks[0][:, :, 36:72, 36:72])


def test_the_groups_of_a_convolution_share_the_memory() -> None:
    rng = np.random.default_rng(3)
    weights = {"w1": rng.normal(size=(16, 3, 1, 1)), "w2": rng.normal(size=(4, 8, 3, 3))}
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["images", "w1"], ["wide"]),
            helper.make_node("Conv", ["wide", "w2"], ["o"], group=2),
        ],
        "two",
        [helper.make_tensor_value_info("images", 1, ["N", 3, 32, 32])],
        [helper.make_tensor_value_info("o", 1, None)],
        [numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    memory = 2 * 2 * 8 * 72 * 20  # of two groups of people and two of channels: 72 inputs, 20 of them with each other
    (blocks,) = input_moments(model, calibration_set(6), weights={"w2"}, memory=memory)
    assert [block.shape for block in blocks.blocks] == [(2, 2, 18, 18)] * 4
    assert sum(block.nbytes for block in blocks.blocks) <= memory


@dataclass
class Sized:
    bytes: int


def test_a_pass_holds_as_many_layers_as_fit() -> None:
    layers = [Sized(size) for size in (3, 4, 5, 2, 9, 1)]
    passes = [[layer.bytes for layer in part] for part in _passes(layers, memory=7)]  # type: ignore[arg-type]
    assert passes == [[3, 4], [5, 2], [9], [1]], "9 has a pass of its own"


@pytest.mark.parametrize(("height", "width"), [(64, 64), (56, 56), (37, 48), (300, 2), (15, 17)])
def test_positions_meet_every_column_about_as_often(height: int, width: int) -> None:
    met = _positions(height * width, width)
    assert min(128, height * width) <= len(met) <= POSITIONS
    of_column = np.bincount(met % width, minlength=width)
    assert of_column.max() - of_column.min() <= 1
    assert np.ptp(np.diff(met)) == 0


def test_a_group_without_images_is_refused(tmp_path: Path) -> None:
    calibration: CalibrationSet = replace(calibration_set(6), population={"dark": 5, "light": 5, "none": 3})
    with pytest.raises(DataError, match="no calibration image"):
        next(input_moments(cleaned(tiny_model(tmp_path).path), calibration))
