"""The same network in many ways of writing it gives the same FP32 predictions, and the same INT8 accuracy."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from PIL import Image

from fqbench.config import configure
from fqbench.contracts.task import PredictionTask
from fqbench.data.images import normalize
from fqbench.models.adopt import Meaning, adopt, read_source
from fqbench.models.adopt.adopting import run as answers
from fqbench.run import Run
from fqbench.stages.predict import predict_split
from fqbench.stages.quantize import quantize
from fqbench.stages.read import read
from fqbench.testing.sampling import sampled
from fqbench.workspace import Workspace
from tests.models.adopt.network import ATTRIBUTES, SIZE, Written, pictures, reference, write

AXES: dict[str, tuple[Any, ...]] = {
    "opset": (9, 11, 13, 15, 17, 18, 21, onnx.defs.onnx_opset_version()),
    "layout": ("nchw", "nhwc"),
    "head": ("logits", "softmax", "one-logit", "sigmoid", "attributes", "attribute-logits", "attribute-heads"),
    "batch": (None, 1, 7),
    "preprocessing": ("outside", "bgr255", "inside"),
}
POINTS = 0.005
SEEN, TEST, CALIBRATION = 64, 800, 64


def every_pair(axes: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    """Choose rows so that every two values of different axes meet in one of them."""
    pairs = {((i, a), (j, b)) for i, j in itertools.combinations(range(len(axes)), 2) for a in axes[i] for b in axes[j]}
    rows, chosen = list(itertools.product(*axes)), []
    while pairs:
        met = {row: pairs & set(itertools.combinations(enumerate(row), 2)) for row in rows}
        best = max(rows, key=lambda row: len(met[row]))
        chosen.append(best)
        pairs -= met[best]
    return chosen


FEWER = AXES | {"head": tuple(head for head in AXES["head"] if head not in {"attribute-logits", "attribute-heads"})}
ALL = list(itertools.product(*FEWER.values()))
PAIRWISE = every_pair(list(AXES.values()))


def written(row: tuple[Any, ...]) -> Written:
    return Written(**dict(zip(AXES, row, strict=True)))


def test_the_selection_holds_every_pair() -> None:
    for i, j in itertools.combinations(range(len(AXES)), 2):
        values = list(AXES.values())
        assert {(row[i], row[j]) for row in PAIRWISE} == set(itertools.product(values[i], values[j]))
    assert len(PAIRWISE) < len(ALL) / 10


def asked(how: Written) -> Meaning:
    """What the data have: one label, or the four attributes of the network."""
    several = how.head.startswith("attribute")
    return Meaning(ATTRIBUTES, PredictionTask.ATTRIBUTES) if several else Meaning(("no", "yes"))


@cache
def answered() -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Pictures, and the logits of the network's plain form."""
    pixels, _attributes = pictures(SEEN, seed=9)
    return pixels, reference(pixels)


def same_in_fp32(row: tuple[Any, ...], folder: Path) -> None:
    how, (pixels, expected) = written(row), answered()
    config = configure(onnx=write(folder / "in.onnx", how), **how.flags)
    source = read_source(folder / "in.onnx", config.model, config.preprocessing)
    made = adopt(source, pixels[:8], asked(how), folder)
    logits = answers(onnx.load(folder / "model.onnx"), normalize(pixels, made.preprocessing), free=True)
    if asked(how).task is PredictionTask.ATTRIBUTES:
        assert ((logits > 0) == (expected > 0)).all()
        assert np.abs(logits - expected).max() < 1e-4
    else:
        assert (logits.argmax(axis=1) == (expected[:, 1] > 0)).all()
        assert np.abs(logits[:, 1] - logits[:, 0] - expected[:, 1]).max() < 1e-4
    ends = ("Gemm",) * 4 + ("Concat",) if how.head == "attribute-heads" else ("Gemm",)
    assert [node.op_type for node in onnx.load(folder / "model.onnx").graph.node] == [
        *("Conv", "Clip", "Conv", "Relu", "ReduceMean", "Reshape"),
        *ends,
    ]


@pytest.mark.parametrize("row", PAIRWISE, ids=str)
def test_pairs_give_the_same_predictions(row: tuple[Any, ...], tmp_path: Path) -> None:
    same_in_fp32(row, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("opset", AXES["opset"])
def test_all_give_the_same_predictions(opset: int, tmp_path: Path) -> None:
    for row in sampled(ALL):
        if row[0] == opset:
            same_in_fp32(row, tmp_path)


@pytest.fixture(scope="module")
def make_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """Runs on one folder of pictures in one workspace, so that they are read and prepared once."""
    root = tmp_path_factory.mktemp("pictures")
    pixels, attributes = pictures(CALIBRATION + 16 + TEST, seed=11)
    (root / "images").mkdir()
    with (root / "metadata.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file_name", "split", *ATTRIBUTES, "side"])
        for index, (picture, row) in enumerate(zip(pixels, attributes, strict=True)):
            name = f"images/{index:04d}.png"
            Image.fromarray(picture).save(root / name)
            split = "train" if index < CALIBRATION else ("val" if index < CALIBRATION + 16 else "test")
            table.writerow([name, split, *(("no", "yes")[value] for value in row), ("left", "right")[index % 2]])
    workspace = Workspace(root / "workspace")

    def make(**flags: Any) -> Run:
        flags = {"label": "bright", "calib_n": 32, "replicates": 100} | flags
        return Run(configure(data="folder", root=root, sensitive="side", **flags), workspace)

    return make


def accuracy_of(run: Run) -> float:
    answered = predict_split(run, quantize(run))
    return float((answered.predictions.labels == read(run).targets(answered.frame)).mean())


def loss_in_int8(how: Written, make_run: Callable[..., Run], folder: Path) -> dict[str, float]:
    path = write(folder / "network.onnx", how)
    flags = {"onnx": path, "label": ",".join(asked(how).classes) if how.head.startswith("attribute") else "bright"}
    flags |= how.flags
    float32 = accuracy_of(make_run(method="none", bits=32, act_bits=32, **flags))
    return {"fp32": float32} | {
        backend: float32 - accuracy_of(make_run(backend=backend, **flags)) for backend in ("ort", "trt")
    }


SOME = PAIRWISE[::8]


@pytest.mark.parametrize("row", SOME, ids=str)
def test_some_lose_nothing_in_int8(row: tuple[Any, ...], make_run: Callable[..., Run], tmp_path: Path) -> None:
    found = loss_in_int8(written(row), make_run, tmp_path)
    assert found["fp32"] > 0.9
    assert abs(found["ort"]) <= POINTS
    assert abs(found["trt"]) <= POINTS


@pytest.mark.slow
@pytest.mark.parametrize("row", sampled([row for row in PAIRWISE if row not in SOME]), ids=str)
def test_pairs_lose_nothing_in_int8(row: tuple[Any, ...], make_run: Callable[..., Run], tmp_path: Path) -> None:
    test_some_lose_nothing_in_int8(row, make_run, tmp_path)


def test_a_rectangle_goes_all_the_way(make_run: Callable[..., Run], tmp_path: Path) -> None:
    """Height and width that differ: prepared, observed, quantized, answered."""
    how = Written(side=None)
    run = make_run(onnx=write(tmp_path / "network.onnx", how), **how.flags | {"size": f"24x{SIZE}"})
    assert accuracy_of(run) > 0.85
