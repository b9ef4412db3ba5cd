"""Recipes: overrides by name, type and role; YAML in and out; what matches nothing is an error."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from pydantic import ValidationError

from fqbench.contracts.numerics import Numerics
from fqbench.contracts.qat_parameters import QatParameters
from fqbench.contracts.scheme import Method, Override, Scheme
from fqbench.errors import InputError, PluginError
from fqbench.quant.graph import cleaned
from fqbench.quant.moments import input_moments
from fqbench.quant.plan import make_plan
from fqbench.quant.recipe import read_recipe, resolve, write_recipe
from fqbench.quant.rounding import output_error
from fqbench.quant.weights import weights_of
from fqbench.testing.tiny_model import calibration_set, tiny_model


def squeezed() -> onnx.ModelProto:
    """Conv, a depthwise Conv gated by squeeze-and-excitation, and a Gemm."""
    rng = np.random.default_rng(0)
    weights = {"first": (8, 3, 3, 3), "deep": (8, 1, 3, 3), "down": (2, 8, 1, 1), "up": (8, 2, 1, 1), "head": (8, 4)}
    nodes = [
        helper.make_node("Conv", ["images", "first.weight"], ["a"], "n1", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "deep.weight"], ["b"], "n2", pads=[1, 1, 1, 1], group=8),
        helper.make_node("GlobalAveragePool", ["b"], ["p"], "n3"),
        helper.make_node("Conv", ["p", "down.weight"], ["q"], "n4"),
        helper.make_node("Relu", ["q"], ["r"], "n5"),
        helper.make_node("Conv", ["r", "up.weight"], ["s"], "n6"),
        helper.make_node("Sigmoid", ["s"], ["g"], "n7"),
        helper.make_node("Mul", ["b", "g"], ["m"], "n8"),
        helper.make_node("GlobalAveragePool", ["m"], ["v"], "n9"),
        helper.make_node("Flatten", ["v"], ["f"], "n10"),
        helper.make_node("Gemm", ["f", "head.weight"], ["logits"], "n11"),
    ]
    tensors = [
        numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), f"{name}.weight")
        for name, shape in weights.items()
    ]
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        nodes, "g", [value("images", 1, ["N", 3, 16, 16])], [value("logits", 1, ["N", 4])], tensors
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model)


def test_roles_are_read_from_the_graph() -> None:
    roles = {layer.name: layer.roles for layer in resolve(squeezed(), Scheme()) if layer.weight}
    assert roles == {
        "first": ("first",),
        "deep": ("depthwise",),
        "down": ("squeeze-excite",),
        "up": ("squeeze-excite",),
        "head": ("head",),
    }


@pytest.mark.parametrize(
    ("channels", "shape", "group", "depthwise"),
    [
        (8, (8, 1, 3, 3), 8, True),
        (8, (8, 4, 3, 3), 2, False),  # grouped
        (4, (8, 1, 3, 3), 4, False),  # two outputs for each input
        (1, (1, 1, 3, 3), 1, False),  # a picture in grey to one map
    ],
)
def test_depthwise_is_one_output_channel_for_each_of_several_inputs(
    channels: int, shape: tuple[int, ...], group: int, depthwise: bool
) -> None:
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Conv", ["images", "w"], ["map"], "only", group=group)],
        "g",
        [value("images", 1, ["N", channels, 5, 5])],
        [value("map", 1, ["N", shape[0], 3, 3])],
        [numpy_helper.from_array(np.ones(shape, np.float32), "w")],
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    (layer,) = resolve(model, Scheme())
    assert ("depthwise" in layer.roles) == depthwise
    assert {"first", "head"} <= set(layer.roles)
    assert layer.macs == np.prod(shape) * 3 * 3


def test_costs_are_counted() -> None:
    layers = {layer.name: layer for layer in resolve(squeezed(), Scheme()) if layer.weight}
    assert layers["first"].macs == 8 * 3 * 9 * 16 * 16
    assert layers["deep"].macs == 8 * 9 * 16 * 16
    assert (layers["head"].macs, layers["head"].parameters) == (32, 32)
    assert {layer.macs for layer in resolve(squeezed(), Scheme()) if not layer.weight} == {0}


def test_costs_of_unknown_shapes_are_not_made_up() -> None:
    model = squeezed()
    del model.graph.value_info[:]
    layers = {layer.name: layer.macs for layer in resolve(model, Scheme()) if layer.weight}
    assert layers == {"first": 0, "deep": 0, "down": 0, "up": 0, "head": 32}


def test_the_last_override_that_says_something_counts() -> None:
    scheme = Scheme(
        overrides=(
            Override(op="Conv", bits=4, range_rule="mse"),
            Override(name="d*", bits=2),
            Override(role="squeeze-excite", quantize=False),
            Override(op="Sigmoid", quantize=False),
        )
    )
    layers = {layer.name: layer for layer in resolve(squeezed(), scheme)}
    assert [layers[name].bits for name in ("first", "deep", "down", "up", "head")] == [4, 2, 2, 4, 8]
    assert layers["deep"].range_rule == "mse"
    assert layers["head"].range_rule == "minmax"
    assert {name for name, layer in layers.items() if layer.is_float} == {"down", "up", "n7"}


@pytest.mark.parametrize("override", [Override(name="heda", bits=4), Override(op="ConvTranspose", quantize=False)])
def test_an_override_that_matches_nothing_is_an_error(override: Override) -> None:
    with pytest.raises(InputError, match=r"the override for .* matches no layer of this model"):
        resolve(squeezed(), Scheme(overrides=(override,)))


def test_a_recipe_is_three_lines(tmp_path: Path) -> None:
    file = tmp_path / "hybrid.yaml"
    file.write_text("bits: 4\noverrides:\n- {role: head, quantize: false}\n")
    assert read_recipe(file) == Scheme(bits=4, overrides=(Override(role="head", quantize=False),))


def test_only_what_differs_from_the_defaults_is_written(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    write_recipe(Scheme(bits=4, overrides=(Override(role="head", quantize=False),)), file)
    assert file.read_text() == "bits: 4\noverrides:\n- role: head\n  quantize: false\n"
    write_recipe(Scheme(), file)
    assert file.read_text() == "bits: 8\n", "never an empty file"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bitz: 4", "bitz: Extra inputs.*bits"),
        ("overrides: [{role: haed, bits: 4}]", "overrides.0.role: Input should be 'first'"),
        ("overrides: [{bits: 4}]", "must select its layers"),
        ("overrides: [{role: head}]", "must set at least one of"),
        ("overrides: [{role: head, bitz: 4}]", "overrides.0.bitz: Extra inputs.*bits"),
        ("[1, 2]", "the recipe .* holds no settings; write one"),
    ],
)
def test_a_recipe_that_cannot_be_read(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=message):
        read_recipe(file)


overrides = st.builds(
    Override,
    role=st.sampled_from(["first", "head", "depthwise"]),
    name=st.none() | st.sampled_from(["layer*", "a.b"]),
    bits=st.sampled_from([8, 4, 2]),
    quantize=st.none() | st.booleans(),
)
schemes = st.builds(
    Scheme,
    bits=st.sampled_from([8, 4, 2]),
    act_bits=st.sampled_from([16, 8, 4]),
    range_rule=st.sampled_from(["minmax", "mse", "auto"]),
    overrides=st.lists(overrides, max_size=3).map(tuple),
)


@given(schemes)
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, scheme: Scheme) -> None:
    file = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    write_recipe(scheme, file)
    assert read_recipe(file) == scheme


def test_an_override_is_frozen() -> None:
    with pytest.raises(ValidationError):
        Override(role="head", bits=4).bits = 8


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_plan_follows_the_recipe(symmetric: bool, tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    scheme = Scheme(
        bits=4, overrides=(Override(role="head", quantize=False), Override(role="first", bits=8, act_bits=16))
    )
    plan = make_plan(model, scheme, Numerics.of(scheme, symmetric=symmetric), calibration_set())
    bits = {path: weight.bits for path, weight in plan.by_path().items()}
    assert bits == {"conv1": 8, "conv2": 4}
    assert plan.activations["images"].bits == 16
    assert {one.bits for name, one in plan.activations.items() if name != "images"} == {8}
    assert len(plan.float_nodes) == 1
    for weight in plan.weights.values():
        half = 2 ** (weight.bits - 1)
        assert weight.levels.min() >= -half
        assert weight.levels.max() < half
    if symmetric:
        assert {one.zero_point for one in plan.activations.values()} == {128, 32768}


@pytest.mark.parametrize("bits", [8, 4])
def test_a_reduced_range_is_that_of_seven_bits_and_leaves_fewer_alone(bits: int, tmp_path: Path) -> None:
    model, calibration = tiny_model(tmp_path), calibration_set()
    full, reduced = (
        make_plan(model, scheme, Numerics.of(scheme), calibration)
        for scheme in (Scheme(bits=bits, reduce_range=each, rounding="nearest") for each in (False, True))
    )
    assert {one.bits for one in reduced.weights.values()} == {bits}
    for name, weight in reduced.weights.items():
        if bits == 4:
            np.testing.assert_array_equal(weight.levels, full.weights[name].levels)
        else:
            assert -64 <= weight.levels.min() < -32 < 31 < weight.levels.max() <= 63
            assert full.weights[name].levels.max() > 100


def test_a_model_trained_with_other_activations_is_refused(tmp_path: Path) -> None:
    scheme, model = Scheme(method=Method.QAT), tiny_model(tmp_path)
    learned = QatParameters(8, 8, False, {}, {})
    for trained, message in ((None, "with quantization"), (learned, "with signed activations")):
        with pytest.raises(PluginError, match=f"was not trained {message}"):
            make_plan(replace(model, learned=trained), scheme, Numerics.of(scheme, symmetric=True))
    signed = replace(model, learned=replace(learned, symmetric=True))
    assert make_plan(signed, scheme, Numerics.of(scheme, symmetric=True)).weights == {}


def test_the_plan_is_the_same_for_runtimes_of_the_same_numerics(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    plans = [make_plan(model, Scheme(), Numerics.of(Scheme()), calibration_set()) for _ in range(2)]
    assert plans[0].activations == plans[1].activations
    for name, weight in plans[0].weights.items():
        np.testing.assert_array_equal(weight.levels, plans[1].weights[name].levels)


def test_the_layers_are_those_of_the_cleaned_graph(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    assert len(resolve(cleaned(model.path), Scheme())) == len(cleaned(model.path).graph.node)


@pytest.mark.parametrize("bits", [4, 2])
def test_rounding_from_data_changes_the_layer_less(bits: int, tmp_path: Path) -> None:
    """On the calibration images, no layer's output is changed more than by rounding to nearest."""
    model, calibration = tiny_model(tmp_path), calibration_set()
    plans = {
        rounding: make_plan(model, scheme, Numerics.of(scheme), calibration)
        for rounding in ("nearest", "data")
        for scheme in [Scheme(bits=bits, rounding=rounding)]
    }
    graph = cleaned(model.path)
    floats = {weight.name: weight for weight in weights_of(graph)}
    images = dict.fromkeys(calibration.group_counts, 1.0)
    better = 0
    for moments in input_moments(graph, calibration):
        name, given = moments.weight, moments.weighted(images)
        nearest, data = (plans[rounding].weights[name] for rounding in ("nearest", "data"))
        before, after = (output_error(floats[name].rows, one.scale, one.rows, given).sum() for one in (nearest, data))
        assert after <= before * (1 + 1e-6)
        better += after < 0.9 * before
    assert better >= 2
