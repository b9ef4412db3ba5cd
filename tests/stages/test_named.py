"""A misspelt name is told before a missing library, and before anything is drawn, decoded or trained."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from fqbench.config import configure
from fqbench.errors import InputError
from fqbench.run import Run
from fqbench.stages.quantize import quantize, reference
from fqbench.stages.runtimes import compare_runtimes
from fqbench.stages.threshold import calibrate_threshold
from fqbench.workspace import Workspace
from tests.conftest import Invoke

TRAINING = ("torch", "torchvision", "timm", "accelerate", "safetensors", "onnxscript", "transformers")


@pytest.fixture
def without_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide what the extra `train` installs."""
    version = importlib.metadata.version

    def hidden(name: str) -> str:
        if name in TRAINING:
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", hidden)
    for name in [one for one in TRAINING if find_spec(one) is not None]:
        for loaded in [one for one in sys.modules if one == name or one.startswith(f"{name}.")]:
            monkeypatch.delitem(sys.modules, loaded)
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.usefixtures("without_training")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--data celebb", "unknown data set 'celebb': did you mean 'celeba'?"),
        ("--data folder --root nowhere", "there is no folder"),
        ("--data hf --root nowhere", "there is no folder"),
        ("--data celeba", "add --root DIR"),
        ("--table none.csv --images .", "there is no table none.csv"),
        ("--table t.txt --images .", "t.txt is not a supported table"),
        ("--table t.csv --images nowhere", "there is no folder"),
        ("--model nets:build", "there is no module 'nets'"),
        ("--model hf:./nowhere", "there is no folder nowhere"),
        ("--model missing.pt2", "--model missing.pt2: there is no such file"),
        ("--model resnet10t --model-args width=4", "--model-args go with"),
        ("--weights nothing.pth", "there is no weights file nothing.pth"),
        ("--weights t.txt", "t.txt is not a weights file"),
        ("--onnx missing.onnx", "no ONNX file missing.onnx"),
        ("--onnx t.txt --class-map missing.yaml", "the class map missing.yaml cannot be read"),
        ("--onnx t.txt --column missing.txt", "the file of output names missing.txt cannot be read"),
        ("--objective group-drop", "unknown objective 'group-drop'"),
        ("--qat-objective distilation", "--qat-objective: unknown objective 'distilation'"),
        ("--backend ortt", "unknown backend 'ortt'"),
        ("--calib balancd", "unknown sampler 'balancd'"),
        ("--calib-policy minmax", "unknown calibration policy 'minmax'"),
        ("--range-rule mmse", "unknown range rule 'mmse'"),
        ("--recipe missing.yaml", "the recipe missing.yaml cannot be read"),
        ("--method qat --qat-trainer torchfx", "unknown backend 'torchfx'"),
        ("--calib-by skin_toned", "synthfaces has no sensitive feature 'skin_toned': did you mean 'skin_tone'?"),
        ("--method qat --qat-start missing.pth", "no weights file missing.pth; --qat-start"),
    ],
)
def test_a_misspelt_name_is_told_before_a_missing_library(
    invoke: Invoke, tmp_path: Path, arguments: str, message: str
) -> None:
    for name in ("t.txt", "t.csv"):
        (tmp_path / name).write_text("")
    code, _out, err = invoke("quantize", *arguments.split())
    assert (code, message in " ".join(err.split())) == (2, True), err
    assert not (tmp_path / "workspace").exists()


@pytest.mark.usefixtures("without_training")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--by skin_toned", "synthfaces has no sensitive feature 'skin_toned': did you mean 'skin_tone'?"),
        ("--positive smilling", "synthfaces has no class 'smilling' for --positive"),
        ("--backends orf", "--backends does not know 'orf'"),
        ("--backend orf", "unknown backend 'orf'"),
        ("--data celebb", "unknown data set 'celebb'"),
    ],
)
def test_a_search_and_an_evaluation_check_names_before_anything_is_drawn(
    invoke: Invoke, tmp_path: Path, arguments: str, message: str
) -> None:
    limits = tmp_path / "limits.yaml"
    limits.write_text("limits: {max_group_drop: 0.02}\n")
    for verb in ("search", "eval", "gate") if "--backends" not in arguments else ("search",):
        own = () if verb == "eval" else ("--limits", limits)
        code, _out, err = invoke(verb, *own, *arguments.split())
        assert (code, message in " ".join(err.split())) == (2, True), (verb, err)
        assert not (tmp_path / "workspace").exists(), verb


@pytest.mark.usefixtures("without_training")
@pytest.mark.parametrize("verb", ["train", "export", "quantize", "eval"])
def test_a_missing_library_is_told_where_the_names_are_right(invoke: Invoke, verb: str) -> None:
    code, _out, err = invoke(verb, "--images", 40)
    assert (code, "pip install 'fqbench[train]'" in err) == (3, True), err


@pytest.mark.usefixtures("without_training")
@pytest.mark.parametrize("verb", ["train", "export", "eval", "bench", "replicate"])
def test_every_verb_that_trains_checks_the_names(invoke: Invoke, verb: str) -> None:
    code, _out, err = invoke(verb, "--data", "celebb")
    assert (code, "unknown data set 'celebb'" in err) == (2, True), err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"calib_by": ("tonne",)}, "has no sensitive feature 'tonne': did you mean 'tone'"),
        ({"train_by": ("tonne",)}, "has no sensitive feature 'tonne'"),
        ({"by": ("tonne",)}, "has no sensitive feature 'tonne'"),
        ({"control": "tonne"}, "has no sensitive feature 'tonne'"),
        ({"positive": "yess"}, "has no class 'yess' for --positive: did you mean 'yes'"),
    ],
)
def test_a_misspelt_column_is_told_before_images_are_decoded(
    photos: Path, classifier: Path, tmp_path: Path, flags: dict[str, object], message: str
) -> None:
    asked = {"data": "folder", "root": photos, "onnx": classifier, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    run = Run(configure(**(asked | flags)), Workspace(tmp_path / "workspace"))
    with pytest.raises(InputError, match=message):
        quantize(run)
    assert not list((tmp_path / "workspace").glob("prepared/*"))


def test_a_misspelt_positive_class_of_a_threshold(make_run: Callable[..., Run]) -> None:
    run = make_run(positive="yess")
    with pytest.raises(InputError, match="has no class 'yess' for --positive"):
        calibrate_threshold(run, None, None)


def test_a_misspelt_rule_is_no_reason_to_leave_a_runtime_out(make_run: Callable[..., Run]) -> None:
    run = make_run(range_rule="mmse")
    assert reference(run).scheme.is_float
    with pytest.raises(InputError, match="unknown range rule 'mmse'"):
        compare_runtimes(run)
