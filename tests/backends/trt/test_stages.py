"""TensorRT through the stages and the command line: without it, with its doubles, and from there to here."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fqbench import plugins
from fqbench.cli import main
from fqbench.config import configure
from fqbench.doctor import examine
from fqbench.errors import DataError, InputError, UnavailableError
from fqbench.run import Run
from fqbench.stages.bench import bench
from fqbench.stages.build import build, next_step
from fqbench.stages.evaluate import evaluate
from fqbench.stages.pack import import_results, pack, run_pack
from fqbench.stages.predict import predict_split
from fqbench.stages.quantize import quantize, reference, subjects
from fqbench.workspace import Workspace
from tests.backends.trt.conftest import install
from tests.backends.trt.world import World

MakeRun = Callable[..., Run]
Invoke = Callable[..., tuple[int, str, str]]
MEAN_STD = ("--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25")


@pytest.fixture
def invoke(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photos: Path, classifier: Path
) -> Invoke:
    """Call the command line on the folder of photos with a workspace of its own: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FQBENCH_WORKSPACE", str(tmp_path / "workspace"))
    data = ("--data", "folder", "--root", photos, "--onnx", classifier, *MEAN_STD)

    def call(verb: str, *arguments: object) -> tuple[int, str, str]:
        extra = {"quantize": ("--calib-n", 16), "eval": ("--replicates", 200)}.get(verb, ())
        with pytest.raises(SystemExit) as stop:
            main([str(one) for one in (verb, *arguments, *(() if verb == "doctor" else data), *extra)])
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return call


def test_the_command_that_the_project_was_described_by(invoke: Invoke, tmp_path: Path) -> None:
    code, out, err = invoke("quantize", "--backend", "trt", "--bits", 8, "--calib", "balanced")
    assert code == 0, err
    assert out.startswith("artifacts/bright-trt-int8-balanced-")
    assert "engine: not built here; on a machine with TensorRT and a GPU run `fqbench build" in " ".join(err.split())
    folder = next((tmp_path / "workspace" / "artifacts").iterdir())
    assert {path.name for path in folder.iterdir()} >= {"model.onnx", "calibration.cache", "build.txt"}
    code, out, err = invoke("eval", "--backend", "trt")
    assert code == 0, err
    assert "int8/balanced (emulated)" in out
    assert "trt emulated by onnxruntime" in out
    assert "dark×old" in out
    code, out, err = invoke("bench", "--backend", "trt")
    assert (code, "the backend trt cannot run here: tensorrt is not installed" in err) == (3, True), err
    assert "fqbench pack" in err
    identity = folder.name if "int8" in folder.name else "bright-trt-int8"
    code, _out, err = invoke("build", identity)
    assert (code, "tensorrt is not installed; run: pip install 'fqbench[trt]'" in err) == (3, True), err


def test_other_backends_are_measured_without_it(invoke: Invoke) -> None:
    assert invoke("quantize", "--backend", "trt")[0] == 0
    code, out, err = invoke("bench", "--backend", "ort", "--rounds", 10, "--seconds", 0, "--calib-n", 16)
    assert code == 0, err
    assert "is left out: tensorrt is not installed" in " ".join(err.split())
    assert "trt" not in out


def test_doctor_explains_what_is_missing(invoke: Invoke) -> None:
    code, out, _err = invoke("doctor", "--json")
    assert code == 0
    health = json.loads(out)
    trt = next(one for one in health["plugins"] if one["name"] == "trt")
    assert not trt["usable"]
    assert "tensorrt is not installed" in trt["state"]
    assert "fqbench[trt]" in trt["remedy"]
    libraries = {one["name"]: one["remedy"] for one in health["libraries"]}
    assert libraries["tensorrt"] == libraries["pycuda"] == "pip install 'fqbench[trt]'"
    _code, out, _err = invoke("doctor")
    assert "fqbench[trt]" in out, "the name of the extra must not be taken for markup"


def test_it_offers_the_optional_parts() -> None:
    ours, other = plugins.backend("trt").abilities, plugins.backend("ort").abilities
    assert None not in {ours.builder, ours.emulator}
    assert {other.builder, other.emulator} == {None}


def test_nothing_is_built_for_a_runtime_that_needs_none(make_run: MakeRun) -> None:
    run = make_run()
    assert next_step(quantize(run)) == ""
    with pytest.raises(InputError, match="artifacts of ort run as they are; there is nothing to build"):
        build(run, quantize(run))


def test_build_then_predict_and_measure(world: World, make_run: MakeRun) -> None:
    run = make_run(backend="trt", backend_option=["trt.max_batch=8"], rounds=5)
    artifact = quantize(run)
    assert next_step(artifact) == ""
    built = build(run, artifact)
    assert built.details["engine"]["tensorrt"] == world.version
    assert (built.model_id, built.sampler, built.id != artifact.id) == (artifact.model_id, "balanced", True)
    assert build(run, artifact).id == built.id, "a second build is a cache hit"
    assert build(run, built) is built, "it is built already"
    answered = predict_split(run, artifact)
    assert answered.artifact.id == built.id, "an artifact without an engine is built first"
    facts = answered.entry.manifest.determined_by
    assert (facts["runtime"], facts["device"]) == (world.version, "cuda")
    assert answered.artifact.label == "trt int8/balanced"
    report = bench(run, [reference(run), artifact])
    phases = report.subjects[1].phases
    assert set(phases) == {"H2D", "compute", "D2H"}
    assert report.subjects[1].arithmetic.integer_share == 1.0
    assert (run.workspace.root / ".timings").is_dir()


@pytest.mark.parametrize("version", ["10.16.1"])
def test_implicit_quantization_by_the_samplers_images(world: World, make_run: MakeRun) -> None:
    run = make_run(backend="trt", backend_option=["trt.implicit=entropy"], calib_n=10)
    built = build(run, quantize(run))
    assert len(world.calibrated) == 10
    assert built.details["engine"]["quantization"] == "implicit, entropy"
    with pytest.raises(InputError, match=r"has no calibration cache|without calibration images"):
        build(run, reference(run))


def test_from_the_machine_with_the_gpu_to_this_one(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(backend="trt")
    artifact = quantize(run)
    emulated = predict_split(run, artifact)
    packed = pack(run, subjects(run, [artifact.id]), tmp_path / "one.fqpack.zip")
    world = World()
    with monkeypatch.context() as there:
        install(world, there)
        far = Run(
            configure(rounds=5, seconds=0.0, backend_option=["trt.max_batch=8"]),
            Workspace(tmp_path / "must-not-appear"),
        )
        result = run_pack(far, packed)
    import gc

    gc.collect()
    world.assert_clean()
    assert not (tmp_path / "must-not-appear").exists()
    imported = import_results(run, result)
    entry = imported.predictions[-1]
    assert entry.facts.built_for["gpu"] == world.gpu
    assert entry.manifest.determined_by["runtime"] == world.version
    measured = predict_split(run, artifact)
    assert measured.entry.id == entry.id, "what a GPU answered comes before emulation"
    assert measured.artifact.label == f"trt int8/balanced (on {world.gpu})"
    np.testing.assert_allclose(measured.predictions.logits, emulated.predictions.logits, atol=1e-4)
    evaluation = evaluate(run, subjects(run, [artifact.id]))
    assert evaluation.artifacts[-1].label.endswith(f"(on {world.gpu})")
    assert set(imported.latency.subjects[-1].phases) == {"H2D", "compute", "D2H"}
    assert "tensorrt" not in sys.modules
    with pytest.raises(UnavailableError):
        bench(run, [artifact])


def test_a_pack_whose_engine_cannot_be_built(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(backend="trt")
    packed = pack(run, subjects(run, [quantize(run).id]), tmp_path / "one.fqpack.zip")
    install(World(parser_error=("Conv", "stem", 0, "no kernel")), monkeypatch)
    with pytest.raises(DataError, match="Conv stem: no kernel"):
        run_pack(Run(configure(), Workspace(tmp_path / "nowhere")), packed)
    assert not list(tmp_path.glob("*.fqresult.zip"))


def test_examine_with_a_gpu(world: World, make_run: MakeRun) -> None:
    health = examine(make_run().workspace)
    assert next(one for one in health.plugins if one.name == "trt").state == f"{world.version} on cuda"
