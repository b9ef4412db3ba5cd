"""Build, calibrate, load and run engines, with strict doubles of TensorRT 10 and 11 and of pycuda."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
from fqbench.backends.trt.options import TensorRtOptions

from fqbench.contracts.artifacts import Artifact, ExportedModel
from fqbench.contracts.scheme import Scheme
from fqbench.errors import DataError, InputError, UnavailableError
from fqbench.plugins import BuildSource, Level
from fqbench.testing.tiny_model import calibration_set, pictures
from tests.backends.trt.conftest import Make, install
from tests.backends.trt.world import World

OPTIONS = TensorRtOptions(max_batch=4)
V10 = pytest.mark.parametrize("version", ["10.16.1"])
V11 = pytest.mark.parametrize("version", ["11.1.0"])


def build(backend: object, artifact: Artifact, out: Path, **given: object) -> Artifact:
    out.mkdir()
    backend.options = given.get("options", OPTIONS)
    model, calibration = given.get("model"), given.get("calibration")
    source = None if model is None else BuildSource(model, lambda: calibration)
    timings = given.get("timing_cache")
    return backend.abilities.builder.build(artifact, out, device="cuda", source=source, timing_cache=timings)


@pytest.fixture
def built(world: World, backend: object, make: Make, tmp_path: Path) -> Artifact:
    return build(backend, make(), tmp_path / "built")


def test_it_is_usable_and_native_where_tensorrt_is(world: World, backend: object) -> None:
    available = backend.availability()
    assert available.can_run
    assert (available.version, available.devices) == (world.version, ("cuda",))
    assert backend.supports(Scheme()).level is Level.NATIVE


def test_an_engine_answers_as_its_graph_does(world: World, built: Artifact, backend: object) -> None:
    images = pictures(11, seed=5)
    session = backend.load(built, threads=1, device="cuda")
    expected = backend.emulate(built, threads=1).run(images)
    np.testing.assert_allclose(session.run(images), expected, atol=1e-5)  # 11 images: batches of 4, 4 and 3
    assert session.run(images[:1]).shape == (1, 4)
    session.close()


def test_each_call_copies_computes_and_copies_back_in_order(world: World, built: Artifact, backend: object) -> None:
    session = backend.load(built, threads=1, device="cuda")
    world.journal.clear()
    session.run(pictures(2, seed=6))
    order = ["event", "h2d", "event", "execute", "event", "d2h", "event", "synchronize"]
    assert world.journal == order
    assert set(session.phases()) == {"H2D", "compute", "D2H"}
    assert all(value > 0 for value in session.phases(last=1).values())
    session.close()


def test_integer_share_comes_from_the_engine_inspector(
    world: World, backend: object, make: Make, tmp_path: Path
) -> None:
    quantized = backend.load(build(backend, make(), tmp_path / "q"), threads=1, device="cuda")
    single = backend.load(build(backend, make(Scheme.float32()), tmp_path / "f"), threads=1, device="cuda")
    convolutions = 3 * 16 * 9 * 16 * 16 + 16 * 32 * 9 * 8 * 8
    assert (quantized.arithmetic.integer_macs, quantized.arithmetic.total_macs) == (convolutions, convolutions)
    assert (single.arithmetic.integer_macs, single.arithmetic.total_macs) == (0, convolutions)


def test_the_manifest_says_what_the_engine_was_built_for(world: World, built: Artifact) -> None:
    engine = built.details["engine"]
    assert engine["tensorrt"] == world.version
    assert (engine["gpu"], engine["compute_capability"]) == (world.gpu, "9.0")
    assert engine["batches"] == [1, 4, 4]
    assert engine["sha256"] == hashlib.sha256(built.main_file.read_bytes()).hexdigest()
    assert built.files[0] == "engine.plan"
    assert {"model.onnx", "calibration.cache", "build.txt"} < set(built.files)


def test_strongly_typed_without_precision_flags(world: World, built: Artifact) -> None:
    assert not world.flags_set, "Q/DQ nodes alone decide"
    assert "BuilderFlag.TF32" not in world.cleared


def test_tf32_can_be_switched_off(world: World, backend: object, make: Make, tmp_path: Path) -> None:
    build(backend, make(), tmp_path / "built", options=TensorRtOptions(max_batch=4, tf32=False, workspace=64))
    assert world.cleared == {"BuilderFlag.TF32"}


def test_the_timing_cache_is_kept_and_a_foreign_one_dropped(
    world: World, backend: object, make: Make, tmp_path: Path
) -> None:
    cache, artifact = tmp_path / "timings" / "one", make()
    build(backend, artifact, tmp_path / "first", timing_cache=cache)
    build(backend, artifact, tmp_path / "second", timing_cache=cache)
    assert world.timing_caches == [b"", cache.read_bytes()]
    cache.write_bytes(b"timings 9.9.9")
    build(backend, artifact, tmp_path / "third", timing_cache=cache)
    assert world.timing_caches[-2:] == [b"timings 9.9.9", b""]


def test_no_engine_yet(world: World, backend: object, make: Make) -> None:
    artifact = make()
    assert not backend.built_here(artifact, "cuda")
    with pytest.raises(UnavailableError, match=r"holds no engine \(not built here\); run `fqbench build ID` here"):
        backend.load(artifact, threads=1, device="cuda")


@pytest.mark.parametrize("other", [{"compute_capability": (8, 9), "gpu": "NVIDIA L4"}, {"version": "10.13.0"}])
def test_an_engine_of_another_gpu_or_version_is_refused(
    world: World, built: Artifact, backend: object, monkeypatch: pytest.MonkeyPatch, other: dict[str, object]
) -> None:
    assert backend.built_here(built, "cuda")
    install(dataclasses.replace(world, **other), monkeypatch)
    assert not backend.built_here(built, "cuda")
    with pytest.raises(UnavailableError, match="engines do not travel, run `fqbench build` here") as refused:
        backend.load(built, threads=1, device="cuda")
    assert f"TensorRT {world.version} and {world.gpu}" in str(refused.value)


def test_a_changed_engine_is_refused(world: World, built: Artifact, backend: object) -> None:
    built.main_file.write_bytes(built.main_file.read_bytes() + b"x")
    with pytest.raises(DataError, match="damaged: its hash differs"):
        backend.load(built, threads=1, device="cuda")


def test_an_engine_that_tensorrt_does_not_take(world: World, built: Artifact, backend: object) -> None:
    built.main_file.write_bytes(b"not a plan")
    facts = {**built.details["engine"], "sha256": hashlib.sha256(b"not a plan").hexdigest()}
    artifact = dataclasses.replace(built, details={**built.details, "engine": facts})
    with pytest.raises(DataError, match="loading the engine failed: Error Code 1: Serialization"):
        backend.load(artifact, threads=1, device="cuda")


def test_parser_errors_have_the_node_and_the_reason(world: World, backend: object, make: Make, tmp_path: Path) -> None:
    world.parser_error = ("Conv", "stem/conv", 3, "kernel of 9 dimensions")
    with pytest.raises(DataError, match=r"parser refuses model.onnx: Conv stem/conv: kernel of 9 dimensions"):
        build(backend, make(), tmp_path / "built")


def test_no_memory_to_build(world: World, backend: object, make: Make, tmp_path: Path) -> None:
    world.builder_memory = 0
    with pytest.raises(UnavailableError, match=r"the GPU is out of memory .*OutOfMemory"):
        build(backend, make(), tmp_path / "built")


def test_no_memory_to_run(world: World, built: Artifact, backend: object) -> None:
    world.memory = 1 << 19
    with pytest.raises(UnavailableError, match="preparing the engine to run failed, the GPU is out of memory"):
        backend.load(built, threads=1, device="cuda")
    world.memory = (1 << 20) + 1
    artifact = dataclasses.replace(built)
    session = backend.load(artifact, threads=1, device="cuda")  # 4 images of 12 KiB fit
    session.close()


def test_no_memory_for_the_buffers(world: World, backend: object, make: Make, tmp_path: Path) -> None:
    large = build(backend, make(), tmp_path / "large", options=TensorRtOptions(max_batch=256))
    world.memory = 2 << 20
    with pytest.raises(UnavailableError, match=r"MiB of .* cannot be allocated \(.* of 2 MiB are free\)"):
        backend.load(large, threads=1, device="cuda")


def test_images_that_do_not_fit(world: World, built: Artifact, backend: object) -> None:
    session = backend.load(built, threads=1, device="cuda")
    with pytest.raises(InputError, match="do not fit this engine"):
        session.run(np.zeros((1, 3, 16, 16), np.float32))


@pytest.mark.parametrize("device", ["cpu", "cuda:x", "gpu", "cuda:1"])
def test_unknown_devices(world: World, built: Artifact, backend: object, device: str) -> None:
    with pytest.raises(InputError, match=r"has no device|no GPU 1 here"):
        backend.load(built, threads=1, device=device)


def test_no_gpu(world: World, backend: object, make: Make, tmp_path: Path) -> None:
    world.gpus = 0
    available = backend.availability()
    assert not available.can_run
    assert "no usable GPU here" in available.reason
    with pytest.raises(UnavailableError, match="no usable GPU"):
        build(backend, make(), tmp_path / "built")
    world.gpus = 1


@V10
@pytest.mark.parametrize("kind", ["entropy", "minmax", "percentile"])
def test_a_calibrator_sees_every_image_once(
    world: World, backend: object, make: Make, model: ExportedModel, kind: str
) -> None:
    calibration = calibration_set(n=12)
    source = make()
    artifact = build(
        backend,
        source,
        source.root.with_name("built"),
        options=TensorRtOptions(max_batch=4, implicit=kind),
        model=model,
        calibration=calibration,
    )
    expected = np.concatenate(list(calibration.batches(1)))
    np.testing.assert_array_equal(np.concatenate(world.calibrated), expected)
    assert all(images.dtype == np.float32 and images.shape == (1, 3, 32, 32) for images in world.calibrated)
    assert world.flags_set == {"BuilderFlag.INT8"}
    assert artifact.details["engine"]["quantization"] == f"implicit, {kind}"
    written = (artifact.root / "calibration.cache").read_text()
    assert written.startswith("TRT-101601-")


@V10
def test_the_record_is_handed_over_as_a_cache(
    world: World, backend: object, make: Make, model: ExportedModel, tmp_path: Path
) -> None:
    options = TensorRtOptions(max_batch=4, implicit="record")
    build(backend, make(), tmp_path / "built", options=options, model=model)
    assert "calibrated from a cache" in world.journal
    assert not world.calibrated


@V10
def test_an_image_that_cannot_be_read_is_not_the_end_of_the_images(
    world: World, backend: object, make: Make, model: ExportedModel, tmp_path: Path
) -> None:
    class Broken:
        def __len__(self) -> int:
            return 8

        def batch(self, rows: np.ndarray) -> np.ndarray:
            if rows[0] == 3:
                raise DataError("image 3 cannot be read")
            return pictures(len(rows), seed=1)

    options = TensorRtOptions(max_batch=4, implicit="entropy")
    with pytest.raises(DataError, match="image 3 cannot be read"):
        build(
            backend,
            make(),
            tmp_path / "b",
            options=options,
            model=model,
            calibration=calibration_set(n=8, images=Broken()),
        )
    assert len(world.calibrated) == 3, "TensorRT was told that there were no more, and its answer is thrown away"


@V11
@pytest.mark.parametrize("kind", ["record", "entropy"])
def test_calibrators_are_gone_in_11(world: World, backend: object, make: Make, model: ExportedModel, kind: str) -> None:
    options, source = TensorRtOptions(max_batch=4, implicit=kind), make()
    with pytest.raises(InputError, match=r"TensorRT 11.1.0 has no calibrators: they were removed in 11.0"):
        build(
            backend, source, source.root.with_name("b"), options=options, model=model, calibration=calibration_set(n=2)
        )
    assert not world.flags_set


@V10
def test_implicit_needs_an_int8_artifact_and_the_model(
    world: World, backend: object, make: Make, model: ExportedModel, tmp_path: Path
) -> None:
    options = TensorRtOptions(implicit="record")
    with pytest.raises(InputError, match=r"has no calibration cache; trt.implicit is for INT8"):
        build(backend, make(Scheme.float32()), tmp_path / "a", options=options, model=model)
    with pytest.raises(InputError, match="needs the FP32 model"):
        build(backend, make(), tmp_path / "b", options=options)


@pytest.mark.parametrize("version", ["9.3.0", "12.0.0", "unknown"])
def test_other_versions_are_not_known(version: str, backend: object, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    install(world, monkeypatch)
    import sys

    sys.modules["tensorrt"].__version__ = version
    available = backend.availability()
    assert not available.can_run
    assert "is not supported" in available.reason or "which is not a version number" in available.reason
