"""Weights of 4 and 2 bits on ONNX Runtime: small on disk, the same integers when loaded, in integer kernels."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from fqbench import plugins
from fqbench.contracts.numerics import Numerics
from fqbench.contracts.runtime import Level
from fqbench.contracts.scheme import Override, Scheme
from fqbench.quant.packed_onnx import widened, write_packed
from fqbench.quant.plan import make_plan
from fqbench.testing.planned import write_artifact
from fqbench.testing.tiny_model import calibration_set, pictures, tiny_model


def integers(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {
        tensor.name.removesuffix("_quantized"): numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.name.endswith("_quantized") and len(tensor.dims) > 1
    }


@pytest.mark.parametrize("bits", [4, 2])
def test_what_runs_are_exactly_the_integers_of_the_plan(bits: int, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    model, scheme = tiny_model(tmp_path / "model"), Scheme(bits=bits)
    plan = make_plan(model, scheme, Numerics.of(scheme), calibration_set())
    artifact = write_artifact(plugins.backend("ort"), model, scheme, tmp_path, calibration_set())
    wide = widened(artifact.main_file)
    assert wide is not None
    found = integers(onnx.load_from_string(wide))
    assert set(found) == set(plan.weights)
    for name, weight in plan.weights.items():
        assert found[name].dtype == np.int8
        np.testing.assert_array_equal(found[name], weight.levels)


@pytest.mark.parametrize(("bits", "lowest"), [(4, -8), (2, -2)])
def test_an_odd_number_of_levels_and_of_zero_points_comes_back(bits: int, lowest: int, tmp_path: Path) -> None:
    levels = np.random.default_rng(0).integers(lowest, -lowest, (3, 5)).astype(np.int8)
    parameters = {"w_quantized": levels, "scale": np.ones(3, np.float32), "zero": np.zeros(3, np.int8)}
    nodes = [
        helper.make_node("DequantizeLinear", list(parameters), ["w"], axis=0),
        helper.make_node("MatMul", ["x", "w"], ["out"]),
    ]
    ends = [helper.make_tensor_value_info(name, 1, ["N", size]) for name, size in (("x", 3), ("out", 5))]
    constants = [numpy_helper.from_array(values, name) for name, values in parameters.items()]
    graph = helper.make_graph(nodes, "odd", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    plan = SimpleNamespace(weights={"w": SimpleNamespace(bits=bits)}, facts={})
    files, _details = write_packed(model, plan, tmp_path / "model.onnx")  # type: ignore[arg-type]
    wide = widened(tmp_path / "model.onnx")
    assert wide is not None
    np.testing.assert_array_equal(integers(onnx.load_from_string(wide))["w"], levels)
    portable = onnx.load(tmp_path / files[-1]).graph.initializer
    assert {tensor.data_type for tensor in portable if tensor.name != "scale"} == {onnx.TensorProto.INT4}
    identity = np.eye(3, dtype=np.float32)
    session = onnxruntime.InferenceSession(tmp_path / files[-1])
    np.testing.assert_array_equal(session.run(None, {"x": identity})[0], levels)


@pytest.mark.parametrize("bits", [4, 2])
def test_they_run_in_integer_kernels(bits: int, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    backend, scheme = plugins.backend("ort"), Scheme(bits=bits)
    artifact = write_artifact(backend, tiny_model(tmp_path / "model"), scheme, tmp_path, calibration_set())
    assert backend.supports(scheme).level is Level.PACKED
    assert backend.load(artifact, threads=1, device="cpu").arithmetic.integer_share == 1.0


@pytest.mark.parametrize("bits", [4, 2])
def test_plain_onnxruntime_loads_the_form_that_the_artifact_names(bits: int, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    artifact = write_artifact(
        plugins.backend("ort"), tiny_model(tmp_path / "model"), Scheme(bits=bits), tmp_path, calibration_set()
    )
    portable = artifact.root / artifact.details.get("portable", artifact.files[0])
    images = pictures(16, seed=1)
    theirs = onnxruntime.InferenceSession(portable).run(None, {"images": images})[0]
    ours = plugins.backend("ort").load(artifact, threads=1, device="cpu").run(images)
    np.testing.assert_allclose(theirs, ours, atol=0.05 * np.abs(ours).max())


def test_the_weights_take_their_bits_on_disk(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    model, sizes = tiny_model(tmp_path / "model"), {}
    for bits in (8, 4, 2):
        out = tmp_path / str(bits)
        out.mkdir()
        artifact = write_artifact(plugins.backend("ort"), model, Scheme(bits=bits), out, calibration_set())
        graph = onnx.load(artifact.main_file).graph
        tensors = [tensor for tensor in graph.initializer if tensor.name.endswith("_quantized")]
        sizes[bits] = sum(
            len(tensor.raw_data) or 4 * len(tensor.int32_data) for tensor in tensors if "weight" in tensor.name
        )
    assert sizes[4] <= 0.55 * sizes[8]
    assert sizes[2] <= 0.3 * sizes[8]


def test_a_float_head_on_a_packed_backbone(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    scheme = Scheme(bits=4, overrides=(Override(role="head", quantize=False),))
    backend = plugins.backend("ort")
    artifact = write_artifact(backend, tiny_model(tmp_path / "model"), scheme, tmp_path, calibration_set())
    assert "classifier.weight" not in integers(onnx.load(artifact.main_file))
    assert 0.9 < backend.load(artifact, threads=1, device="cpu").arithmetic.integer_share < 1.0


@pytest.mark.parametrize("act_bits", [16, 4, 2])
def test_other_activations_are_simulated_with_their_levels(act_bits: int, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    scheme, backend = Scheme(act_bits=act_bits), plugins.backend("ort")
    assert backend.supports(scheme).level is Level.SIMULATED
    artifact = write_artifact(backend, tiny_model(tmp_path / "model"), scheme, tmp_path, calibration_set())
    model = onnx.load(artifact.main_file)
    rounded = next(node for node in model.graph.node if node.op_type == "QuantizeLinear")
    model.graph.output.append(onnx.ValueInfoProto(name=rounded.output[0]))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    levels = session.run([rounded.output[0]], {"images": pictures(64, seed=3)})[0]
    assert len(np.unique(levels)) <= 2**act_bits
    if act_bits < 8:
        assert levels.max() < 2**act_bits
