"""Data as others keep them, through the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fqbench.cli import main
from fqbench.config import Preprocessing, configure
from fqbench.run import Run
from fqbench.stages.prepare import prepare
from fqbench.stages.read import read, read_entry
from fqbench.workspace import Workspace
from tests.data.trees import picture

SMALL = ("--size", "32", "--epochs", "1", "--batch-size", "8", "--calib-n", "8", "--replicates", "100")


def classes(root: Path, count: int = 60) -> Path:
    rng = np.random.default_rng(0)
    for index in range(count):
        picture(root / ("cat", "dog")[index % 2] / f"{index}.jpg", (80, 170)[index % 2], rng, (40, 40))
    return root


def call(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> Any:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in (*arguments, "--json")])
    captured = capsys.readouterr()
    assert (stop.value.code or 0) == code, captured.err
    return captured.err if code else json.loads(captured.out)


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FQBENCH_WORKSPACE", str(tmp_path / "workspace"))


def test_a_table_needs_no_data_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = classes(tmp_path / "photos", 20)
    table = pd.DataFrame(
        {"image": [str(index) for index in range(20)], "pet": ["cat", "dog"] * 10, "sex": list("ffmm") * 5}
    )
    table.to_parquet(tmp_path / "labels.parquet")
    found = call(
        capsys, "data", "inspect", "--table", tmp_path / "labels.parquet", "--images", root, "--label", "pet"
    )  # fmt: skip
    assert (found["data"], found["images"], found["by"]) == ("table", 20, ["sex"])


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--images", "photos"), 2, "a folder goes with --table FILE"),
        (("--images", "0"), 2, "give a number from 1"),
        (("--table", "labels.csv"), 2, "add --images DIR"),
        (("--data", "table", "--images", "photos"), 2, "add --table FILE"),
        (("--data", "hf"), 2, "--data hf needs the folder .* add --root DIR, as save_to_disk wrote it"),
        (("--data", "imagefolder", "--root", "nowhere"), 2, "no folder .*nowhere"),
        (("--data", "imagefolder", "--root", "photos", "--label", "pet"), 2, "--label does not apply to imagefolder"),
        (("--data", "celeba", "--root", "x", "--table", "labels.csv"), 2, "--table does not apply to celeba"),
        (("--data", "folders", "--root", "photos"), 2, "did you mean 'folder'|did you mean 'imagefolder'"),
    ],
)
def test_what_is_missing_is_said(
    arguments: tuple[str, ...], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error = call(capsys, "data", "inspect", *arguments, code=code)
    assert re.search(message, " ".join(error.split())), error


def test_pictures_inside_parquet_are_prepared_once(tmp_path: Path) -> None:
    files = sorted(classes(tmp_path / "photos", 40).rglob("*.jpg"), key=lambda path: int(path.stem))
    (tmp_path / "set").mkdir()
    rows = {"image": [file.read_bytes() for file in files], "label": [file.parent.name for file in files]}
    pq.write_table(pa.table(rows), tmp_path / "set" / "a.parquet")
    run = Run(configure(data="hf", root=tmp_path / "set"), Workspace())
    store = prepare(run, Preprocessing(size=32))
    again = Run(configure(data="hf", root=tmp_path / "set"), Workspace())
    assert prepare(again, Preprocessing(size=32)).entry.id == store.entry.id
    assert read(again).image_column == "image"
    folders = Run(configure(data="imagefolder", root=tmp_path / "photos"), Workspace())
    others = prepare(folders, Preprocessing(size=32)).images
    assert read(folders).classes == read(run).classes
    for number in range(40):
        (mine,), (theirs,) = store.images.rows_of([f"row-{number:07d}"]), others.rows_of(
            [files[number].relative_to(tmp_path / "photos").as_posix()]
        )  # fmt: skip
        assert (store.images.pixels[mine] == others.pixels[theirs]).all()


def test_data_that_changed_are_read_again(tmp_path: Path) -> None:
    root = classes(tmp_path / "photos", 20)

    def entry() -> str:
        return read_entry(Run(configure(data="imagefolder", root=root), Workspace())).id

    before = entry()
    assert entry() == before
    (root / "cat" / "0.jpg").rename(root / "dog" / "0.jpg")
    assert entry() != before


@pytest.mark.slow
def test_class_folders_without_any_sensitive_feature(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    asked = ("--model", "resnet10t", "--data", "imagefolder", "--root", classes(tmp_path / "photos"), *SMALL)
    evaluation = call(capsys, "eval", *asked)
    assert {made["label"] for made in evaluation["artifacts"]} == {"ort fp32", "ort int8/balanced"}
    assert "all" in json.dumps(evaluation)
