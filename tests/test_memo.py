"""Answers that are kept: by question, and never a damaged one."""

from __future__ import annotations

from pathlib import Path

import pytest

from fqbench.workspace.memo import FOLDER, remembered


def test_an_answer_is_worked_out_once(tmp_path: Path) -> None:
    first = remembered(tmp_path, {"model": "a", "version": "1"}, lambda: {"size": 224, "mean": (0.5, 0.25)})
    assert first == {"size": 224, "mean": [0.5, 0.25]}
    assert remembered(tmp_path, {"version": "1", "model": "a"}, lambda: pytest.fail("known")) == first
    assert remembered(tmp_path, {"model": "a", "version": "2"}, lambda: {"size": 64}) == {"size": 64}


def test_every_answer_is_kept_though_the_workspace_is_new(tmp_path: Path) -> None:
    root = tmp_path / "not" / "there"
    for size in (224, 64):
        assert remembered(root, {"size": size}, lambda size=size: {"is": size}) == {"is": size}
    for size in (224, 64):
        assert remembered(root, {"size": size}, lambda: pytest.fail("known")) == {"is": size}


@pytest.mark.parametrize(
    "damage",
    [lambda text: text[:-9], lambda text: text.replace("224", "225"), lambda _text: "3"],
    ids=("cut", "changed", "other"),
)
def test_a_damaged_answer_is_worked_out_again(tmp_path: Path, damage: object) -> None:
    remembered(tmp_path, {"model": "a"}, lambda: {"size": 224})
    (file,) = (tmp_path / FOLDER).iterdir()
    assert callable(damage)
    file.write_text(damage(file.read_text()))
    assert remembered(tmp_path, {"model": "a"}, lambda: {"size": 224}) == {"size": 224}


def test_without_a_place_to_write_it_is_worked_out_each_time(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("a file where the folder would be")
    assert remembered(tmp_path, {"model": "a"}, lambda: {"size": 224}) == {"size": 224}
