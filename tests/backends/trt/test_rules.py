"""The rule checker: it passes on what we and NVIDIA write, and finds a planted violation of each rule."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from fqbench.backends.trt.rules import RULES, require_rules, violations
from onnx import TensorProto, helper, numpy_helper

from fqbench.errors import DataError, InputError

Graph = onnx.GraphProto
Break = Callable[[Graph], None]


def constant(name: str, value: object, dtype: type = np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(value, dtype=dtype), name)


def pair(name: str, scale: str, zero: str, **attributes: int) -> list[onnx.NodeProto]:
    return [
        helper.make_node("QuantizeLinear", [name, scale, zero], [f"{name}.q"], f"{name}.Q", **attributes),
        helper.make_node("DequantizeLinear", [f"{name}.q", scale, zero], [f"{name}.dq"], f"{name}.DQ", **attributes),
    ]


def good_graph() -> Graph:
    """A residual block: conv -> relu -> conv -> Add with the quantized input -> relu, then a classifier."""
    rng = np.random.default_rng(0)
    weights = [
        constant("w1.q", rng.integers(-127, 128, (4, 3, 3, 3)), np.int8),
        constant("w2.q", rng.integers(-127, 128, (3, 4, 3, 3)), np.int8),
        constant("w3.q", rng.integers(-127, 128, (3, 2)), np.int8),
        constant("s1", np.full(4, 0.01)),
        constant("s2", np.full(3, 0.01)),
        constant("s3", np.full(2, 0.01)),
        *(constant(f"z{size}", np.zeros(size), np.int8) for size in (2, 3, 4)),
        constant("scale", 0.02),
        constant("zero", 0, np.int8),
        constant("bias", np.zeros(4)),
    ]
    nodes = [
        *pair("images", "scale", "zero"),
        helper.make_node("DequantizeLinear", ["w1.q", "s1", "z4"], ["w1"], "w1.DQ", axis=0),
        helper.make_node("Conv", ["images.dq", "w1", "bias"], ["a"], "conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], "relu1"),
        *pair("b", "scale", "zero"),
        helper.make_node("DequantizeLinear", ["w2.q", "s2", "z3"], ["w2"], "w2.DQ", axis=0),
        helper.make_node("Conv", ["b.dq", "w2"], ["c"], "conv2", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c", "images.dq"], ["d"], "add"),
        helper.make_node("Relu", ["d"], ["e"], "relu2"),
        helper.make_node("ReduceMean", ["e"], ["f"], "pool", keepdims=0),
        *pair("f", "scale", "zero"),
        helper.make_node("DequantizeLinear", ["w3.q", "s3", "z2"], ["w3"], "w3.DQ", axis=1),
        helper.make_node("MatMul", ["f.dq", "w3"], ["logits"], "classifier"),
    ]
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, 8, 8])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 2])
    return helper.make_graph(nodes, "block", [image], [logits], weights)


def node(graph: Graph, name: str) -> onnx.NodeProto:
    return next(one for one in graph.node if one.name == name)


def replace(graph: Graph, tensor: onnx.TensorProto) -> None:
    old = next(one for one in graph.initializer if one.name == tensor.name)
    old.CopyFrom(tensor)


def insert(graph: Graph, before: str, *nodes: onnx.NodeProto) -> None:
    at = [one.name for one in graph.node].index(before)
    for offset, one in enumerate(nodes):
        graph.node.insert(at + offset, one)


def _foreign_domain(graph: Graph) -> None:
    node(graph, "b.Q").domain = "com.microsoft"


def _zero_point_3(graph: Graph) -> None:
    replace(graph, constant("zero", 3, np.int8))


def _unsigned(graph: Graph) -> None:
    replace(graph, constant("zero", 0, np.uint8))


def _no_zero_point(graph: Graph) -> None:
    for name in ("b.Q", "b.DQ"):
        del node(graph, name).input[2]


def _zero_scale(graph: Graph) -> None:
    replace(graph, constant("scale", 0.0))


def _computed_scale(graph: Graph) -> None:
    insert(graph, "b.Q", helper.make_node("ReduceMean", ["b"], ["computed"], "mean", keepdims=0))
    for name in ("b.Q", "b.DQ"):
        node(graph, name).input[1] = "computed"


def _other_scale(graph: Graph) -> None:
    graph.initializer.append(constant("other", 0.03))
    node(graph, "b.DQ").input[1] = "other"


def _integers_leave(graph: Graph) -> None:
    graph.output.append(helper.make_tensor_value_info("b.q", TensorProto.INT8, None))


def _activation_per_channel(graph: Graph) -> None:
    for name in ("b.Q", "b.DQ"):
        node(graph, name).input[1], node(graph, name).input[2] = "s1", "z4"


def _weight_per_tensor(graph: Graph) -> None:
    one = node(graph, "w1.DQ")
    one.input[1], one.input[2] = "scale", "zero"


def _weight_along_its_inputs(graph: Graph) -> None:
    one = node(graph, "w1.DQ")
    one.input[1], one.input[2] = "s2", "z3"
    one.attribute[0].i = 1


def _quantized_bias(graph: Graph) -> None:
    graph.initializer.extend([constant("bias.q", np.ones(4), np.int32), constant("no", 0, np.int32)])
    insert(graph, "conv1", helper.make_node("DequantizeLinear", ["bias.q", "scale"], ["bias.dq"], "bias.DQ"))
    node(graph, "conv1").input[2] = "bias.dq"


def _float_activation(graph: Graph) -> None:
    node(graph, "conv2").input[0] = "b"


def _int4_activation(graph: Graph) -> None:
    graph.initializer.append(helper.make_tensor("zero4", TensorProto.INT4, [], [0]))
    for name in ("b.Q", "b.DQ"):
        node(graph, name).input[2] = "zero4"


def _int4_convolution(graph: Graph) -> None:
    replace(graph, helper.make_tensor("w1.q", TensorProto.INT4, [4, 3, 3, 3], [1] * 108))
    replace(graph, helper.make_tensor("z4", TensorProto.INT4, [4], [0] * 4))


def _between_conv_and_relu(graph: Graph) -> None:
    insert(graph, "relu1", *pair("a", "scale", "zero"))
    node(graph, "relu1").input[0] = "a.dq"


def _on_the_output(graph: Graph) -> None:
    node(graph, "classifier").output[0] = "last"
    graph.node.extend(pair("last", "scale", "zero"))
    graph.node[-1].output[0] = "logits"


def _both_branches(graph: Graph) -> None:
    insert(graph, "add", *pair("c", "scale", "zero"))
    node(graph, "add").input[0] = "c.dq"


PLANTED: tuple[tuple[str, Break], ...] = (
    ("standard_operators", _foreign_domain),
    ("zero_point_is_zero", _zero_point_3),
    ("signed_integers", _unsigned),
    ("signed_integers", _no_zero_point),
    ("scales_are_positive_constants", _zero_scale),
    ("scales_are_positive_constants", _computed_scale),
    ("pairs_agree", _other_scale),
    ("pairs_agree", _integers_leave),
    ("activations_are_per_tensor", _activation_per_channel),
    ("weights_are_per_channel", _weight_per_tensor),
    ("weights_are_per_channel", _weight_along_its_inputs),
    ("biases_are_float", _quantized_bias),
    ("inputs_are_quantized_together", _float_activation),
    ("int4_is_for_weights_of_matrices", _int4_activation),
    ("int4_is_for_weights_of_matrices", _int4_convolution),
    ("activation_functions_stay_fused", _between_conv_and_relu),
    ("activation_functions_stay_fused", _on_the_output),
    ("residual_adds_keep_one_branch_float", _both_branches),
)


def test_a_good_graph_breaks_nothing() -> None:
    assert violations(good_graph()) == []


@pytest.mark.parametrize(("rule", "plant"), PLANTED, ids=[plant.__name__.strip("_") for _rule, plant in PLANTED])
def test_a_planted_violation_is_found(rule: str, plant: Break) -> None:
    graph = good_graph()
    plant(graph)
    assert rule in {found.rule for found in violations(graph)}


def test_every_rule_has_a_planted_violation_and_a_source() -> None:
    assert {rule.__name__ for rule in RULES} == {rule for rule, _plant in PLANTED}
    assert all("Source:" in (rule.__doc__ or "") for rule in RULES)


def test_a_float_graph_breaks_nothing() -> None:
    nodes = [helper.make_node("Relu", ["images"], ["logits"])]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in ("images", "logits")]
    assert violations(helper.make_graph(nodes, "float", value[:1], value[1:])) == []


def test_quantized_float_weights_are_fine(tmp_path: Path) -> None:
    """NVIDIA's quantizer keeps weights in float behind a Q/DQ pair."""
    graph = good_graph()
    graph.initializer.append(constant("w1.float", np.ones((4, 3, 3, 3))))
    pairs = pair("w1.float", "s1", "z4", axis=0)
    insert(graph, "w1.DQ", *pairs)
    node(graph, "conv1").input[1] = "w1.float.dq"
    assert violations(graph) == []


def test_a_file_is_refused_in_one_sentence(tmp_path: Path) -> None:
    graph = good_graph()
    _zero_point_3(graph)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]), tmp_path / "bad.onnx")
    with pytest.raises(DataError, match=r"bad.onnx breaks TensorRT's rules .*zero_point_is_zero: .* \(and 5 more\)"):
        require_rules(tmp_path / "bad.onnx")
    with pytest.raises(InputError, match=r"cannot be read .*; check its path"):
        require_rules(tmp_path / "none.onnx")
