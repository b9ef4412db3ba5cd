"""Scales of weights, and biases that take back what rounding shifts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import helper, numpy_helper

from fqbench.config import Preprocessing
from fqbench.contracts.artifacts import ExportedModel
from fqbench.contracts.numerics import IntegerFormat
from fqbench.quant import graph
from fqbench.quant.observe import observe
from fqbench.quant.policies import Policy
from fqbench.quant.ranges import ranges_of
from fqbench.quant.rules import Rule
from fqbench.quant.weights import Weight, correct_biases, rounded, scales, weights_of
from fqbench.testing.tiny_model import calibration_set

rows = hnp.arrays(np.float32, (3, 12), elements=st.floats(-4, 4, width=32, allow_subnormal=False))


@given(rows, st.sampled_from([8, 4, 2]))
@settings(deadline=None)
def test_mse_is_never_worse_than_minmax(weights: np.ndarray, bits: int) -> None:
    errors = {
        rule: ((rounded(weights, scales(weights, bits, rule), bits) - weights) ** 2).sum(axis=1)
        for rule in ("mse", "minmax")
    }
    assert (errors["mse"] <= errors["minmax"] + 1e-6).all()


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_mse_is_as_good_as_brute_force(bits: int) -> None:
    weights = np.random.default_rng(1).standard_t(4, (6, 400)).astype(np.float32)

    def error(scale: np.ndarray) -> np.ndarray:
        return ((rounded(weights, scale, bits) - weights) ** 2).sum(axis=1)

    largest = np.abs(weights).max(axis=1) / (2 ** (bits - 1) - 1)
    best = np.min([error((largest * share).astype(np.float32)) for share in np.linspace(0.1, 1, 500)], axis=0)
    assert (error(scales(weights, bits, "mse")) <= best * 1.05).all()


def test_minmax_is_onnxruntimes() -> None:
    weights = np.random.default_rng(1).normal(size=(4, 9)).astype(np.float32)
    np.testing.assert_allclose(scales(weights, 8, "minmax"), np.abs(weights).max(axis=1) / 127, rtol=1e-6)


def test_a_channel_of_zeros_has_a_scale() -> None:
    assert scales(np.zeros((1, 4), np.float32), 8, "mse")[0] == 1


def convolutions(path: Path) -> ExportedModel:
    """Two Convs, one of them depthwise with stride and padding, and a Gemm; no biases on the first."""
    rng = np.random.default_rng(2)
    weights = {
        "w1": rng.normal(0, 0.4, (8, 3, 3, 3)),
        "w2": rng.normal(0.1, 0.4, (8, 1, 3, 3)),
        "b2": rng.normal(0, 1, 8),
        "w3": rng.normal(0, 0.4, (8, 4)),
        "b3": rng.normal(0, 1, 4),
    }
    nodes = [
        helper.make_node("Conv", ["images", "w1"], ["c1"], "one", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "two", pads=[1, 1, 1, 1], strides=[2, 2], group=8),
        helper.make_node("Relu", ["c2"], ["r2"], "relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["logits"], "head"),
    ]
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        nodes,
        "convolutions",
        [value("images", 1, ["N", 3, 32, 32])],
        [value("logits", 1, ["N", 4])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    onnx.save(helper.make_model(body, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return ExportedModel("m", "m", path, "a" * 64, tuple("abcd"), Preprocessing(size=32))


@pytest.mark.parametrize(("tensor", "name"), [("c1", "w1"), ("c2", "w2"), ("logits", "w3")])
def test_bias_correction_takes_the_mean_shift_back(tensor: str, name: str, tmp_path: Path) -> None:
    """One weight rounded to 4 bits in the float graph: its operator's channel means come back to FP32's."""
    model = convolutions(tmp_path / "m.onnx")
    calibration = calibration_set(48)
    ranges = ranges_of(observe(model, calibration, sample=0), Rule(), Policy(), IntegerFormat())
    images = calibration.images.batch(calibration.rows)
    clean = graph.cleaned(model.path)
    expected = answer(clean, tensor, images)
    weights = {weight.name: weight for weight in weights_of(clean)}
    scale = {other: scales(weight.rows, 4, "minmax") for other, weight in weights.items()}
    rows = {other: rounded(weight.rows, scale[other], 4) for other, weight in weights.items()}
    corrected = onnx.ModelProto()
    corrected.CopyFrom(clean)
    assert correct_biases(corrected, ranges, rows) == 3
    with_weight = replaced(clean, weights[name], scale[name], None)
    with_both = replaced(clean, weights[name], scale[name], bias_of(corrected, name))
    before, after = (np.abs(answer(graph_, tensor, images) - expected).max() for graph_ in (with_weight, with_both))
    assert after < 0.25 * before


@pytest.mark.parametrize(
    ("known", "corrected"), [({"w1", "w2", "w3"}, {"w1", "w2"}), ({"w2", "w3"}, {"w2"}), (set(), set())]
)
def test_what_is_not_rounded_or_takes_no_bias_is_not_corrected(
    known: set[str], corrected: set[str], tmp_path: Path
) -> None:
    """The head is a MatMul here, which has no bias."""
    model = convolutions(tmp_path / "m.onnx")
    proto = onnx.load(model.path)
    head = proto.graph.node[-1]
    head.CopyFrom(helper.make_node("MatMul", ["f", "w3"], ["logits"], "head"))
    onnx.save(proto, model.path)
    ranges = ranges_of(observe(model, calibration_set(8), sample=0), Rule(), Policy(), IntegerFormat())
    clean = graph.cleaned(model.path)
    rows = {one.name: one.rows + np.float32(0.5) for one in weights_of(clean) if one.name in known}
    before = {tensor.name for tensor in clean.graph.initializer}
    assert correct_biases(clean, ranges, rows) == len(corrected)
    new = {tensor.name for tensor in clean.graph.initializer} - before
    assert new == {f"{name}.corrected_bias" for name in corrected}


def bias_of(model: onnx.ModelProto, weight: str) -> onnx.TensorProto:
    node = next(node for node in model.graph.node if len(node.input) > 1 and node.input[1] == weight)
    return next(tensor for tensor in model.graph.initializer if tensor.name == node.input[2])


def replaced(
    model: onnx.ModelProto, weight: Weight, scale: np.ndarray, bias: onnx.TensorProto | None
) -> onnx.ModelProto:
    """The model with one weight rounded and, if given, another bias of its operator."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    new = rounded(weight.rows, scale, 4).reshape(np.moveaxis(weight.values, weight.axis, 0).shape)
    proto = next(tensor for tensor in changed.graph.initializer if tensor.name == weight.name)
    proto.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(np.moveaxis(new, 0, weight.axis)), weight.name))
    if bias is not None:
        node = next(node for node in changed.graph.node if len(node.input) > 1 and node.input[1] == weight.name)
        changed.graph.initializer.append(bias)
        del node.input[2:]
        node.input.append(bias.name)
    return changed


def answer(model: onnx.ModelProto, tensor: str, images: np.ndarray) -> np.ndarray:
    """Channel means of a tensor over images and pixels."""
    from onnx.reference import ReferenceEvaluator

    model, original = onnx.ModelProto(), model
    model.CopyFrom(original)
    if tensor != "logits":
        model.graph.output.append(onnx.ValueInfoProto(name=tensor))
    values = ReferenceEvaluator(model).run([tensor], {"images": images})[0]
    return values.mean(axis=tuple(axis for axis in range(values.ndim) if axis != 1), dtype=np.float64)


def test_a_convolution_over_channels_is_not_corrected(tmp_path: Path) -> None:
    """As in efficient channel attention: its input is a reshaped average, whose channels are its positions."""
    random, value = np.random.default_rng(3), helper.make_tensor_value_info
    nodes = [
        helper.make_node("Conv", ["images", "w1"], ["c1"], "c1"),
        helper.make_node("ReduceMean", ["c1", "axes"], ["pooled"], "pool", keepdims=0),
        helper.make_node("Reshape", ["pooled", "shape"], ["row"], "row"),
        helper.make_node("Conv", ["row", "w2"], ["logits"], "attention", pads=[1, 1]),
    ]
    weights = {"w1": random.normal(size=(4, 3, 3, 3)), "w2": random.normal(size=(1, 1, 3))}
    body = helper.make_graph(
        nodes,
        "attention",
        [value("images", 1, ["N", 3, 32, 32])],
        [value("logits", 1, ["N", 1, 4])],
        [
            *(numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()),
            numpy_helper.from_array(np.array([-1, 1, 4]), "shape"),
            numpy_helper.from_array(np.array([2, 3]), "axes"),
        ],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(body, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    model = ExportedModel("m", "m", path, "a" * 64, tuple("abcd"), Preprocessing(size=32))
    ranges = ranges_of(observe(model, calibration_set(8), sample=0), Rule(), Policy(), IntegerFormat())
    clean = graph.cleaned(path)
    rows = {one.name: one.rows + np.float32(0.5) for one in weights_of(clean)}
    assert rows.keys() == {"w1", "w2"}
    assert correct_biases(clean, ranges, rows) == 1
