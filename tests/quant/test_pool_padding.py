"""Padding with minus infinity before a MaxPool: the graph without it gives the same values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from fqbench.quant.graph import cleaned
from fqbench.quant.pool_padding import fold_pool_padding

SIDES = st.lists(st.integers(0, 2), min_size=4, max_size=4)


def padded_pool(
    pads: list[int], own: list[int] | None = None, *, value: float = -np.inf, channels: int = 0, **others: object
) -> onnx.ModelProto:
    """Pad, then MaxPool of 3 by 3; ``channels`` are padded, too."""
    widths = np.array([0, channels, *pads[:2], 0, channels, *pads[2:]], dtype=np.int64)
    pooling = {"kernel_shape": [3, 3], "strides": [2, 2], **({} if own is None else {"pads": own}), **others}
    nodes = [
        helper.make_node("Pad", ["x", "widths", "value"], ["padded"], name="pad"),
        helper.make_node("MaxPool", ["padded"], ["y"], name="pool", **pooling),
    ]
    graph = helper.make_graph(
        nodes,
        "padded",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 9, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(widths, "widths"), numpy_helper.from_array(np.float32(value), "value")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def answers(model: onnx.ModelProto) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).normal(size=(2, 3, 9, 8)).astype(np.float32) - 5
    return np.asarray(session.run(None, {"x": images})[0])


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


@settings(deadline=None, max_examples=25)
@given(SIDES, st.none() | SIDES)
def test_the_same_values(pads: list[int], own: list[int] | None) -> None:
    model = padded_pool(pads, own)
    before = answers(model)
    changed = fold_pool_padding(model.graph)
    assert changed == all(width + more < 3 for width, more in zip(pads, own or [0] * 4, strict=True))
    assert operators(model) == (["MaxPool"] if changed else ["Pad", "MaxPool"])
    np.testing.assert_array_equal(answers(model), before)


@pytest.mark.parametrize(
    "model",
    [
        padded_pool([1, 1, 1, 1], value=0.0),
        padded_pool([1, 1, 1, 1], channels=1),
        padded_pool([1, 1, 1, 1], ceil_mode=1),
        padded_pool([-1, 0, 0, 0]),
    ],
    ids=["zeros", "channels", "rounded up", "cropped"],
)
def test_other_padding_stays(model: onnx.ModelProto) -> None:
    assert not fold_pool_padding(model.graph)
    assert operators(model) == ["Pad", "MaxPool"]


def test_padding_that_others_read_stays() -> None:
    model = padded_pool([1, 1, 1, 1])
    model.graph.node.append(helper.make_node("Relu", ["padded"], ["z"], name="relu"))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))
    assert not fold_pool_padding(model.graph)


def test_cleaning_folds_it(tmp_path: Path) -> None:
    onnx.save(padded_pool([0, 0, 1, 1]), tmp_path / "model.onnx")
    assert operators(cleaned(tmp_path / "model.onnx")) == ["MaxPool"]
