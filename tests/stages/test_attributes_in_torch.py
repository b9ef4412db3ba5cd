"""Several attributes trained at once: FP32, INT8, QAT and FX, and the same evaluation as of an adopted model."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fqbench.config import configure
from fqbench.contracts.task import PredictionTask
from fqbench.errors import DataError, InputError
from fqbench.run import Run
from fqbench.stages.evaluate import evaluate_views
from fqbench.stages.quantize import quantize, reference
from fqbench.stages.train import train
from fqbench.workspace import Workspace
from fqbench.workspace.kinds import CHECKPOINTS, MODELS
from tests.models.adopt.network import ATTRIBUTES, MEAN, STD, pictures

pytest.importorskip("torch")

NET = """
from torch import nn


def build(num_classes, width=12):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes),
    )
"""
Make = Callable[..., Run]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("trained")
    pixels, attributes = pictures(600, seed=5)
    (root / "images").mkdir()
    with (root / "metadata.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file_name", "split", *ATTRIBUTES, "side", "always"])
        for index, (picture, row) in enumerate(zip(pixels, attributes, strict=True)):
            Image.fromarray(picture).save(root / f"images/{index:04d}.png")
            split = "train" if index < 320 else ("val" if index < 400 else "test")
            yes = [("no", "yes")[value] for value in row]
            always = "b" if split == "train" or index % 2 else "a"
            table.writerow([f"images/{index:04d}.png", split, *yes, ("left", "right")[index % 2], always])
    (root / "attribute_net.py").write_text(NET)
    sys.path.insert(0, str(root))
    yield root
    sys.path.remove(str(root))
    sys.modules.pop("attribute_net", None)


@pytest.fixture(scope="module")
def make(root: Path) -> Make:
    def made(**flags: Any) -> Run:
        asked = {"label": "bright,young,plain", "sensitive": "side", "model": "attribute_net:build"}
        asked |= {"mean": MEAN, "std": STD, "size": 32, "epochs": 8, "batch_size": 32, "learning_rate": 0.02}
        asked |= {"augment": (), "calib_n": 16, "replicates": 100, "qat_epochs": 1}
        return Run(configure(data="folder", root=root, **asked | flags), Workspace(root / "workspace"))

    return made


def accuracies(run: Run, *artifacts: Any) -> np.ndarray[Any, Any]:
    """Accuracy of each attribute and artifact."""
    views = evaluate_views(run, artifacts)
    assert [one.attribute for one in views] == ["bright", "young", "plain"]
    return np.array([[one.report.overall.accuracy.value for one in view.artifacts] for view in views])


def test_three_attributes_are_learned_and_quantized(make: Make) -> None:
    run = make()
    checkpoint = train(run)
    assert checkpoint.facts.task is PredictionTask.ATTRIBUTES
    assert checkpoint.facts.classes == ("bright", "young", "plain")
    fp32, int8 = reference(run), quantize(run)
    model = run.workspace.get(fp32.model_id, MODELS).facts
    assert model.task is PredictionTask.ATTRIBUTES
    found = accuracies(run, fp32, int8)
    assert (found[:, 0] > 0.85).all()
    assert (np.abs(found[:, 1] - found[:, 0]) < 0.03).all()
    # What the training loop calls accuracy is the mean over the attributes.
    assert checkpoint.facts.training is not None
    validated = accuracies(run.with_options("eval", split="val"), fp32)
    assert checkpoint.facts.training.val_accuracy == pytest.approx(validated.mean(), abs=0.005)


def test_a_trained_checkpoint_is_taken_as_it_is(make: Make) -> None:
    trained = train(make())
    weights = next(trained.path.glob("*.safetensors"))
    run = make(weights=str(weights), epochs=0)
    taken = train(run)
    assert taken.facts.taken is not None
    assert taken.facts.task is PredictionTask.ATTRIBUTES
    np.testing.assert_allclose(accuracies(run, reference(run)), accuracies(make(), reference(make())))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ptq_static", "qat"])
def test_fx_and_training_with_quantization(make: Make, method: str) -> None:
    run = make(backend="torch_fx", method=method)
    found = accuracies(run, reference(run), quantize(run))
    assert (np.abs(found[:, 1] - found[:, 0]) < 0.05).all()


@pytest.mark.parametrize("objective", ["group-dro", "equalized-odds", "demographic-parity+group-balanced"])
def test_objectives_take_attributes(make: Make, objective: str) -> None:
    checkpoint = train(make(objective=objective, epochs=1))
    assert checkpoint.facts.training is not None
    assert np.isfinite(checkpoint.facts.training.epochs[0].train_loss)


@pytest.mark.slow
def test_distillation_takes_attributes(make: Make) -> None:
    run = make(backend="torch_fx", method="qat", qat_objective="distillation")
    found = accuracies(run, reference(run), quantize(run))
    assert (np.abs(found[:, 1] - found[:, 0]) < 0.05).all()


def test_what_cannot_be_trained_is_refused(make: Make) -> None:
    with pytest.raises(InputError, match="--column names outputs of an ONNX file"):
        train(make(column="bright=0,young=1"))
    with pytest.raises(DataError, match="the training split holds one value only of always; leave it out of --label"):
        train(make(label="bright,always", sensitive="side"))
    assert not [one for one in make().workspace.entries(CHECKPOINTS) if "always" in one.facts.classes]
