"""Where output goes in the world: other encodings, full disks, readers that leave, closed streams, odd widths."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fqbench.config import configure
from fqbench.data.finding import pictures_below
from fqbench.workspace import Workspace
from tests.conftest import Invoke

FULL = Path("/dev/full")
NEEDS_FULL = pytest.mark.skipif(not FULL.exists(), reason="no /dev/full on this system")


def call(folder: Path, *arguments: object, env: dict[str, str] | None = None, **options: Any) -> tuple[int, str, str]:
    """Run the command line as a program: exit code, stdout, stderr."""
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    done = subprocess.run(
        [sys.executable, "-m", "fqbench.cli", *map(str, arguments)],
        cwd=folder,
        env=os.environ | {"FQBENCH_WORKSPACE": str(folder / "runs")} | (env or {}),
        check=False,
        **given,
    )
    return done.returncode, (done.stdout or b"").decode("utf-8"), (done.stderr or b"").decode("utf-8")


@pytest.fixture
def inspect(photos: Path) -> tuple[object, ...]:
    return ("data", "inspect", "--data", "folder", "--root", photos)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_text_is_utf_8_whatever_the_locale_says(inspect: tuple[object, ...], tmp_path: Path, encoding: str) -> None:
    code, out, err = call(tmp_path, *inspect, env={"PYTHONIOENCODING": encoding})
    assert (code, "───" in out) == (0, True), err


@NEEDS_FULL
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_full_disk_below_stdout(inspect: tuple[object, ...], tmp_path: Path, form: str) -> None:
    with FULL.open("wb") as full:
        code, _out, err = call(tmp_path, *inspect, "--format", form, stdout=full)
    assert (code, "the output cannot be read or written (No space left on device)" in err) == (2, True), err


@NEEDS_FULL
def test_the_exit_code_counts_where_stderr_cannot_be_written(tmp_path: Path) -> None:
    with FULL.open("wb") as full:
        assert call(tmp_path, "show", "nothing", stderr=full)[0] == 2


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_reader_that_leaves_is_not_a_failed_gate(inspect: tuple[object, ...], tmp_path: Path, form: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    code, _out, err = call(tmp_path, *inspect, "--format", form, stdout=writer)
    os.close(writer)
    assert (code, "bug" in err) == (141, False), err


def test_a_closed_stdout_is_no_error(inspect: tuple[object, ...], tmp_path: Path) -> None:
    code, _out, err = call(tmp_path, *inspect, stdout=None, preexec_fn=lambda: os.close(1))
    assert (code, "bug" in err) == (0, False), err


def test_no_columns_are_no_width(inspect: tuple[object, ...], tmp_path: Path) -> None:
    code, out, _err = call(tmp_path, *inspect, env={"COLUMNS": "0"})
    assert code == 0
    assert "images per class" in out


@pytest.mark.parametrize("number", [errno.EACCES])
def test_what_the_machine_refuses_is_no_bug(
    invoke: Invoke, inspect: tuple[object, ...], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(path: Path, *_args: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr("fqbench.data.listing.os.scandir", refuse)
    code, _out, err = invoke(*inspect)
    assert (code, f"({os.strerror(number)}); check its permissions" in " ".join(err.split())) == (2, True), err


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("Error calling function: KeyboardInterrupt: ")])
def test_an_interruption_says_what_is_kept(
    invoke: Invoke, inspect: tuple[object, ...], monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def interrupt(_path: Path) -> None:
        raise error

    monkeypatch.setattr("fqbench.data.listing.os.scandir", interrupt)
    code, _out, err = invoke(*inspect)
    assert (code, "error: interrupted; finished stages are kept" in err) == (130, True), err


def test_a_name_that_is_too_long_is_named_with_what_helps(invoke: Invoke, tmp_path: Path) -> None:
    code, _out, err = invoke("list", "--workspace", tmp_path / ("a" * 300))
    assert (code, "File name too long); give a shorter name" in " ".join(err.split())) == (2, True), err


def test_a_folder_that_is_gone_is_no_bug(invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    monkeypatch.delenv("FQBENCH_WORKSPACE")
    (tmp_path / "gone").rmdir()
    code, _out, err = invoke("list")
    assert (code, "the current folder does not exist any more; change into another" in err) == (2, True), err


def test_other_errors_are_bugs(invoke: Invoke, inspect: tuple[object, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fqbench.data.listing.os.scandir", None)
    code, _out, err = invoke(*inspect)
    assert (code, "a bug in fqbench: TypeError" in err) == (70, True), err


def test_a_folder_that_cannot_be_read_is_no_missing_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/0.png", "b/0.png", "lost+found/0.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    scandir = os.scandir
    closed = "lost+found"

    def refuse(path: Any) -> Any:
        if str(path).endswith(closed):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert list(pictures_below(tmp_path)) == ["a/0.png", "b/0.png"]
    closed = "b"
    with pytest.raises(PermissionError, match="b"):
        list(pictures_below(tmp_path))


def test_a_tilde_is_the_home_where_no_shell_has_seen_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FQBENCH_WORKSPACE", "~/runs")
    assert Workspace().root == tmp_path / "runs"
    (tmp_path / "own.yaml").write_text("data: {name: folder, root: ~/photos}\n")
    assert configure(tmp_path / "own.yaml").data.root == tmp_path / "photos"
    assert json.loads(configure(tmp_path / "own.yaml").model_dump_json())["data"]["root"] == str(tmp_path / "photos")
