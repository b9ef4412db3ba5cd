"""Rescaling: the same answers in float, channels that share a range, and nothing moved where answers would change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from fqbench import plugins
from fqbench.contracts.artifacts import ExportedModel
from fqbench.contracts.numerics import Numerics
from fqbench.contracts.scheme import Scheme
from fqbench.errors import DataError
from fqbench.quant import rescaling
from fqbench.quant.graph import cleaned
from fqbench.quant.plan import make_plan
from fqbench.quant.rescaling import channel_maxima, moves, rescale, rescaled, worth_a_trial
from fqbench.quant.weights import weights_of
from fqbench.reference_executor import reference_session
from fqbench.storage import file_digest
from fqbench.testing.planned import write_artifact
from fqbench.testing.sums import exact
from fqbench.testing.tiny_model import Pictures, calibration_set, pictures, tiny_model
from fqbench.testing.uneven_model import write_uneven


def answers(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    """What the graph says, without fusions."""
    session = reference_session(model.SerializeToString(), optimize=False)
    logits: np.ndarray = session.run(None, {session.get_inputs()[0].name: images})[0]
    return logits


def same_answers(model: onnx.ModelProto, changed: onnx.ModelProto, images: np.ndarray) -> None:
    expected, found = answers(model, images), answers(changed, images)
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def maxima_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return channel_maxima(model, tuple(moves(model)), calibration_set(8))


def names(model: onnx.ModelProto) -> list[tuple[str, tuple[str, ...]]]:
    return [move.weights for move in moves(model)]


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
def test_channels_become_more_alike_and_the_largest_stays(function: onnx.NodeProto, group: int) -> None:
    model = chain([function], group=group)
    before = model.SerializeToString()
    maxima = maxima_of(model)
    changed, found = rescale(model, maxima)
    assert [move.weights for move in found] == [("w1", ("w2",))]
    assert model.SerializeToString() == before
    same_answers(model, changed, pictures(4, 1))
    even, uneven = maxima_of(changed)["b"], maxima["b"]
    np.testing.assert_allclose(even.max(), uneven.max(), rtol=1e-4)
    assert np.ptp(np.log(even)) < 0.6 * np.ptp(np.log(uneven))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_the_factors_are_those_of_the_paper(alpha: float) -> None:
    model = transformer_block()
    before = maxima_of(model)["normal"]
    changed, found = rescale(model, {"normal": before}, alpha=alpha)
    assert [move.weights for move in found] == [("scale", ("w1", "w2"))]
    same_answers(model, changed, pictures(4, 3))
    weights = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name in {"w1", "w2"}]
    relative = [np.abs(weight) / np.abs(weight).max(axis=0) for weight in weights]
    largest = np.maximum(relative[0].max(axis=1), relative[1].max(axis=1))
    expected = before / (before**alpha / largest ** (1 - alpha))
    np.testing.assert_allclose(maxima_of(changed)["normal"], expected * before.max() / expected.max(), rtol=1e-4)
    with pytest.raises(ValueError, match="alpha must be from 0 to 1"):
        rescale(model, {"normal": before}, alpha=1.5)


@pytest.mark.parametrize(
    "between",
    [
        [node("Clip", "zero", "six")],
        [node("HardSwish")],
        [node("Sigmoid")],
        [node("Elu")],
        [helper.make_node("Relu", ["a"], ["r"]), helper.make_node("Add", ["r", "a"], ["b"])],
    ],
    ids=["Relu6", "HardSwish", "Sigmoid", "Elu", "branch"],
)
def test_nothing_moves_where_the_answers_would_change(between: list[onnx.NodeProto]) -> None:
    model = chain(between)
    assert not names(model)
    assert rescale(model, {})[0] == model


def test_outputs_of_the_graph_are_left_alone() -> None:
    assert not names(chain([node("Relu")], outputs=("a",)))
    assert not names(chain([node("Relu")], outputs=("b",)))


def test_several_readers_get_the_factors_of_one_tensor() -> None:
    model = chain([node("Relu")])
    model.graph.initializer.append(numpy_helper.from_array(np.ones((2, 8, 1, 1), np.float32), "w3"))
    model.graph.node.append(helper.make_node("Conv", ["b", "w3"], ["other"], "c3"))
    model.graph.output.append(helper.make_tensor_value_info("other", 1, None))
    assert names(model) == [("w1", ("w2", "w3"))]
    changed, _found = rescale(model, maxima_of(model))
    same_answers(model, changed, pictures(2, 1))
    sessions = [reference_session(one.SerializeToString(), optimize=False) for one in (model, changed)]
    expected, other = (one.run(["other"], {"images": pictures(2, 1)})[0] for one in sessions)
    np.testing.assert_allclose(other, expected, rtol=1e-4)


def test_weights_of_two_operators_are_left_alone() -> None:
    model = chain([node("Relu")])
    model.graph.node.append(helper.make_node("Conv", ["images", "w1"], ["other"], "c3"))
    model.graph.output.append(helper.make_tensor_value_info("other", 1, None))
    assert not names(model)
    model = chain([node("Relu")])
    model.graph.node.append(helper.make_node("Conv", ["b", "w2"], ["other"], "c3"))
    model.graph.output.append(helper.make_tensor_value_info("other", 1, None))
    assert not names(model)


def test_a_bias_of_two_operators_keeps_its_value_for_the_other() -> None:
    model = chain([node("Relu")])
    model.graph.node.append(helper.make_node("Identity", ["b1"], ["other"]))
    model.graph.output.append(helper.make_tensor_value_info("other", 1, None))
    changed, found = rescale(model, maxima_of(model))
    assert len(found) == 1
    same_answers(model, changed, pictures(2, 1))
    bias = next(tensor for tensor in changed.graph.initializer if tensor.name == "b1")
    np.testing.assert_array_equal(numpy_helper.to_array(bias), numpy_helper.to_array(model.graph.initializer[1]))


def test_a_dead_channel_has_the_factor_one() -> None:
    model = chain([node("Relu")])
    for position in (0, 1):
        values = numpy_helper.to_array(model.graph.initializer[position]).copy()
        values[3] = 0
        tensor = model.graph.initializer[position]
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    changed, _found = rescale(model, maxima_of(model))
    same_answers(model, changed, pictures(2, 1))
    before, after = (numpy_helper.to_array(one.graph.initializer[2])[:, 3] for one in (model, changed))
    np.testing.assert_array_equal(after, before)


def test_only_all_constant_readers_along_the_same_axis_count() -> None:
    model = transformer_block()
    assert names(model) == [("scale", ("w1", "w2"))]
    model.graph.node.append(helper.make_node("Relu", ["normal"], ["other"]))
    model.graph.node.append(helper.make_node("MatMul", ["other", "w1"], ["third"]))  # its weight has two readers
    model.graph.output.append(helper.make_tensor_value_info("third", 1, None))
    assert not names(model)
    across = chain([node("Relu")])  # 8 channels, and a matrix product that reads the last of the other axes
    across.graph.initializer.append(numpy_helper.from_array(np.ones((8, 5), np.float32), "w3"))
    across.graph.node.append(helper.make_node("MatMul", ["b", "w3"], ["other"]))
    across.graph.output.append(helper.make_tensor_value_info("other", 1, None))
    assert not names(across)


def test_a_product_that_also_adds_what_it_reads_is_left_alone() -> None:
    """Its sum would have the channels divided, and nothing to multiply them again."""
    rng = np.random.default_rng(6)
    parameters = {"scale": np.linspace(1, 50, 32), "w1": rng.normal(0, 0.2, (32, 32))}
    constants = [numpy_helper.from_array(values.astype(np.float32), name) for name, values in parameters.items()]
    nodes = [
        helper.make_node("Reshape", ["images", "shape"], ["rows"]),
        helper.make_node("LayerNormalization", ["rows", "scale"], ["normal"], axis=-1),
        helper.make_node("Gemm", ["normal", "w1", "normal"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "residual",
        [helper.make_tensor_value_info("images", 1, ["N", 3, 32, 32])],
        [helper.make_tensor_value_info("out", 1, None)],
        [*constants, numpy_helper.from_array(np.array([-1, 32]), "shape")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    assert not names(model)
    model.graph.node[-1].input.pop()
    assert names(model) == [("scale", ("w1",))]


def test_it_is_worth_a_trial_at_8_bits_or_with_depthwise_convolutions_or_layer_normalization() -> None:
    for bits in (8, 4):
        assert worth_a_trial(chain([node("Relu")], group=8), bits)
        assert worth_a_trial(transformer_block(), bits)
        assert worth_a_trial(chain([node("Relu")]), bits) == (bits == 8)
        assert not worth_a_trial(chain([node("HardSwish")], group=8), bits)


def uneven(tmp_path: Path) -> ExportedModel:
    """The depthwise network with channels of very different size."""
    path = write_uneven(tmp_path / "uneven.onnx")
    return replace(tiny_model(tmp_path), path=path, digest=file_digest(path), classes=("no", "yes"))


@pytest.mark.parametrize("bits", [8, 4])
def test_it_wins_back_what_uneven_channels_lose(bits: int, tmp_path: Path) -> None:
    model, images = uneven(tmp_path), pictures(64, 2)
    backend, calibration = plugins.backend("ort"), calibration_set()
    expected, wrong, off = answers(onnx.load(model.path), images), {}, {}
    for asked in ("off", "on"):
        out = tmp_path / asked
        out.mkdir()
        artifact = write_artifact(backend, model, exact(Scheme(bits=bits, rescaling=asked)), out, calibration)  # type: ignore[arg-type]
        found = backend.load(artifact, threads=1, device="cpu").run(images)
        off[asked] = np.abs(found - expected).mean()
        wrong[asked] = (found.argmax(axis=1) != expected.argmax(axis=1)).mean()
        assert ("rescaled" in artifact.details) == (asked == "on")
    assert wrong["off"] > 0.1
    assert wrong["on"] <= 0.2 * wrong["off"]
    assert off["on"] < 0.2 * off["off"]


def test_a_plan_is_made_of_the_rescaled_graph_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, calibration = uneven(tmp_path), calibration_set()
    calibration = replace(calibration, record=rescaling.observe(model, calibration))
    plan = make_plan(model, Scheme(rescaling="on"), Numerics.of(Scheme()), calibration)
    monkeypatch.setattr(rescaling, "observe", None)  # a second observation would fail
    again = make_plan(model, Scheme(rescaling="on", bias_correction="on"), Numerics.of(Scheme()), calibration)
    assert plan.facts["rescaled"] == again.facts["rescaled"]
    assert plan.facts["rescaled"]["largest_change"] < 1e-5
    first = plan.facts["rescaled"]["moves"][0]
    assert first == {"divided": "stem.weight", "multiplied": ["deep.weight"]}
    plain = make_plan(model, Scheme(), Numerics.of(Scheme()), calibration)
    same_answers(plain.model, plan.model, pictures(8, 3))
    assert plan.weights.keys() == plain.weights.keys()
    assert (plan.weights["stem.weight"].scale != plain.weights["stem.weight"].scale).any()
    assert again.facts["corrected_biases"]


def test_answers_that_change_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rescaling, "CLOSE", 0.0)
    model = uneven(tmp_path)
    with pytest.raises(DataError, match=r"rescaling the layers of tiny changes its answers in FP32.*--rescaling off"):
        rescaled(model, cleaned(model.path), calibration_set())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "count"), [("mobilenet_v2", 2), ("resnet10t", 6), ("squeezenet1_1", 8)])
def test_exported_networks_answer_the_same(name: str, count: int, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from fqbench.testing.study_models import study_model

    model = cleaned(study_model(name, tmp_path).path)
    images = np.random.default_rng(0).normal(0, 1, (8, 3, 64, 64)).astype(np.float32)
    found = tuple(moves(model))
    assert len(found) == count
    changed, _ = rescale(model, channel_maxima(model, found, calibration_set(8, images=Pictures(images))))
    same_answers(model, changed, images[:4])


@pytest.mark.slow
def test_an_exported_transformer_answers_the_same(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from fqbench.testing.study_models import study_model

    model = cleaned(study_model("vit_tiny_patch16_224", tmp_path).path)
    images = np.random.default_rng(0).normal(0, 1, (8, 3, 64, 64)).astype(np.float32)
    found = tuple(moves(model))
    assert len(found) == 24  # two in each of 12 blocks; behind the last one a token is chosen
    changed, _ = rescale(model, channel_maxima(model, found, calibration_set(8, images=Pictures(images))))
    same_answers(model, changed, images)
    assert {weight.name for weight in weights_of(model)} == {weight.name for weight in weights_of(changed)}


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


def test_sizes_over_four_orders_of_magnitude_are_evened() -> None:
    """Left alone, the largest channels, whose weights are the smallest, took all levels from the others."""
    model = chain([node("Relu")])
    spread = np.logspace(0, 4, 8)[::-1]
    known = {tensor.name: tensor for tensor in model.graph.initializer}
    size = maxima_of(model)["b"]
    for name, factor in (("w1", spread / size), ("b1", spread / size), ("w2", size / spread)):
        values = numpy_helper.to_array(known[name])
        shape = (1, 8, 1, 1) if name == "w2" else (8, *[1] * (values.ndim - 1))
        known[name].CopyFrom(numpy_helper.from_array((values * factor.reshape(shape)).astype(np.float32), name))
    maxima = maxima_of(model)
    np.testing.assert_allclose(maxima["b"], spread, rtol=1e-3)
    changed, _ = rescale(model, maxima, alpha=1.0)
    same_answers(model, changed, pictures(4, 1))
    np.testing.assert_allclose(maxima_of(changed)["b"], spread.max(), rtol=1e-3)
