"""`fqbench report` on the command line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("jinja2", reason="needs the extra report")
pytest.importorskip("matplotlib", reason="needs the extra report")
pytest.importorskip("huggingface_hub", reason="needs the extra report")


from fqbench.cli import main
from fqbench.workspace import Workspace


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return int(stop.value.code or 0)


@pytest.mark.slow
def test_prints_the_path_of_the_page(
    hostile_workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert call("report", "--workspace", hostile_workspace.root, "--out", out) == 0
    assert capsys.readouterr().out == f"{out / 'index.html'}\n"
    assert (out / "index.html").is_file()
    (out / "notes.txt").write_text("mine")
    assert call("report", "--workspace", hostile_workspace.root, "--out", out) == 2
    assert "notes.txt was added after the report was written" in " ".join(capsys.readouterr().err.split())


def test_without_the_extra(
    hostile_workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert call("report", "--workspace", hostile_workspace.root, "--out", tmp_path / "out") == 3
    assert "pip install 'fqbench[report]'" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_an_unknown_id(hostile_workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("report", "nothing", "--workspace", hostile_workspace.root) == 2
    assert "no evaluations 'nothing'" in " ".join(capsys.readouterr().err.split())
