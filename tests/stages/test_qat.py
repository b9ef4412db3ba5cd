"""Quantization-aware training: the training stage's loop, and the same scales on every runtime."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from fqbench.contracts.artifacts import Artifact
from fqbench.contracts.qat_parameters import open_qat_parameters
from fqbench.errors import DataError, InputError
from fqbench.quant.graph import cleaned
from fqbench.quant.weights import weights_of
from fqbench.run import Run
from fqbench.stages.evaluate import evaluate
from fqbench.stages.export import export
from fqbench.stages.quantize import quantize, reference
from fqbench.workspace import Workspace
from fqbench.workspace.kinds import ARTIFACTS, QAT_MODELS

torch = pytest.importorskip("torch")

MakeRun = Callable[..., Run]
NETWORK = {"onnx": None, "mean": None, "std": None, "model": "test_resnet", "size": 32, "epochs": 4, "batch_size": 16}
QAT = {**NETWORK, "method": "qat", "qat_epochs": 2, "learning_rate": 3e-3}


@pytest.fixture(scope="module")
def run_workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """One for the module: the network is trained and exported once."""
    return Workspace(tmp_path_factory.mktemp("qat"))


def qat(make_run: MakeRun, **flags: object) -> tuple[Run, Artifact]:
    run = make_run(**QAT, **flags)
    return run, quantize(run)


def tuned_folder(run: Run, artifact: Artifact) -> Path:
    return run.workspace.get(run.workspace.get(artifact.id, ARTIFACTS).manifest.inputs["tuned"], QAT_MODELS).path


def test_it_is_compared_with_the_fp32_model_that_it_started_from(make_run: MakeRun) -> None:
    run, artifact = qat(make_run, backend="torch_fx")
    assert artifact.model_id == export(run).id
    assert artifact.label == "torch_fx int8-qat"
    found = evaluate(run, [reference(run), artifact])
    assert found.artifacts[1].change is not None


@pytest.mark.parametrize("bits", [8, 4])
def test_onnxruntime_gets_exactly_the_learnt_scales(make_run: MakeRun, bits: int) -> None:
    run, artifact = qat(make_run, backend="ort", bits=bits)
    folder = tuned_folder(run, artifact)
    learned = open_qat_parameters(folder)
    graph = onnx.load(artifact.main_file).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    seen = 0
    for name, grid in learned.activations.items():
        if f"{name}_scale" in constants:
            seen += 1
            assert float(constants[f"{name}_scale"]) == grid.scale
            assert int(constants[f"{name}_zero_point"]) == grid.zero_point
    assert seen > 5
    for weight in weights_of(cleaned(folder / "model.onnx")):
        found, learnt = constants[f"{weight.name}_scale"].reshape(-1), learned.weights[weight.path]
        alive = learnt > 1e-8  # of a dead channel, onnxruntime raises the scale until its bias fits into 32 bits
        np.testing.assert_array_equal(found[alive], learnt[alive])
        assert np.all(found >= learnt)
        assert alive.mean() > 0.9


def test_runtimes_agree_with_the_network_that_was_trained(make_run: MakeRun) -> None:
    for backend in ("torch_fx", "ort", "trt"):
        run, artifact = qat(make_run, backend=backend)
        agreement = run.workspace.get(artifact.id, ARTIFACTS).facts.agreement
        assert agreement.images == 30
        assert agreement.identical_labels >= 0.95
        assert agreement.largest_difference < 0.1 * agreement.largest_logit


def test_signed_runtimes_are_trained_for_with_zero_points_in_the_middle(make_run: MakeRun) -> None:
    run, artifact = qat(make_run, backend="trt")
    learned = open_qat_parameters(tuned_folder(run, artifact))
    assert learned.symmetric
    assert {grid.zero_point for grid in learned.activations.values()} == {128}
    graph = onnx.load(artifact.root / "model.onnx").graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    quantized = [name for name in learned.activations if f"{name}_scale" in constants]
    assert len(quantized) > 3
    for name in quantized:
        assert float(constants[f"{name}_scale"]) == learned.activations[name].scale
        assert constants[f"{name}_zero_point"] == 0


def test_runtimes_of_one_kind_share_one_training(make_run: MakeRun) -> None:
    run, one = qat(make_run, backend="ort")
    _run, other = qat(make_run, backend="torch_fx")
    assert tuned_folder(run, one) == tuned_folder(run, other)


def test_what_determines_it_changes_it(make_run: MakeRun) -> None:
    run, first = qat(make_run, backend="torch_fx")
    for flags in ({"qat_epochs": 1}, {"bits": 4}, {"act_bits": 4}, {"qat_freeze_ranges": 1.0}, {"train_seed": 1}):
        other_run = make_run(**(QAT | {"backend": "torch_fx"} | flags))
        assert tuned_folder(other_run, quantize(other_run)) != tuned_folder(run, first)


def test_the_same_seed_gives_the_same_bytes(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(**QAT, backend="torch_fx")
    first, again = quantize(run), quantize(Run(run.config, Workspace(tmp_path)))
    assert first.root != again.root
    for file in ("model.json", "weights.safetensors"):
        assert (first.root / file).read_bytes() == (again.root / file).read_bytes()


def test_scales_are_held_after_the_epochs_that_are_given_to_them(make_run: MakeRun) -> None:
    free, held = (
        qat(make_run, backend="torch_fx", qat_freeze_ranges=share, qat_freeze_batchnorm=share, best_by="last")
        for share in (1.0, 0.0)
    )
    details = [open_qat_parameters(tuned_folder(*one)) for one in (free, held)]
    assert details[0].activations != details[1].activations


def test_weights_of_another_architecture_are_refused_by_name(make_run: MakeRun, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    start = tmp_path / "other.safetensors"
    save_file({"conv_stem.weight": torch.zeros(4, 3, 3, 3)}, start)
    run = make_run(**QAT, backend="torch_fx", qat_start=start)
    before = run.workspace.entries(QAT_MODELS)
    with pytest.raises(DataError, match=r"do not fit the model.*conv1\.0\.weight"):
        quantize(run)
    assert run.workspace.entries(QAT_MODELS) == before


def test_training_starts_from_weights_that_are_given(make_run: MakeRun) -> None:
    from safetensors.torch import load_file

    start = export(make_run(**NETWORK)).checkpoint
    assert start is not None
    given = make_run(**(QAT | {"backend": "torch_fx", "qat_start": start, "train_seed": 1}))
    trained = load_file(tuned_folder(given, quantize(given)) / "checkpoint.safetensors")
    before = load_file(start)
    moved = [float((trained[name] - before[name]).abs().max()) for name in before if name.endswith("weight")]
    assert 0 < max(moved) < 0.02  # seed 1's own weights are further away


def test_a_missing_start_is_an_error(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--qat-start"):
        quantize(make_run(**QAT, backend="torch_fx", qat_start=tmp_path / "none.safetensors"))


def test_a_model_that_came_as_onnx_cannot_be_trained(make_run: MakeRun) -> None:
    with pytest.raises(InputError, match=r"is an ONNX file.*fqbench train"):
        quantize(make_run(method="qat"))


@pytest.mark.slow
def test_a_killed_training_ends_with_the_same_bytes(photos: Path, tmp_path: Path) -> None:
    own = ["--data", "folder", "--root", str(photos), "--model", "test_resnet", "--size", "32", "--epochs", "1"]
    own += ["--batch-size", "16", "--backend", "torch_fx", "--method", "qat", "--qat-epochs", "6", "--bits", "4"]

    def start(workspace: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "fqbench.cli", "quantize", *own, "--workspace", str(tmp_path / workspace)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    with start("whole") as whole:
        whole.communicate()
    assert whole.returncode == 0
    for kind in ("samples", "prepared", "checkpoints", "models"):  # so that the second begins with the fine-tuning
        shutil.copytree(tmp_path / "whole" / kind, tmp_path / "killed" / kind)
    with start("killed") as killed:
        assert killed.stderr is not None
        for line in killed.stderr:
            if "epoch 3:" in line:
                break
        killed.send_signal(signal.SIGKILL)
    with start("killed") as again:
        _out, told = again.communicate()
    assert again.returncode == 0
    assert "are already trained; continuing" in told
    artifacts = [next((tmp_path / name / "artifacts").glob("*qat*")) for name in ("whole", "killed")]
    assert artifacts[0].name == artifacts[1].name
    for file in ("model.json", "weights.safetensors"):
        assert (artifacts[0] / file).read_bytes() == (artifacts[1] / file).read_bytes()
    manifest = json.loads((artifacts[0] / "manifest.json").read_text())
    assert manifest["facts"]["agreement"]["identical_labels"] > 0.9


OBJECTIVES = ("distillation+equalized-odds", "group-dro")


def test_an_objective_of_qat_leaves_the_fp32_model_as_it_is(make_run: MakeRun) -> None:
    plain_run, plain = qat(make_run, backend="torch_fx")
    folders = {tuned_folder(plain_run, plain)}
    for name in OBJECTIVES:
        run, artifact = qat(make_run, backend="torch_fx", qat_objective=name)
        assert artifact.model_id == plain.model_id
        folders.add(tuned_folder(run, artifact))
    assert len(folders) == 1 + len(OBJECTIVES)
    facts = run.workspace.get(tuned_folder(run, artifact).name, QAT_MODELS).facts.training
    assert set(facts.objective["weights"]) == {"dark×old", "dark×young", "light×old", "light×young"}
    assert sum(facts.objective["weights"].values()) == pytest.approx(1)
    same, again = qat(make_run, backend="torch_fx", qat_objective="equalized-odds+distillation")
    assert tuned_folder(same, again) in folders


def test_distillation_keeps_answers_closer_to_fp32(make_run: MakeRun) -> None:
    from fqbench.stages.predict import predict_split

    far = []
    for asked in ({}, {"qat_objective": "distillation", "distill_weight": 1.0, "distill_temperature": 1.0}):
        run = make_run(**(QAT | {"backend": "torch_fx", "bits": 4, "qat_epochs": 4, "best_by": "last"} | asked))
        artifact = quantize(run)
        log_p, log_q = (
            torch.from_numpy(predict_split(run, one).predictions.logits).log_softmax(1)
            for one in (reference(run), artifact)
        )
        far.append(float(torch.nn.functional.kl_div(log_q, log_p, reduction="batchmean", log_target=True)))
    assert far[1] < far[0]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"objective": "distillation"}, r"--objective distillation: distillation needs a teacher"),
        ({"qat_objective": "group-drow"}, r"--qat-objective: unknown objective 'group-drow'"),
        (
            {"qat_objective": "distillation", "penalty_weight": 2.0},
            r"--penalty-weight belongs to demographic-parity or",
        ),
    ],
)
def test_objectives_that_cannot_be_are_refused_before_any_training(
    make_run: MakeRun, flags: dict[str, object], message: str, tmp_path: Path
) -> None:
    run = replace(make_run(**QAT, backend="torch_fx", **flags), workspace=Workspace(tmp_path))
    with pytest.raises(InputError, match=message):
        quantize(run)
    assert not list(run.workspace.entries("checkpoints"))
