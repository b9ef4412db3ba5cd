"""Small real inputs: a folder of JPEGs as a user has it, and an ONNX classifier as a user brings it."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from fqbench import terminal
from fqbench.cli import main
from fqbench.config import configure
from fqbench.run import Run
from fqbench.workspace import Workspace

SIZE = 32
Invoke = Callable[..., tuple[int, str, str]]

# The first example imports what the code under test imports late; time is measured by benchmarks, not here.
settings.register_profile("fqbench", deadline=None)
settings.load_profile("fqbench")


@pytest.fixture(autouse=True)
def consoles_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the width that pytest-xdist gives its workers, and the consoles that an earlier test made."""
    monkeypatch.delenv("COLUMNS", raising=False)
    terminal.stdout.cache_clear()
    terminal.stderr.cache_clear()


@pytest.fixture
def invoke(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Call the command line in an empty folder with a workspace of its own: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FQBENCH_WORKSPACE", str(tmp_path / "workspace"))

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return call


def write_photos(root: Path, count: int = 120, *, seed: int = 0) -> Path:
    """Write JPEGs whose brightness is the label, in four groups, with ``metadata.csv``."""
    rng = np.random.default_rng(seed)
    (root / "images").mkdir(parents=True)
    rows = []
    for index in range(count):
        label, tone, age = index % 2, ("light", "dark")[index // 2 % 2], ("young", "old")[index // 4 % 2]
        level = (170 if label else 80) - (20 if tone == "dark" else 0)
        noise = rng.normal(level, 25, (40, 48, 3))
        name = f"images/{index:04d}.jpg"
        Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8)).save(root / name, quality=92)
        split = "train" if index < count // 2 else ("val" if index < count * 3 // 4 else "test")
        rows.append([name, split, ("no", "yes")[label], tone, age])
    with (root / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "split", "label", "tone", "age"])
        writer.writerows(rows)
    return root


def write_classifier(path: Path, *, classes: int = 2, batch: int | str = "batch", side: int | str = SIZE) -> Path:
    """Write a tiny convolutional classifier that tells bright pictures from dark ones."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(7)
    first = rng.normal(0, 0.2, (8, 3, 3, 3)).astype(np.float32)
    first[0] = 1 / 27  # the mean of the neighbourhood: what the label depends on
    second = rng.normal(0, 0.1, (8, 8, 3, 3)).astype(np.float32)
    second[0], second[0, 0] = 0, 1 / 9
    head = rng.normal(0, 0.01, (8, classes)).astype(np.float32)
    head[0, 0], head[0, -1] = -3, 3
    weights = {
        "first": first,
        "second": second,
        "head": head,
        "bias": np.linspace(1.5, -1.5, classes, dtype=np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["images", "first"], ["a"], pads=[1, 1, 1, 1], name="stem"),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Conv", ["b", "second"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["d"], name="relu_2"),
        helper.make_node("GlobalAveragePool", ["d"], ["e"], name="pool"),
        helper.make_node("Flatten", ["e"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "head", "bias"], ["logits"], name="classifier"),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, side, side])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, classes])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 120 JPEGs; read only."""
    return write_photos(tmp_path_factory.mktemp("data") / "photos")


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX classifier for 32x32 images; read only."""
    return write_classifier(tmp_path_factory.mktemp("model") / "bright.onnx")


@pytest.fixture
def run_workspace(tmp_path: Path) -> Workspace:
    """Where `make_run` works; a module whose runs share their stages overrides it with a wider scope."""
    return Workspace(tmp_path / "workspace")


@pytest.fixture
def make_run(photos: Path, classifier: Path, run_workspace: Workspace) -> Callable[..., Run]:
    """Make a run on the folder and the classifier, in a workspace of its own."""

    def make(**flags: object) -> Run:
        asked = {
            "data": "folder",
            "root": photos,
            "onnx": classifier,
            "mean": (0.5, 0.5, 0.5),
            "std": (0.25, 0.25, 0.25),
            "calib_n": 16,
            "rounds": 20,
            "seconds": 0.0,
            "replicates": 200,
        }
        return Run(configure(**(asked | flags)), run_workspace)

    return make
