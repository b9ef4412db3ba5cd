"""Placement variants of a graph, and the rule that keeps one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from fqbench.contracts.scheme import Override, Scheme
from fqbench.errors import SchemeNotSupported
from fqbench.quant.choice import Trial, settled
from fqbench.quant.graph import cleaned
from fqbench.quant.placement import combined, variants
from fqbench.quant.placement_choice import HOLDS, HOLDS_IN_A_GROUP, PlacementTrial, Speed, best
from fqbench.quant.recipe import resolve


def hard_swish_network() -> onnx.ModelProto:
    """A Conv with hard-swish, a depthwise one gated by squeeze-and-excitation, and a Gemm; 16 channels."""
    rng = np.random.default_rng(0)
    weights = {"first": (16, 3, 3, 3), "deep": (16, 1, 3, 3), "down": (4, 16, 1, 1), "up": (16, 4, 1, 1)}
    weights |= {"wide": (32, 16, 1, 1), "head": (32, 16)}
    nodes = [
        helper.make_node("Conv", ["images", "first.weight"], ["a"], "stem", pads=[1, 1, 1, 1]),
        helper.make_node("HardSigmoid", ["a"], ["h"], "gate[0]"),
        helper.make_node("Mul", ["h", "a"], ["i"], "swish"),
        helper.make_node("Conv", ["i", "deep.weight"], ["b"], "deep", pads=[1, 1, 1, 1], group=16),
        helper.make_node("GlobalAveragePool", ["b"], ["p"], "squeeze"),
        helper.make_node("Conv", ["p", "down.weight"], ["q"], "down"),
        helper.make_node("Relu", ["q"], ["r"], "relu"),
        helper.make_node("Conv", ["r", "up.weight"], ["s"], "up"),
        helper.make_node("HardSigmoid", ["s"], ["g"], "excite"),
        helper.make_node("Mul", ["b", "g"], ["m"], "scale"),
        helper.make_node("Conv", ["m", "wide.weight"], ["w"], "wide"),
        helper.make_node("GlobalAveragePool", ["w"], ["v"], "pool"),
        helper.make_node("Flatten", ["v"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "head.weight"], ["logits"], "classifier"),
    ]
    tensors = [
        numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), f"{name}.weight")
        for name, shape in weights.items()
    ]
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        nodes, "g", [value("images", 1, ["N", 3, 16, 16])], [value("logits", 1, ["N", 16])], tensors
    )
    return onnx.shape_inference.infer_shapes(
        helper.make_model(body, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    )


def test_the_parts_of_each_variant_are_found_in_the_graph() -> None:
    found = {one.name: set(one.nodes) for one in variants(hard_swish_network())}
    assert found["activation functions"] == {"gate[0]", "swish"}
    assert found["squeeze-and-excitation"] == {"squeeze", "down", "relu", "up", "excite", "scale"}
    assert found["first layer"] == {"stem"}
    assert found["head"] == {"classifier"}
    assert found["convolutions under 16 channels"] == {"stem", "down", "up"}  # not the depthwise one
    assert "Softmax and LayerNormalization" not in found
    assert "matrix products under 16" not in found
    computing = {"stem", "deep", "down", "up", "wide", "classifier"}
    assert not found["all but Conv, MatMul, Gemm"] & computing


def test_the_overrides_of_a_variant_select_exactly_its_operators() -> None:
    model = hard_swish_network()
    everything = (*variants(model), combined(variants(model)[:2], model))
    for one in everything:
        assert one is not None
        layers = resolve(model, Scheme(overrides=one.overrides))
        assert {layer.node for layer in layers if layer.is_float} == one.nodes, one.name
    types = next(one for one in everything if one is not None and one.name.startswith("all but")).overrides
    assert all(override.op is not None for override in types)


def test_every_operator_of_a_cleaned_graph_has_a_name_of_its_own(tmp_path: Path) -> None:
    """onnxruntime writes HardSwish out as two operators without names."""
    model = hard_swish_network()
    nodes = [node for node in model.graph.node if node.name not in {"gate[0]", "swish"}]
    nodes.insert(1, helper.make_node("HardSwish", ["a"], ["i"], "swish"))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, tmp_path / "model.onnx")
    graph = cleaned(tmp_path / "model.onnx")
    names = [node.name for node in graph.graph.node]
    assert all(names)
    assert len(set(names)) == len(names)
    found = {one.name: one for one in variants(graph)}
    assert len(found["activation functions"].nodes) == 2
    layers = resolve(graph, Scheme(overrides=found["activation functions"].overrides))
    assert {layer.op for layer in layers if layer.is_float} == {"HardSigmoid", "Mul"}
    assert found["squeeze-and-excitation"].nodes == {"squeeze", "down", "relu", "up", "excite", "scale"}


def test_a_variant_that_leaves_no_weight_to_quantize_is_none() -> None:
    model = hard_swish_network()
    assert combined(variants(model), model) is not None
    rest = [one for one in variants(model) if one.name in {"first layer", "head"}]
    body = helper.make_graph(
        [model.graph.node[0], model.graph.node[-1]], "g", model.graph.input, model.graph.output, model.graph.initializer
    )
    two_layers = helper.make_model(body, opset_imports=model.opset_import)
    assert combined(rest, two_layers) is None
    assert all(len(one.nodes) == 1 for one in variants(two_layers))


def candidate(name: str, p50: float, high: float, divergence: float, agreement: float = 1.0) -> PlacementTrial:
    answers = Trial(name, divergence, divergence, "few", agreement, agreement)
    return PlacementTrial(name, (), Speed(p50, high - 0.05, high - 0.1, high), answers)


def test_a_slow_variant_is_never_kept_however_close() -> None:
    slow, fast = candidate("close", 1.2, 1.01, 0.0), candidate("fast", 0.8, 0.9, 0.5, 0.5)
    kept, why = best((slow, fast), "int8")
    assert kept is fast
    assert "1 are faster" in why
    assert "none of these hold" in why


def test_of_equally_fast_ones_the_closest_is_kept() -> None:
    trials = (candidate("a", 1.0, 0.5, 0.3), candidate("b", 1.04, 0.52, 0.1), candidate("c", 1.2, 0.6, 0.0))
    assert best(trials, "int8")[0].name == "b"


def test_answers_that_do_not_hold_lose_against_slower_ones_that_do() -> None:
    trials = (candidate("wrong", 1.0, 0.5, 0.1, 0.7), candidate("right", 1.9, 0.9, 0.2))
    assert best(trials, "int8")[0].name == "right"


def test_none_faster_than_fp32_is_said_in_one_sentence() -> None:
    with pytest.raises(
        SchemeNotSupported, match=r"no placement of int8 is proved faster than FP32.*of 2, 'b',"
    ) as told:
        best((candidate("a", 1.3, 1.2, 0.0), candidate("b", 1.1, 1.0, 0.0)), "int8")
    assert str(told.value).count(". ") == 0


one_trial = st.builds(
    candidate,
    st.sampled_from("abcdef"),
    st.floats(0.1, 3),
    st.floats(0.1, 2),
    st.floats(0, 1),
    st.floats(0.5, 1),
)


@given(st.lists(one_trial, min_size=1, max_size=8))
def test_what_is_kept_is_faster_and_nothing_beats_it_in_both(trials: list[PlacementTrial]) -> None:
    try:
        kept, _why = best(tuple(trials), "int8")
    except SchemeNotSupported:
        assert all(one.speed is not None and one.speed.high >= 1 for one in trials)
        return
    assert kept.speed is not None
    assert kept.answers is not None
    assert kept.speed.high < 1
    for one in trials:
        assert one.speed is not None
        assert one.answers is not None
        if (
            one.speed.high < 1
            and min(one.answers.agreement / HOLDS, one.answers.worst_agreement / HOLDS_IN_A_GROUP) >= 1
        ):
            faster, closer = one.speed.p50_ms < kept.speed.p50_ms, one.answers.score < kept.answers.score
            assert not (faster and closer)


def test_the_settled_scheme_has_the_overrides_of_the_placement() -> None:
    choice = {
        "range_rule": "mse",
        "bias_correction": "on",
        "rounding": "auto",
        "placement": {"overrides": [{"op": "Sigmoid", "quantize": False}]},
    }
    found = settled(Scheme(range_rule="auto", placement="measured"), choice)
    assert found == Scheme(range_rule="mse", bias_correction="on", overrides=(Override(op="Sigmoid", quantize=False),))
