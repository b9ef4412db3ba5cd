"""A classifier of somebody else's, written and trained by plain torch code: taken as it is by every stage."""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fqbench.cli import main

torch = pytest.importorskip("torch")
functional = torch.nn.functional

SIZE = 32
MEAN, STD = 0.5, 0.25
NET = """
import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x):
        return functional.relu(x + self.second(functional.relu(self.norm(self.first(x)))))


class Net(nn.Module):
    def __init__(self, num_classes, width=8, depth=1):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.head = nn.Linear(width, num_classes)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)).view(x.size(0), -1))


def build(num_classes, width=8, depth=1):
    return Net(num_classes, width, depth)
"""


def photos(root: Path, count: int = 96) -> Path:
    """Bright and dark pictures of two lamps; the label is how bright they are, which one pixel does not tell."""
    rng = np.random.default_rng(0)
    for index in range(count):
        bright = index % 2
        noise = rng.normal(90 + 60 * bright, 40, (SIZE, SIZE, 3))
        split = ("train", "train", "val", "test")[index // 2 % 4]
        folder = root / split / ("dark", "light")[bright]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8)).save(folder / f"{index:03d}.png")
    return root


def tensors(root: Path, split: str) -> tuple[Any, Any]:
    """As a training script of one's own reads them."""
    files = sorted((root / split).rglob("*.png"))
    images = np.stack([np.asarray(Image.open(file), dtype=np.float32) / 255 for file in files])
    labels = torch.tensor([int(file.parent.name == "light") for file in files])
    return (torch.from_numpy(images).permute(0, 3, 1, 2) - MEAN) / STD, labels


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, a module, and weights that a plain loop trained and saved as training scripts do."""
    folder = tmp_path_factory.mktemp("elsewhere")
    root = photos(folder / "photos")
    (folder / "lampnet.py").write_text(NET)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sys.path.insert(0, str(folder))
    try:
        network = importlib.import_module("lampnet").Net(2, width=12, depth=2)
    finally:
        sys.path.remove(str(folder))
    images, labels = tensors(root, "train")
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    for _step in range(30):
        optimizer.zero_grad()
        functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
    network.eval()
    with torch.inference_mode():
        images, labels = tensors(root, "test")
        answers = network(images)
    assert (answers.argmax(1) == labels).float().mean() > 0.9
    state = {f"module.{name}": value for name, value in network.state_dict().items()}
    torch.save({"epoch": 30, "state_dict": state, "optimizer": optimizer.state_dict()}, folder / "lamp.pth")
    np.save(folder / "answers.npy", answers.numpy())
    return folder


@pytest.fixture
def here(elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("FQBENCH_WORKSPACE", str(tmp_path / "workspace"))
    torch.set_num_threads(1)
    yield elsewhere
    for name in [name for name in sys.modules if name.startswith("lampnet")]:
        del sys.modules[name]


OPTIONS = (
    "--data", "imagefolder", "--root", "photos", "--model", "lampnet:build", "--model-args", "width=12,depth=2",
    "--weights", "lamp.pth", "--epochs", "0", "--size", str(SIZE), "--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25",
)  # fmt: skip


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[Any, str]:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in (*arguments, "--json")])
    captured = capsys.readouterr()
    assert not stop.value.code, captured.err
    return json.loads(captured.out), " ".join(captured.err.split())


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return int(stop.value.code or 0), " ".join(capsys.readouterr().err.split())


def entries(kind: str) -> list[Path]:
    return sorted(path for path in (Path(os.environ["FQBENCH_WORKSPACE"]) / kind).glob("*") if path.is_dir())


def test_weights_are_taken_as_they_are(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file

    monkeypatch.setattr("fqbench.models.train.train", None)  # nothing may be trained
    model, told = call(capsys, "export", *OPTIONS)
    assert "running the code of lampnet:build" in told
    assert "without training: " in told
    assert "under 'state_dict' without the prefix 'module.'" in told
    (checkpoint,) = entries("checkpoints")
    mine, theirs = load_file(checkpoint / "checkpoint.safetensors"), torch.load("lamp.pth")["state_dict"]
    assert {f"module.{name}" for name in mine} == set(theirs)
    assert all(torch.equal(value, theirs[f"module.{name}"]) for name, value in mine.items())
    assert model["facts"]["model"] == "lampnet.build"


@pytest.mark.slow
def test_three_backends_qat_and_eval_without_training_unasked(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fqbench.models import train as training

    trained: list[int] = []
    real = training.train

    def watched(*arguments: Any, **options: Any) -> Any:
        trained.append(arguments[3].epochs)
        return real(*arguments, **options)

    monkeypatch.setattr(training, "train", watched)
    made = {"fp32": call(capsys, "quantize", *OPTIONS, "--method", "none")[0]["id"]}
    for backend in ("ort", "torch_fx", "trt"):
        made[backend] = call(capsys, "quantize", *OPTIONS, "--backend", backend, "--calib-n", 16)[0]["id"]
    assert trained == []
    made["qat"] = call(
        capsys, "quantize", *OPTIONS, "--backend", "torch_fx", "--method", "qat", "--qat-epochs", 1, "--batch-size", 16
    )[0]["id"]
    assert trained == [1]
    evaluation, _told = call(capsys, "eval", *made.values(), *OPTIONS, "--replicates", 100)
    assert trained == [1]
    expected = np.load("answers.npy")
    labels = {entry["label"] for entry in evaluation["artifacts"]}
    assert len(labels) == 5, labels
    assert sum("fp32" in predictions.name for predictions in entries("predictions")) == 1
    for predictions in entries("predictions"):
        table = pd.read_parquet(predictions / "predictions.parquet").sort_values("sample_id")
        logits = np.stack(table["logits"])
        if "fp32" in predictions.name:
            np.testing.assert_allclose(logits, expected, atol=1e-4)
        elif "qat" not in predictions.name:
            assert (logits.argmax(1) == expected.argmax(1)).mean() > 0.9, predictions.name
    artifact = next(path for path in entries("artifacts") if "fx" in path.name)
    manifest = json.loads((artifact / "manifest.json").read_text())
    assert "lampnet:build" in manifest["facts"]["details"]["code"]["reference"]
    before = (here / "lampnet.py").read_text()
    sys.modules.pop("lampnet")
    try:
        (here / "lampnet.py").write_text(before.replace("functional.relu(x +", "functional.gelu(x +"))
        code, error = refused(capsys, "bench", artifact.name, *OPTIONS, "--rounds", 5, "--seconds", 0)
        assert (code, "has changed since the artifact was made" in error) == (4, True), error
        (here / "lampnet.py").unlink()
        code, error = refused(capsys, "bench", artifact.name, *OPTIONS, "--rounds", 5, "--seconds", 0)
        assert (code, "needs the code lampnet:build" in error) == (3, True), error
    finally:
        (here / "lampnet.py").write_text(before)


def changed(**options: str | None) -> tuple[str, ...]:
    """The options with other values; None takes one out."""
    given = dict(zip(OPTIONS[::2], OPTIONS[1::2], strict=True))
    given |= {f"--{name.replace('_', '-')}": value for name, value in options.items()}
    return tuple(part for pair in given.items() if pair[1] is not None for part in pair)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (
            {"weights": "none"},
            2,
            "--epochs 0 with --weights none would leave lampnet.build untrained .* --weights FILE",
        ),
        ({"weights": "imagenet"}, 2, "--epochs 0 with --weights imagenet would leave"),
        ({"mean": None, "std": None}, 2, "does not state its preprocessing: add --mean --std"),
        ({"size": None}, 2, "does not state its preprocessing: add --size"),
        ({"model": "lampnets:build"}, 2, "no module 'lampnets' in .* run fqbench in the folder that holds it"),
        ({"model": "lampnet:biuld"}, 2, "lampnet has no 'biuld': did you mean 'build'"),
        ({"model": "lampnet:functional"}, 2, "functional is not a function or class"),
        (
            {"model_args": "widht=12"},
            2,
            r"unexpected keyword argument 'widht'; it takes \(num_classes, width=8, depth=1\)",
        ),
        ({"model_args": "width"}, 2, "--model-args: .*name=value pairs"),
        ({"model_args": "width=0.5"}, 2, r"lampnet:build\(num_classes=2, width=0.5\) fails \(ValueError"),
        ({"model_args": "num_classes=3,width=12,depth=2"}, 4, "do not fit the model .*different: head.weight"),
        ({"model_args": "width=12,depth=3"}, 4, r"missing: blocks.2.first.weight.* and \d+ more"),
        (
            {"model_args": "width=8,depth=2"},
            4,
            r"different: stem.0.weight \(12, 3, 3, 3\) instead of \(8, 3, 3, 3\)",
        ),
        ({"model": "resnet10t"}, 2, "--model-args go with --model package.module:function"),
        (
            {"model": "broken:build", "model_args": None},
            2,
            r"broken fails \(ZeroDivisionError: .*--traceback shows where",
        ),
        ({"model": "script:build", "model_args": None}, 2, r"script fails \(SystemExit: 1\); correct the code"),
        ({"model": "odd:number", "model_args": None}, 2, "returns int, not a torch.nn.Module"),
        ({"model": "odd:pair", "model_args": None, "weights": "odd.pth"}, 2, "returns tuple; .*the logits alone"),
        (
            {"model": "odd:three", "model_args": None, "weights": "odd.pth"},
            2,
            r"returns \(N, 3\), but the data have 2",
        ),
        ({"model": "odd:small", "model_args": None, "weights": "odd.pth"}, 2, r"fails on images \(2, 3, 32, 32\)"),
        ({"weights": "module.pth"}, 4, "contain objects of lampnet.Net, which cannot be loaded without running code"),
        ({"weights": "script.pt"}, 2, "is a TorchScript archive, not weights"),
        ({"weights": "lamp.onnx"}, 2, "is not a weights file; --weights takes"),
        ({"weights": "nothing.pth"}, 2, "there is no weights file nothing.pth"),
    ],
)
def test_what_is_wrong_is_said(
    here: Path, options: dict[str, str | None], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = here / "odd.py"
    if not odd.exists():
        (here / "broken.py").write_text("1 / 0\n")
        (here / "script.py").write_text("import sys\nsys.exit(1)\n")
        odd.write_text(ODD)
        torch.save({"layer.weight": torch.zeros(3, 3), "layer.bias": torch.zeros(3)}, here / "odd.pth")
        sys.path.insert(0, str(here))
        network = importlib.import_module("lampnet").build(2)
        sys.path.remove(str(here))
        torch.save(network, here / "module.pth")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.trace(network.eval(), torch.zeros(1, 3, SIZE, SIZE)).save(here / "script.pt")
        (here / "lamp.onnx").touch()
    found, error = refused(capsys, "export", *changed(**options))
    assert re.search(message, error), error
    assert found == code
    assert "Traceback" not in error


ODD = """
from torch import nn


class Odd(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        if self.kind == "small":
            return self.layer(x)[:, :, :100].view(2, 7)
        answer = self.layer(x.mean((2, 3)))
        return (answer, answer) if self.kind == "pair" else answer


def number():
    return 3


def pair():
    return Odd("pair")


def three():
    return Odd("three")


def small():
    return Odd("small")
"""


def test_leftovers_are_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = torch.load("lamp.pth")["state_dict"]
    torch.save({"model": {**state, "ema_decay": torch.ones(1), "module.aux.weight": torch.ones(2)}}, "more.pth")
    _model, told = call(capsys, "train", *changed(weights="more.pth"))
    assert "ignored, because the model has no such tensors: aux.weight, ema_decay" in " ".join(told.split())


def test_changed_code_is_another_checkpoint(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "lampnet_two.py").write_text(NET)
    options = changed(model="lampnet_two:build")
    first = call(capsys, "train", *options)[0]["id"]
    assert call(capsys, "train", *options)[0]["id"] == first
    (here / "lampnet_two.py").write_text(NET + "\n# another reading\n")
    assert call(capsys, "train", *options)[0]["id"] != first


def test_a_module_of_ones_own_is_trained_where_asked(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = changed(weights=None, epochs="1", mean=None, std=None, model="lampnet:Net")
    made, _told = call(capsys, "train", *options, "--batch-size", "16")
    assert len(made["facts"]["training"]["epochs"]) == 1
    assert made["facts"]["architecture"] == 'lampnet:Net {"depth": 2, "width": 12}'


@pytest.mark.slow
def test_a_program_of_torch_export_is_exported_and_evaluated(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sys.path.insert(0, str(here))
    network = importlib.import_module("lampnet").build(2, width=12, depth=2)
    sys.path.remove(str(here))
    state = torch.load("lamp.pth")["state_dict"]
    network.load_state_dict({name.removeprefix("module."): value for name, value in state.items()})
    batch = ({0: torch.export.Dim("batch", min=1)},)
    program = torch.export.export(network.eval(), (torch.zeros(2, 3, SIZE, SIZE),), dynamic_shapes=batch)
    torch.export.save(program, "lamp.pt2")
    options = changed(model="lamp.pt2", model_args=None, weights=None, epochs=None)
    code, error = refused(capsys, "export", *options, "--size", 40)
    assert (code, "lamp.pt2" in error, "/lamp.onnx" in error) == (2, True, False), error
    made = [call(capsys, "quantize", *options, "--method", method, "--calib-n", 16)[0]["id"] for method in METHODS]
    call(capsys, "eval", *made, *options, "--replicates", 100)
    (fp32,) = [path for path in entries("predictions") if "fp32" in path.name]
    logits = np.stack(pd.read_parquet(fp32 / "predictions.parquet").sort_values("sample_id")["logits"])
    np.testing.assert_allclose(logits, np.load("answers.npy"), atol=1e-4)
    code, error = refused(capsys, "quantize", *options, "--backend", "torch_fx")
    assert (code, "came as ONNX or as a program of torch.export" in error) == (2, True), error


METHODS = ("none", "ptq_static")
