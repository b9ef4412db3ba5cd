"""Hard-swish, which cleaning writes out as two operators, is one operator again in OpenVINO's files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from fqbench.backends.openvino.hard_swish import restore_hard_swish
from onnx import TensorProto, helper, numpy_helper

from fqbench import plugins
from fqbench.config import Preprocessing
from fqbench.contracts.artifacts import ExportedModel
from fqbench.contracts.scheme import Scheme
from fqbench.storage import file_digest
from fqbench.testing.planned import write_artifact
from fqbench.testing.tiny_model import calibration_set, onnxruntime_logits, pictures

SIXTH = 1 / 6


def gated(
    *,
    alpha: float = SIXTH,
    beta: float = 0.5,
    gate: str = "x",
    turned: bool = False,
    outputs: tuple[str, ...] = ("y",),
    opset: int = 21,
) -> onnx.ModelProto:
    """A model of y = x * HardSigmoid(gate)."""
    factors = ["x", "g"]
    nodes = [
        helper.make_node("HardSigmoid", [gate], ["g"], "gate", alpha=alpha, beta=beta),
        helper.make_node("Mul", factors[::-1] if turned else factors, ["y"], "product"),
    ]
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8]) for name in ("x", "z")]
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8]) for name in outputs]
    graph = helper.make_graph(nodes, "gated", given, made)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


@pytest.mark.parametrize("turned", [False, True])
def test_a_product_with_its_own_hard_sigmoid_is_one_operator(turned: bool) -> None:
    import onnxruntime

    model = gated(turned=turned)
    values = np.linspace(-5, 5, 8, dtype=np.float32)[None]
    given = {"x": values, "z": values}

    def answer() -> np.ndarray:
        return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(
            None, given
        )[0]

    before = answer()
    assert restore_hard_swish(model) == 1
    assert [(node.op_type, node.name) for node in model.graph.node] == [("HardSwish", "product")]
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_allclose(answer(), before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "model",
    [
        gated(gate="z"),
        gated(alpha=0.2),
        gated(beta=0.4),
        gated(outputs=("y", "g")),
        gated(opset=13),
    ],
    ids=["squeeze-and-excitation", "alpha", "beta", "read elsewhere", "before HardSwish"],
)
def test_what_is_no_hard_swish_stays(model: onnx.ModelProto) -> None:
    before = model.SerializeToString()
    assert restore_hard_swish(model) == 0
    assert model.SerializeToString() == before


def hard_swish_classifier(path: Path) -> ExportedModel:
    """Two convolutions with a hard-swish behind each, pooling and a classifier."""
    rng = np.random.default_rng(0)
    weights = {"a": (16, 3, 3, 3), "b": (16, 16, 3, 3), "c": (2, 16)}
    tensors = [
        numpy_helper.from_array(rng.normal(0, 0.3, shape).astype(np.float32), name) for name, shape in weights.items()
    ]
    nodes = [
        helper.make_node("Conv", ["images", "a"], ["a_out"], "conv_a", pads=[1, 1, 1, 1]),
        helper.make_node("HardSwish", ["a_out"], ["a_act"], "swish_a"),
        helper.make_node("Conv", ["a_act", "b"], ["b_out"], "conv_b", pads=[1, 1, 1, 1]),
        helper.make_node("HardSwish", ["b_out"], ["b_act"], "swish_b"),
        helper.make_node("GlobalAveragePool", ["b_act"], ["pooled"], "pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "c"], ["logits"], "head", transB=1),
    ]
    given = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 32, 32])
    made = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])
    graph = helper.make_graph(nodes, "swishes", [given], [made], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return ExportedModel("swishes", "swishes", path, file_digest(path), ("no", "yes"), Preprocessing(size=32))


def test_openvino_computes_hard_swish_within_the_convolutions(tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed")
    model = hard_swish_classifier(tmp_path / "model.onnx")
    (tmp_path / "out").mkdir()
    backend = plugins.backend("openvino")
    artifact = write_artifact(backend, model, Scheme(range_rule="minmax"), tmp_path / "out", calibration_set())
    operators = Counter(node.op_type for node in onnx.load(tmp_path / "out" / artifact.files[0]).graph.node)
    assert (operators["HardSwish"], operators["HardSigmoid"]) == (2, 0)
    compiled = openvino.Core().compile_model(tmp_path / "out" / artifact.files[0], "CPU")
    layers = [layer.get_rt_info()["layerType"].astype(str) for layer in compiled.get_runtime_model().get_ops()]
    assert not {"HardSigmoid", "Subgraph", "HSwish"} & set(layers), layers
    images = pictures(8, seed=3)
    exact = onnxruntime_logits(model.path, images)
    found = backend.load(artifact, threads=1, device="cpu").run(images)
    assert np.abs(found - exact).max() < 0.1 * np.abs(exact).max()
