"""Counts of a data set, and what is said to be wrong with it."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from fqbench.cli import main
from fqbench.data.inspect import inspect
from fqbench.data.samples import Problem, Samples
from fqbench.errors import InputError
from tests.data.trees import write_celeba


def samples(root: Path) -> Samples:
    rows = [
        *[("train", 0, "a")] * 60,
        *[("train", 1, "a")] * 20,
        *[("val", 0, "a")] * 40,
        *[("test", 0, "b")] * 10,
    ]
    frame = pd.DataFrame(rows, columns=["split", "label", "tone"])
    frame["path"] = frame["sample_id"] = [f"{index}.jpg" for index in range(len(frame))]
    for name in frame["path"]:
        (root / name).write_bytes(b"x")
    (root / "7.jpg").write_bytes(b"")
    return Samples("some", root, frame, ("no", "yes"), ("tone",), problems=(Problem("odd", 2, ("x", "y")),))


def test_counts_imbalance_and_problems(tmp_path: Path) -> None:
    found = inspect(samples(tmp_path))
    assert found.splits == {"train": 80, "val": 40, "test": 10}
    assert found.labels["train"] == {"no": 60, "yes": 20}
    assert [(group.group, group.images) for group in found.groups] == [("b", 10), ("a", 120)]
    assert found.smallest_groups[0].labels == {"no": 10, "yes": 0}
    assert (found.class_imbalance, found.group_imbalance) == (110 / 20, 12.0)
    said = {problem.what: problem.first for problem in found.problems}
    assert said == {
        "odd": ("x", "y"),
        "picture(s) are empty files": ("7.jpg",),
        "group(s) have no image in split 'train'": ("b",),
        "group(s) have no image in split 'val'": ("b",),
        "class(es) have no image in split 'val'": ("yes",),
        "group(s) have no image in split 'test'": ("a",),
        "group(s) have under 30 images in split 'test'": ("b",),
        "class(es) have no image in split 'test'": ("yes",),
        "group(s) have images of one class only": ("b",),
    }
    json.dumps(found.to_dict(), allow_nan=False)


def test_an_unknown_feature(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no sensitive feature 'tune'"):
        inspect(samples(tmp_path), ["tune"])


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FQBENCH_WORKSPACE", str(tmp_path / "workspace"))
    root = write_celeba(tmp_path / "celeba", 32, size=(16, 16))

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main(["data", "inspect", *arguments])
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    code, out, _err = call("celeba", "--root", str(root))
    assert code == 0
    assert "Male × Young" in out
    assert "under 30 images in split 'test'" in out
    code, out, _err = call("celeba", "--root", str(root), "--by", "Young", "--json")
    assert [group["images"] for group in json.loads(out)["groups"]] == [16, 16]
    code, _out, err = call("celeba", "--root", str(root), "--padding", "0.25")
    assert (code, "--padding does not apply to celeba; it is for fairface" in err) == (2, True)
    code, _out, err = call("utkface")
    assert (code, "--data utkface needs the folder of the images: add --root DIR" in err) == (2, True)
