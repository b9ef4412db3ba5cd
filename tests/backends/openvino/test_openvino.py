"""OpenVINO: the conformance suite, the plan's integers in its graph, and its answers against onnxruntime's."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from fqbench.backends.openvino import placement
from fqbench.backends.openvino.arithmetic import Executed, count_macs
from fqbench.backends.openvino.lifting import lift
from fqbench.backends.openvino.placement import operators, residuals
from onnx import TensorProto, helper, numpy_helper

from fqbench import plugins
from fqbench.contracts.artifacts import Artifact
from fqbench.contracts.numerics import Numerics
from fqbench.contracts.plan import QuantizationPlan
from fqbench.contracts.qparams import QParams
from fqbench.contracts.scheme import Method, Override, Scheme
from fqbench.errors import InputError, UnavailableError
from fqbench.latency.protocol import Subject, measure
from fqbench.latency.results import SubjectFacts
from fqbench.latency.steadiness import Doubt
from fqbench.plugins import Backend
from fqbench.quant.packed_onnx import widened
from fqbench.quant.plan import make_plan
from fqbench.report.latency import latency_document
from fqbench.testing.backend_suite import SCHEMES, BackendSuite
from fqbench.testing.planned import write_artifact
from fqbench.testing.sums import exact
from fqbench.testing.tiny_model import calibration_set, onnxruntime_logits, pictures, tiny_model


class TestConformance(BackendSuite):
    schemes = (*SCHEMES, Scheme(method=Method.QAT, bits=4))

    def backend(self) -> Backend:
        return plugins.backend("openvino")


def written(scheme: Scheme, folder: Path, backend: str = "openvino") -> Artifact:
    source, out = folder / "model", folder / backend
    for each in (source, out):
        each.mkdir(exist_ok=True)
    return write_artifact(plugins.backend(backend), tiny_model(source), scheme, out, calibration_set())


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_what_is_compiled_are_exactly_the_integers_of_the_plan(bits: int, tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino", reason="openvino is not installed")
    scheme = Scheme(bits=bits)
    artifact = written(scheme, tmp_path)
    plan = make_plan(tiny_model(tmp_path / "model"), scheme, Numerics.of(scheme), calibration_set())
    model = openvino.Core().read_model(widened(artifact.main_file) or artifact.main_file)
    constants = [node for node in model.get_ops() if node.get_type_name() == "Constant"]
    integers = [node.data for node in constants if node.get_element_type() == openvino.Type.i8 and node.data.ndim > 1]
    assert len(integers) == len(plan.weights) == 3
    for weight in plan.weights.values():
        assert any(np.array_equal(found, weight.levels) for found in integers), weight.name


@pytest.mark.parametrize(("bits", "least", "most"), [(32, 0.0, 0.0), (8, 0.9, 1.0), (4, 0.9, 1.0), (2, 0.9, 1.0)])
def test_the_integer_share(bits: int, least: float, most: float, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    artifact = written(Scheme.float32() if bits == 32 else Scheme(bits=bits), tmp_path)
    arithmetic = plugins.backend("openvino").load(artifact, threads=1, device="cpu").arithmetic
    assert not arithmetic.uncounted
    assert least <= arithmetic.integer_share <= most


def test_a_broken_placement_is_seen_in_the_share_and_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes at the classifier alone, though the scheme asks for integers everywhere."""
    pytest.importorskip("openvino", reason="openvino is not installed")
    monkeypatch.setattr(placement, "operators", lambda graph: tuple(n.name for n in graph.node if n.op_type == "Gemm"))
    session = plugins.backend("openvino").load(written(Scheme(), tmp_path), threads=1, device="cpu")
    assert 0 <= session.arithmetic.integer_share < 0.05
    subject = Subject("broken", "broken", session, facts=SubjectFacts(quantized=True))
    report = measure([subject], pictures(2, seed=1), rounds=5, seconds=0, replicates=100)
    (mark,) = [one for one in report["broken"].marks if one.doubt is Doubt.FLOAT_KERNELS]
    assert mark.figure == f"{session.arithmetic.integer_share:.1%}"
    assert "integer kernels" in latency_document(report).sheets[1].notes[0].text


def test_a_head_left_in_float_is_seen_in_the_share(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    artifact = written(Scheme(overrides=(Override(op="Conv", quantize=False),)), tmp_path)
    assert plugins.backend("openvino").load(artifact, threads=1, device="cpu").arithmetic.integer_share < 0.1


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_answers_are_those_of_the_graph(bits: int, tmp_path: Path) -> None:
    """Executed as it stands by onnxruntime: the same argmax, and logits up to a step of one rounding (2 %)."""
    pytest.importorskip("openvino", reason="openvino is not installed")
    artifact, images = written(exact(Scheme(bits=bits)), tmp_path), pictures(256, seed=21)
    graph = artifact.root / artifact.details.get("portable", artifact.files[0])
    ours = plugins.backend("openvino").load(artifact, threads=1, device="cpu").run(images)
    theirs = _unfused(graph, images)
    assert (ours.argmax(axis=1) == theirs.argmax(axis=1)).mean() >= 0.99
    assert np.abs(ours - theirs).max() <= 0.02 * np.abs(theirs).max()


def test_8_bits_agree_with_the_ort_backend_on_one_plan(tmp_path: Path) -> None:
    """They differ where ort rounds the logits to 8 bits of their calibrated range; OpenVINO leaves them in float."""
    pytest.importorskip("openvino", reason="openvino is not installed")
    images, answers = pictures(256, seed=22), {}
    for name in ("openvino", "ort"):
        artifact = written(exact(Scheme(range_rule="minmax")), tmp_path, name)
        answers[name] = plugins.backend(name).load(artifact, threads=1, device="cpu").run(images)
    low, high = answers["ort"].min(axis=0), answers["ort"].max(axis=0)
    inside = np.clip(answers["openvino"], low, high)
    assert (answers["openvino"].argmax(axis=1) == answers["ort"].argmax(axis=1)).mean() >= 0.97
    assert np.abs(inside - answers["ort"]).max() <= 0.05 * np.abs(answers["ort"]).max()


def test_fp32_is_not_computed_in_bf16(tmp_path: Path) -> None:
    """On a CPU with AMX or AVX512-BF16, OpenVINO by itself is off by a percent."""
    pytest.importorskip("openvino", reason="openvino is not installed")
    artifact, images = written(Scheme.float32(), tmp_path), pictures(64, seed=23)
    answers = plugins.backend("openvino").load(artifact, threads=1, device="cpu").run(images)
    reference = onnxruntime_logits(artifact.main_file, images)
    assert np.abs(answers - reference).max() <= 1e-5 * np.abs(reference).max()


def test_devices_that_are_unknown_or_absent(tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino", reason="openvino is not installed")
    artifact, backend = written(Scheme.float32(), tmp_path), plugins.backend("openvino")
    with pytest.raises(InputError, match="knows no device 'cuda'; choose one of: cpu, gpu, npu"):
        backend.load(artifact, threads=1, device="cuda")
    if "NPU" in openvino.Core().available_devices:
        pytest.skip("this machine has an NPU")
    with pytest.raises(UnavailableError, match="OpenVINO sees no npu here"):
        backend.load(artifact, threads=1, device="npu")


def test_an_operator_that_openvino_does_not_know_is_named(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    nodes = [
        helper.make_node("Det", ["images"], ["sizes"], "odd"),
        helper.make_node("Gemm", ["sizes", "w"], ["logits"], "head"),
    ]
    given = [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 32, 32])]
    made = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])]
    weight = numpy_helper.from_array(np.ones((3, 2), np.float32), "w")
    graph = helper.make_graph(nodes, "odd", given, made, [weight])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), tmp_path / "model.onnx"
    )
    onnxruntime_logits(tmp_path / "model.onnx", pictures(1, seed=1))  # another runtime knows it
    artifact = Artifact("openvino", Scheme.float32(), tmp_path, ("model.onnx",), {"input_shape": [3, 32, 32]})
    with pytest.raises(UnavailableError, match=r"no operator Det-21, which openvino fp32 needs; use another") as said:
        plugins.backend("openvino").load(artifact, threads=1, device="cpu")
    assert said.value.exit_code == 3


def test_a_damaged_model_cache_is_made_again(tmp_path: Path) -> None:
    """As one of another CPU or version would be: OpenVINO checks what it wrote."""
    pytest.importorskip("openvino", reason="openvino is not installed")
    artifact, images, cache = written(Scheme(), tmp_path), pictures(4, seed=25), tmp_path / "cache"
    backend = plugins.backend("openvino", {"cache_dir": cache})
    first = backend.load(artifact, threads=1, device="cpu").run(images)
    blobs = [file for file in cache.rglob("*") if file.is_file()]
    assert blobs
    for file in blobs:
        file.write_bytes(b"of another machine")
    np.testing.assert_array_equal(backend.load(artifact, threads=1, device="cpu").run(images), first)


def test_without_openvino_artifacts_are_written_and_the_command_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    backend, artifact = plugins.backend("openvino"), written(Scheme(), tmp_path)
    available = backend.availability()
    assert (available.can_run, available.can_write) == (False, True)
    assert "fqbench[openvino]" in available.remedy
    with pytest.raises(UnavailableError, match=r"openvino is not installed; run: pip install 'fqbench\[openvino\]'"):
        backend.load(artifact, threads=1, device="cpu")


def test_the_model_cache_is_filled_and_read(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    artifact, images, cache = written(Scheme(), tmp_path), pictures(4, seed=24), tmp_path / "cache"
    backend = plugins.backend("openvino", {"cache_dir": cache, "streams": 2})
    first = backend.load(artifact, threads=2, device="cpu")
    assert any(cache.iterdir())
    again = backend.load(artifact, threads=2, device="cpu")
    np.testing.assert_array_equal(again.run(images), first.run(images))
    assert again.arithmetic == first.arithmetic


def test_macs_are_counted_by_kernel() -> None:
    nodes = [
        Executed("Convolution", "u8", ((1, 3, 8, 8), (16, 3, 3, 3)), (1, 16, 8, 8)),
        Executed("Convolution", "f32", ((1, 16, 8, 8), (16, 1, 1, 3, 3)), (1, 16, 8, 8)),
        Executed("Deconvolution", "f32", ((1, 16, 8, 8), (16, 4, 2, 2)), (1, 4, 16, 16)),
        Executed("FullyConnected", "i8", ((1, 7, 32), (10, 32)), (1, 7, 10)),
        Executed("MatMul", "f32", ((2, 5, 7), (2, 7, 3)), (2, 5, 3)),
        Executed("MatMul", "f32", ((2, 5, 7), (2, 9, 7)), (2, 5, 9)),
        Executed("Subgraph", "f32", ((1, 5),), (1, 5), ("gelu", "add")),
    ]
    integer = 16 * 64 * 27 + 7 * 10 * 32
    floats = 16 * 64 * 9 + 16 * 64 * 4 * 4 + 2 * 5 * 3 * 7 + 2 * 5 * 9 * 7
    found = count_macs(nodes, {"scores"})
    assert (found.integer_macs, found.total_macs, found.uncounted) == (integer, integer + floats, ())
    fused = Executed("Subgraph", "f32", ((1, 5),), (1, 5), ("softmax", "scores"))
    assert count_macs([*nodes, fused], {"scores"}).uncounted == ("Subgraph",)


def test_the_product_with_a_softmax_stays_in_float() -> None:
    nodes = [
        helper.make_node("MatMul", ["q", "k"], ["scores"], "scores"),
        helper.make_node("Softmax", ["scores"], ["shares"], "softmax"),
        helper.make_node("Transpose", ["shares"], ["turned"], "turn"),
        helper.make_node("MatMul", ["turned", "v"], ["mixed"], "mix"),
        helper.make_node("MatMul", ["mixed", "w"], ["out"], "project"),
    ]
    weight = numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, 4]) for name in ("q", "k", "v")]
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 4, 4])]
    assert operators(helper.make_graph(nodes, "attention", inputs, outputs, [weight])) == ("scores", "project")


def test_only_inputs_of_operators_that_multiply_are_quantized(tmp_path: Path) -> None:
    graph = onnx.load(written(Scheme(), tmp_path).main_file).graph
    quantized = [node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"]
    assert set(quantized) == {"images", "relu1", "pooled"}, "of the flattened features, where they are computed"


BRANCHES = [
    helper.make_node("Conv", ["images", "w"], ["start"], "start"),
    helper.make_node("Relu", ["start"], ["a"], "relu_a"),
    helper.make_node("Sigmoid", ["images"], ["b"], "bend"),
    helper.make_node("Concat", ["a", "b"], ["both"], "join", axis=1),
    helper.make_node("MaxPool", ["both"], ["pooled"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
    helper.make_node("QuantizeLinear", ["pooled", "scale", "zero"], ["levels"], "quantize"),
    helper.make_node("DequantizeLinear", ["levels", "scale", "zero"], ["rounded"], "dequantize"),
    helper.make_node("Conv", ["rounded", "v"], ["logits"], "end"),
]


def branches(*further: onnx.NodeProto, outputs: tuple[str, ...] = ("logits",)) -> onnx.ModelProto:
    rng = np.random.default_rng(3)
    values = {
        "w": rng.normal(size=(4, 4, 1, 1)).astype(np.float32),
        "v": rng.normal(size=(4, 8, 1, 1)).astype(np.float32),
        "scale": np.float32(0.02),
        "zero": np.uint8(3),
    }
    given = [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 4, 8, 8])]
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", "c", "h", "w"]) for name in outputs]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]
    graph = helper.make_graph([*BRANCHES, *further], "branches", given, made, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def test_quantization_moves_up_to_what_computes_and_changes_no_answer() -> None:
    images, answers, model = np.random.default_rng(4).normal(size=(1, 4, 8, 8)).astype(np.float32), [], branches()
    for moves in (0, 2):
        if moves:
            assert lift(model.graph) == moves, "past the pooling, and past the concatenation"
        onnx.checker.check_model(model, full_check=True)
        answers.append(_unfused(model.SerializeToString(), images))
    quantized = [node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert quantized == ["a", "b"]
    np.testing.assert_array_equal(answers[1], answers[0])
    assert lift(model.graph) == 0


@pytest.mark.parametrize(
    ("further", "outputs", "moves", "left"),
    [
        ([helper.make_node("Relu", ["pooled"], ["other"], "reader")], ("logits", "other"), 0, ["pooled"]),
        ([], ("logits", "pooled"), 0, ["pooled"]),
        ([helper.make_node("Relu", ["a"], ["other"], "reader")], ("logits", "other"), 1, ["both"]),
    ],
)
def test_quantization_stays_behind_what_somebody_else_reads_in_float(
    further: list[onnx.NodeProto], outputs: tuple[str, ...], moves: int, left: list[str]
) -> None:
    model = branches(*further, outputs=outputs)
    assert lift(model.graph) == moves
    assert [node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"] == left


def test_of_a_residual_add_both_branches_are_quantized() -> None:
    weight = numpy_helper.from_array(np.ones((4, 4, 1, 1), np.float32), "w")
    nodes = [
        helper.make_node("Relu", ["images"], ["start"], "start"),
        helper.make_node("Sigmoid", ["start"], ["bent"], "bend"),
        helper.make_node("Conv", ["bent", "w"], ["branch"], "conv"),
        helper.make_node("Add", ["branch", "start"], ["sum"], "add"),
    ]
    images = [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 4, 8, 8])]
    outputs = [helper.make_tensor_value_info("sum", TensorProto.FLOAT, [1, 4, 8, 8])]
    model = helper.make_model(helper.make_graph(nodes, "residual", images, outputs, [weight]))
    ranges = {name: QParams.of(0.0, 6.0, 8) for name in ("images", "start", "bent", "branch", "sum")}
    assert residuals(QuantizationPlan(model, ranges, {}, ())) == ("branch", "start")
    without = {name: one for name, one in ranges.items() if name != "start"}
    assert residuals(QuantizationPlan(model, without, {}, ())) == ("branch",)


def _unfused(model: Path | bytes, images: np.ndarray) -> np.ndarray:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    logits: np.ndarray = session.run(None, {"images": images})[0]
    return logits
