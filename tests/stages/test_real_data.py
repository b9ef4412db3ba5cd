"""From a tree in CelebA's own format to INT8 and its evaluation, for each architecture of the study."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fqbench.cli import main
from fqbench.models.zoo import STUDY
from fqbench.testing.sampling import sampled
from tests.data.trees import write_celeba, write_fairface, write_utkface

torch = pytest.importorskip("torch")

SMALL = ("--size", "32", "--epochs", "1", "--batch-size", "16", "--calib-n", "8", "--replicates", "100")


@pytest.fixture(scope="module")
def celeba(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_celeba(tmp_path_factory.mktemp("celeba"), 64)


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict:
    torch.set_num_threads(1)
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in (*arguments, "--json")])
    captured = capsys.readouterr()
    assert not stop.value.code, captured.err
    return json.loads(captured.out)


@pytest.mark.slow
@pytest.mark.parametrize("name", sampled(STUDY))
def test_celeba_through_train_quantize_and_eval(
    celeba: Path, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FQBENCH_WORKSPACE", str(tmp_path))
    asked = ("--model", name, "--data", "celeba", "--root", celeba, *SMALL)
    trained = call(capsys, "train", *asked[:-4])
    assert trained["facts"]["training"]["worst_group"] in {
        "Male×Young",
        "Male×not Young",
        "not Male×Young",
        "not Male×not Young",
    }
    artifact = call(capsys, "quantize", *asked[:-2])
    assert artifact["facts"]["support"] == "native"
    evaluation = call(capsys, "eval", *asked)
    assert {made["label"] for made in evaluation["artifacts"]} == {"ort fp32", "ort int8/balanced"}


@pytest.mark.slow
def test_two_processes_make_one_checkpoint(tmp_path: Path) -> None:
    flags = "--images 96 --image-size 32 --epochs 1 --batch-size 16 --json".split()  # noqa: SIM905 - as one types it
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "fqbench.cli", "train"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*command, *flags, "--workspace", tmp_path],
        env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (entry,) = (tmp_path / "checkpoints").iterdir()
    assert json.loads((entry / "manifest.json").read_text())["facts"]["training"]["processes"] == 2
    assert done.stderr.count("epoch 1: loss") == 1


@pytest.mark.slow
@pytest.mark.parametrize("data", ["utkface", "fairface"])
def test_the_other_data_sets(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FQBENCH_WORKSPACE", str(tmp_path / "workspace"))
    root = (write_utkface if data == "utkface" else write_fairface)(tmp_path / data, 84)
    options = ("--model", "resnet10t", "--data", data, "--root", root, "--seeds", "0,1", *SMALL[:6])
    entries = call(capsys, "train", *options, "--objective", "group-balanced", "--train-by", "race")
    assert len({entry["id"] for entry in entries}) == 2
    assert {entry["facts"]["training"]["seed"] for entry in entries} == {0, 1}
