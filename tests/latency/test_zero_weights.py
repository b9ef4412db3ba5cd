"""Weights of zeros are refused as a subject of latency; trained ones and pruned channels are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fqbench.errors import DataError, InputError
from fqbench.latency.zero_weights import refuse_zero_weights
from fqbench.testing.tiny_model import tiny_model

GENERATOR = np.random.default_rng(0)
WEIGHTS = {
    "conv.weight": GENERATOR.normal(size=(4, 3, 3, 3)),
    "bn.scale": np.ones(4),
    "bn.bias": np.zeros(4),
    "bn.mean": np.zeros(4),
    "bn.var": np.ones(4),
    "fc.weight": GENERATOR.normal(size=(2, 4)),
    "fc.bias": np.zeros(2),
}


def save(
    path: Path, *, zero: str = "", transposed: bool = False, constant: bool = False, external: bool = False
) -> Path:
    weights = {name: np.asarray(array * (name != zero), np.float32) for name, array in WEIGHTS.items()}
    last = "fc.transposed" if transposed else "fc.weight"
    nodes = [
        helper.make_node("Conv", ["images", "conv.weight"], ["c"], "conv"),
        helper.make_node("BatchNormalization", ["c", "bn.scale", "bn.bias", "bn.mean", "bn.var"], ["b"], "bn"),
        helper.make_node("GlobalAveragePool", ["b"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
    ]
    if transposed:
        nodes += [
            helper.make_node("Transpose", ["fc.weight"], [last], perm=[1, 0]),
            helper.make_node("MatMul", ["f", last], ["logits"], "fc"),
        ]
    else:
        nodes.append(helper.make_node("Gemm", ["f", last, "fc.bias"], ["logits"], "fc", transB=1))
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    if constant:
        nodes = [*(helper.make_node("Constant", [], [t.name], value=t) for t in tensors), *nodes]
        tensors = []
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 2])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    options = {"save_as_external_data": True, "location": "weights.data", "size_threshold": 0} if external else {}
    onnx.save(model, path, **options)
    return path


@pytest.mark.parametrize("form", [{}, {"transposed": True}, {"constant": True}, {"external": True}])
def test_drawn_weights_pass_though_biases_are_zero(tmp_path: Path, form: dict[str, bool]) -> None:
    refuse_zero_weights(save(tmp_path / "m.onnx", **form))


@pytest.mark.parametrize("form", [{}, {"transposed": True}, {"constant": True}, {"external": True}])
@pytest.mark.parametrize(
    ("zero", "node"),
    [("conv.weight", "Conv 'conv'"), ("bn.scale", "BatchNormalization 'bn'"), ("fc.weight", "(Gemm|MatMul) 'fc'")],
)
def test_zeros_are_refused_by_name(tmp_path: Path, zero: str, node: str, form: dict[str, bool]) -> None:
    path = save(tmp_path / "m.onnx", zero=zero, **form)
    with pytest.raises(
        DataError, match=f"m.onnx cannot be timed: '{zero}', a weight of {node}, is all zeros"
    ) as caught:
        refuse_zero_weights(path)
    assert "train the model" in str(caught.value)
    assert caught.value.exit_code == 4


def test_pruned_channels_are_not_untrained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pruned = WEIGHTS["conv.weight"].copy()
    pruned[1:] = 0
    monkeypatch.setitem(WEIGHTS, "conv.weight", pruned)
    refuse_zero_weights(save(tmp_path / "m.onnx"))


def test_model_of_the_suite_is_trained_enough(tmp_path: Path) -> None:
    refuse_zero_weights(tiny_model(tmp_path).path)


def test_missing_and_damaged_models_are_wrong_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        refuse_zero_weights(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"\xff\xffnot a model")
    with pytest.raises(InputError, match=r"bad\.onnx is not an ONNX model"):
        refuse_zero_weights(tmp_path / "bad.onnx")


def test_lost_external_data_are_wrong_input(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", external=True)
    (tmp_path / "weights.data").unlink()
    with pytest.raises(InputError, match=r"m\.onnx"):
        refuse_zero_weights(path)
