"""What is written without TensorRT: placement, scales, INT4, the lines to build, and emulation."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from fqbench.backends.trt.cache import read_cache
from fqbench.backends.trt.commands import trtexec
from fqbench.backends.trt.placement import place, write_placed
from fqbench.backends.trt.rules import violations
from fqbench.backends.trt.versions import V10, V11
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fqbench.contracts.artifacts import Artifact, ExportedModel
from fqbench.contracts.numerics import Numerics
from fqbench.contracts.qparams import QParams
from fqbench.contracts.scheme import Method, Scheme
from fqbench.errors import SchemeNotSupported
from fqbench.models.zoo import STUDY
from fqbench.plugins import Abilities, Availability, Backend, Level, Support
from fqbench.quant.graph import cleaned
from fqbench.quant.observe import observe
from fqbench.quant.plan import make_plan
from fqbench.quant.qdq_graph import QdqGraph, residual_branch
from fqbench.quant.ranges import tensor_ranges
from fqbench.testing.backend_suite import BackendSuite
from fqbench.testing.planned import write_artifact
from fqbench.testing.sampling import sampled
from fqbench.testing.study_models import study_model
from fqbench.testing.tiny_model import calibration_set, onnxruntime_logits, pictures, tiny_model
from tests.backends.trt.conftest import Make

SIZE = 64


def emulated() -> Backend:
    """Return the backend as if its emulation were its runtime, for the conformance suite."""
    from fqbench.backends.trt import TensorRtBackend

    class Emulated(TensorRtBackend):
        @property
        def abilities(self) -> Abilities:
            return Abilities(emulator=self)

        def availability(self) -> Availability:
            return Availability(self.emulation(), ("cpu",))

        def supports(self, scheme: Scheme) -> Support:
            support = super().supports(scheme)
            return support if support.level is Level.NO else Support(Level.SIMULATED)

        def load(self, artifact: Artifact, *, threads: int, device: str) -> object:
            if device != "cpu":
                return super().load(artifact, threads=threads, device=device)
            return self.emulate(artifact, threads=threads)

    return Emulated()


class TestEmulatedTensorRt(BackendSuite):
    schemes = (*BackendSuite.schemes, Scheme(bits=4, act_bits=32))

    def backend(self) -> Backend:
        return emulated()

    def require(self, scheme: Scheme) -> None:
        super().require(scheme)
        if scheme.bits == 4:
            pytest.skip("the suite's model has no matrix product that INT4 is for")


def graph_scales(path: Path) -> dict[str, np.float32]:
    """The scale of every quantized activation of a Q/DQ file, by the name of the float tensor."""
    graph = QdqGraph(onnx.load(path).graph)
    return {one.input[0]: np.float32(graph.value(one.input[1])) for one in graph.nodes("QuantizeLinear")}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_scales_in_graph_cache_and_record_are_the_same(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("same")
    model = tiny_model(folder)
    rule = data.draw(st.sampled_from(["minmax", "percentile", "entropy", "mse"]))
    policy = data.draw(st.sampled_from(["as-sampled", "balanced", "minimax"]))
    calibration = calibration_set(n=data.draw(st.integers(4, 12)), seed=data.draw(st.integers(0, 5)))
    scheme = Scheme(range_rule=rule, calib_policy=policy, bias_correction="off")
    out = folder / "out"
    out.mkdir()
    from fqbench.backends.trt import TensorRtBackend

    write_artifact(TensorRtBackend(), model, scheme, out, calibration)
    ranges = tensor_ranges(model, scheme, calibration, symmetric=True).by_name
    in_cache, in_graph = read_cache((out / "calibration.cache").read_text()), graph_scales(out / "model.onnx")
    assert in_graph
    assert set(in_graph) <= set(in_cache) == set(ranges)
    for name, scale in in_graph.items():
        assert scale == in_cache[name] == np.float32(QParams.of(*ranges[name], 8, symmetric=True).scale)
        assert scale == pytest.approx(max(map(abs, ranges[name])) / 127, rel=1e-6)


def test_a_range_of_zero_has_the_scale_one() -> None:
    assert QParams.of(0.0, 0.0, 8, symmetric=True).scale == 1.0


def test_what_has_no_range_stays_in_float(model: ExportedModel, tmp_path: Path) -> None:
    plan = make_plan(model, Scheme(), Numerics.of(Scheme(), symmetric=True), calibration_set())
    bare = dataclasses.replace(plan, activations={"images": plan.activations["images"]})
    write_placed(bare, tmp_path / "qdq.onnx")
    kinds = [node.op_type for node in onnx.load(tmp_path / "qdq.onnx").graph.node]
    assert kinds.count("QuantizeLinear") <= 1


def test_the_artifact_says_that_it_has_no_engine(make: Make, backend: object) -> None:
    artifact = make()
    assert artifact.details["engine"] == "not built here"
    assert artifact.files == ("model.onnx", "calibration.cache", "build.txt")
    assert artifact.details["rules_checked"] == 12
    assert backend.supports(artifact.scheme).level is Level.NATIVE, "what TensorRT does, wherever this runs"
    assert not backend.availability().can_run
    assert "fqbench build" in backend.next_step(artifact)
    assert not backend.built_here(artifact, "cuda")


def test_fp32_is_the_model_itself(make: Make, model: ExportedModel) -> None:
    artifact = make(Scheme.float32())
    assert artifact.main_file.read_bytes() == model.path.read_bytes()
    assert artifact.files == ("model.onnx", "build.txt")


@pytest.mark.parametrize(
    ("scheme", "reason", "nearest"),
    [
        (Scheme(bits=2), "no 2-bit integers", "--bits 8"),
        (Scheme(bits=4), "INT4 is weight-only", "--bits 4 --act-bits 32"),
        (Scheme(act_bits=4), "not with 4-bit ones", "--bits 8"),
        (Scheme(method=Method.PTQ_DYNAMIC), "from constants of the graph", "--bits 8"),
        (Scheme(method=Method.QAT, bits=4), "INT4 is weight-only", "--bits 4 --act-bits 32"),
    ],
)
def test_what_it_cannot_do(backend: object, scheme: Scheme, reason: str, nearest: str) -> None:
    support = backend.supports(scheme)
    assert support.level is Level.NO
    assert reason in support.reason
    assert nearest in support.nearest


def test_int4_without_a_matrix_product(make: Make) -> None:
    with pytest.raises(SchemeNotSupported, match="this model has none with a multiple of 32 rows; try --bits 8"):
        make(Scheme(bits=4, act_bits=32))


def test_the_lines_to_build_by_hand(make: Make) -> None:
    text = (make().root / "build.txt").read_text()
    shapes = "--minShapes=images:1x3x32x32 --optShapes=images:32x3x32x32 --maxShapes=images:32x3x32x32"
    ten, eleven, implicit = (line for line in text.splitlines() if line.startswith("trtexec"))
    assert ten.startswith(f"trtexec --onnx=model.onnx --stronglyTyped {shapes}")
    assert eleven.startswith(f"trtexec --onnx=model.onnx {shapes}")
    assert implicit.startswith(f"trtexec --onnx=fp32.onnx --int8 --calib=calibration.cache {shapes}")
    assert "fqbench build ID" in text


@pytest.mark.parametrize("explicit", [True, False])
def test_no_flag_that_11_removed(explicit: bool) -> None:
    """Migrating trtexec usage: --int8, --calib, --fp16 and the others are gone; strong typing has no switch."""
    removed = r"--(int8|fp16|bf16|fp8|int4|best|calib|stronglyTyped)"
    assert not re.search(removed, trtexec(V11, "m.onnx", "x", (3, 8, 8), largest=2, explicit=explicit))
    assert re.search(removed, trtexec(V10, "m.onnx", "x", (3, 8, 8), largest=2, explicit=explicit))


def test_emulation_is_close_to_fp32_and_says_what_it_is(make: Make, model: ExportedModel, backend: object) -> None:
    images = pictures(32, seed=8)
    session = backend.emulate(make(), threads=1)
    reference = onnxruntime_logits(model.path, images)
    assert np.abs(session.run(images) - reference).mean() < 0.05 * reference.std()
    assert session.arithmetic.uncounted == ("emulated",)
    assert re.fullmatch(r"onnxruntime \d+\.\d+\.\d+", backend.emulation())


def residual(longer: str) -> QdqGraph:
    from onnx import TensorProto, helper, numpy_helper

    names = ["w0", "w1", "w2", "w3"]
    weights = [numpy_helper.from_array(np.ones((3, 3, 1, 1), np.float32), name) for name in names]
    main = "b" if longer == "left" else "c"
    other = "c" if longer == "left" else "b"
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"]),
        helper.make_node("Conv", ["a", "w1"], ["m"]),
        helper.make_node("Conv", ["m", "w2"], [main]),
        helper.make_node("Conv", ["a", "w3"], [other]),
        helper.make_node("Add", ["b", "c"], ["d"], "add"),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3, 4, 4]) for name in ("x", "d")]
    return QdqGraph(helper.make_graph(nodes, "r", values[:1], values[1:], weights))


@pytest.mark.parametrize(("longer", "quantized"), [("left", "c"), ("right", "b")])
def test_of_two_convolutions_the_shorter_branch_is_quantized(longer: str, quantized: str) -> None:
    graph = residual(longer)
    assert residual_branch(graph, next(graph.nodes("Add"))) == quantized


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> object:
    made: dict[str, ExportedModel] = {}

    def get(name: str) -> ExportedModel:
        if name not in made:
            made[name] = study_model(name, tmp_path_factory.mktemp(name), size=SIZE)
        return made[name]

    return get


class Noise:
    """Images for 64 pixels."""

    def __len__(self) -> int:
        return 8

    def batch(self, rows: np.ndarray) -> np.ndarray:
        rng = np.random.default_rng(3)
        return rng.normal(0, 1, (8, 3, SIZE, SIZE)).astype(np.float32)[rows]


@pytest.mark.slow
@pytest.mark.parametrize("name", sampled(STUDY))
def test_the_studys_models_obey_the_rules(name: str, study: object, backend: object, tmp_path: Path) -> None:
    model = study(name)
    calibration = calibration_set(n=8, images=Noise())
    artifact = write_artifact(backend, model, Scheme(bias_correction="off"), tmp_path, calibration)
    graph = onnx.load(artifact.main_file).graph
    assert violations(graph) == []
    convolutions = sum(one.op_type == "Conv" for one in graph.node)
    expected = {"resnet50": 53, "mobilenet_v2": 52, "efficientnet_b0": 81, "vit_small": 1, "squeezenet1_1": 26}
    assert convolutions == expected[name]
    read_by_conv = {one.input[0] for one in graph.node if one.op_type == "Conv"}
    assert all(QdqGraph(graph).dequantized_from(tensor) is not None for tensor in read_by_conv)
    images = Noise().batch(np.arange(8))
    answers = backend.emulate(artifact, threads=1).run(images)
    reference = onnxruntime_logits(model.path, images)
    assert np.isfinite(answers).all()
    noise = np.abs(answers - reference).mean() / (reference.std() + 1e-9)
    assert noise < 1.0, f"emulated {name} differs from FP32 by {noise:.2f} standard deviations of its logits"


@pytest.mark.slow
def test_residual_adds_of_resnet_and_mobilenet(study: object) -> None:
    resnet, mobilenet = (place(cleaned(study(name).path).graph) for name in ("resnet50", "mobilenet_v2"))
    assert len(resnet.residuals) == 4, "the four shortcuts with a convolution; the others are a convolution's input"
    assert not resnet.gates
    assert len(mobilenet.residuals) == 0, "every shortcut is the next block's input, and quantized for it"
    assert list(resnet.left_out.values()) == ["at batch 1 it multiplies a vector"]


@pytest.mark.slow
def test_squeeze_and_excitation_is_quantized_and_silu_is_not(study: object) -> None:
    placement = place(cleaned(study("efficientnet_b0").path).graph)
    assert len(placement.gates) == 32, "the map and the sigmoid of each of 16 blocks"
    assert len(placement.operators) == 81


@pytest.mark.slow
def test_int4_is_for_the_transformers_matrices(study: object, backend: object, tmp_path: Path) -> None:
    scheme = Scheme(bits=4, act_bits=32, rounding="nearest")
    artifact = write_artifact(backend, study("vit_small"), scheme, tmp_path, calibration_set(8, images=Noise()))
    graph = onnx.load(artifact.main_file).graph
    assert sum(one.op_type == "DequantizeLinear" for one in graph.node) == 48
    assert violations(graph) == []
    assert artifact.main_file.stat().st_size < study("vit_small").path.stat().st_size / 3
    answers = backend.emulate(artifact, threads=1).run(Noise().batch(np.arange(4)))
    assert np.isfinite(answers).all()


def test_the_record_is_used_and_observed_once(
    make: Make, model: ExportedModel, backend: object, tmp_path: Path
) -> None:
    import dataclasses

    class Counting:
        calls = 0

        def __len__(self) -> int:
            return 8

        def batch(self, rows: np.ndarray) -> np.ndarray:
            Counting.calls += 1
            return pictures(8, seed=1)[rows]

    calibration = calibration_set(n=8, images=Counting())
    calibration = dataclasses.replace(calibration, record=observe(model, calibration))
    seen = Counting.calls
    write_artifact(backend, model, Scheme(bias_correction="off"), tmp_path, calibration)
    assert Counting.calls == seen
