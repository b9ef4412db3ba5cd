"""Entries are whole or not there, whatever happens to the process that writes them."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydantic
import pytest

from fqbench.errors import DataError, InputError, WorkspaceError
from fqbench.reporter import Silent
from fqbench.workspace import ENVIRONMENT_VARIABLE, MANIFEST, Derivation, Facts, Kind, OutdatedError, Workspace
from fqbench.workspace.kinds import DATASETS, DatasetFacts, PreparedFacts

THINGS = DATASETS
OTHERS = Kind("samples", DATASETS.version, DatasetFacts)


def derivation(
    slug: str = "thing", *, kind: Kind[DatasetFacts] = THINGS, version: int = DATASETS.version, **determined_by: Any
) -> Derivation[DatasetFacts]:
    return Derivation(replace(kind, version=version), slug, determined_by, {"data": "faces-1"})


def write(partial: Path) -> DatasetFacts:
    (partial / "inner").mkdir()
    (partial / "inner" / "weights.bin").write_bytes(b"weights")
    (partial / "log.txt").write_text("log")
    return DatasetFacts(notice="drawn")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "runs")


def everything_but_locks(workspace: Workspace) -> list[str]:
    paths = (path.relative_to(workspace.root) for path in workspace.root.rglob("*"))
    return sorted(str(path) for path in paths if path.parts[0] not in {".locks", ".checked"})


def test_entry_holds_files_and_where_they_came_from(workspace: Workspace) -> None:
    entry = workspace.produce(derivation(seed=1), write, {"model": {"name": "tiny"}})
    assert entry.file("inner/weights.bin").read_bytes() == b"weights"
    assert entry.facts == DatasetFacts(notice="drawn")
    manifest = json.loads((entry.path / MANIFEST).read_text())
    assert manifest["config"] == {"model": {"name": "tiny"}}
    assert manifest["determined_by"] == {"seed": 1}
    assert manifest["inputs"] == {"data": "faces-1"}
    assert manifest["files"].keys() == {"inner/weights.bin", "log.txt"}
    assert manifest["files"]["log.txt"]["size"] == 3
    assert manifest["versions"]["python"]
    assert manifest["command"]


def test_what_an_entry_says_cannot_be_changed(workspace: Workspace) -> None:
    entry = workspace.produce(derivation(seed=1), write, {})
    for part, name in ((entry, "path"), (entry.manifest, "digest"), (entry.facts, "notice")):
        with pytest.raises((dataclasses.FrozenInstanceError, pydantic.ValidationError)):
            setattr(part, name, None)
    with pytest.raises(pydantic.ValidationError):
        entry.manifest.files["log.txt"].size = 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        derivation().slug = "other"  # type: ignore[misc]


def test_same_question_is_a_cache_hit(workspace: Workspace) -> None:
    built = []

    def build(partial: Path) -> DatasetFacts:
        built.append(partial)
        return write(partial)

    first = workspace.produce(derivation(seed=1), build, {})
    second = workspace.produce(derivation(seed=1), build, {})
    assert len(built) == 1
    assert first == second
    assert workspace.find(derivation(seed=1)) == first
    assert workspace.find(derivation(seed=2)) is None


@pytest.mark.parametrize(
    "other",
    [
        derivation(seed=2),
        derivation(seed=1, size=64),
        derivation(seed="1"),
        derivation(seed=1, version=99),
        derivation(seed=1, kind=OTHERS),
    ],
)
def test_whatever_determines_an_entry_changes_its_id(other: Derivation[DatasetFacts]) -> None:
    assert other.id != derivation(seed=1).id


def test_id_is_readable_and_does_not_depend_on_order_or_inputs() -> None:
    one = Derivation(THINGS, "ort int8/balanced", {"a": 1, "b": [1, 2]}, {"model": "x"})
    two = Derivation(THINGS, "ort int8/balanced", {"b": [1, 2], "a": 1}, {})
    assert one.id == two.id
    assert one.id.startswith("ort-int8-balanced-")
    assert Path(one.id).name == one.id


@pytest.mark.parametrize("slug", ["../../etc", "/root", "a\0b", "x" * 20 + "/..", ".hidden"])
def test_id_never_leaves_its_folder(workspace: Workspace, slug: str) -> None:
    entry = workspace.produce(derivation(slug), write, {})
    assert entry.path.parent == workspace.root / "datasets"
    assert workspace.entries() == [entry], "an entry whose name begins with a dot would never be listed"


@pytest.mark.parametrize("slug", ["x" * 300, "面" * 120])
def test_a_long_name_is_cut_to_what_a_file_system_takes(workspace: Workspace, slug: str) -> None:
    entry = workspace.produce(derivation(slug), write, {})
    assert entry.id.startswith(slug[:50])
    assert workspace.get(entry.id) == entry


def test_digest_is_of_the_files_alone(workspace: Workspace) -> None:
    one = workspace.produce(derivation(seed=1), write, {})
    two = workspace.produce(derivation(seed=2), write, {"another": {}})

    def write_more(partial: Path) -> DatasetFacts:
        (partial / "more.txt").write_text("")
        return write(partial)

    three = workspace.produce(derivation(seed=3), write_more, {})
    assert one.digest == two.digest != three.digest


@pytest.mark.parametrize(
    "error", [RuntimeError("no"), KeyboardInterrupt(), SystemExit(3), OSError(errno.ENOSPC, "full")]
)
def test_build_that_raises_leaves_nothing(workspace: Workspace, error: BaseException) -> None:
    def build(partial: Path) -> DatasetFacts:
        write(partial)
        raise error

    expected = WorkspaceError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected):
        workspace.produce(derivation(), build, {})
    assert everything_but_locks(workspace) == ["datasets"]
    assert workspace.entries() == []
    assert workspace.produce(derivation(), write, {}).facts == DatasetFacts(notice="drawn")


def test_facts_of_another_kind_are_refused_and_leave_nothing(workspace: Workspace) -> None:
    def build(partial: Path) -> DatasetFacts:
        write(partial)
        return PreparedFacts(images=1, unreadable=0, unreadable_first=())  # type: ignore[return-value]

    with pytest.raises(TypeError, match="PreparedFacts"):
        workspace.produce(derivation(), build, {})
    assert everything_but_locks(workspace) == ["datasets"]


# A child process writes an entry and stops in the middle of it, or counts how often it was asked to build.
CHILD = """
import os, sys, time
from pathlib import Path
from fqbench.workspace import Derivation, Workspace
from fqbench.workspace.kinds import DATASETS, DatasetFacts

root, log, mode = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]

def build(partial):
    with log.open("a") as file:
        file.write("built\\n")
    (partial / "half.bin").write_bytes(b"half of it")
    if mode == "hang":
        print("writing", flush=True)
        time.sleep(60)
    time.sleep(0.3)
    (partial / "rest.bin").write_bytes(b"the rest")
    return DatasetFacts(notice=str(os.getpid()))

print(Workspace(root).produce(Derivation(DATASETS, "thing", {}, {}), build, {}).facts.notice)
"""


@pytest.fixture
def child(tmp_path: Path) -> Callable[[str], subprocess.Popen[str]]:
    script = tmp_path / "child.py"
    script.write_text(textwrap.dedent(CHILD))

    def start(mode: str) -> subprocess.Popen[str]:
        arguments = [sys.executable, str(script), str(tmp_path / "runs"), str(tmp_path / "log"), mode]
        return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)

    return start


def test_killed_in_mid_write_it_shows_nothing_and_the_next_run_succeeds(
    workspace: Workspace, child: Callable[[str], subprocess.Popen[str]]
) -> None:
    with child("hang") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    partial = [path for path in everything_but_locks(workspace) if path.endswith("half.bin")]
    assert len(partial) == 1, "the child was to be killed with a file half written"
    assert workspace.entries() == []
    assert workspace.find(derivation()) is None
    entry = workspace.produce(derivation(), write, {})
    assert sorted(path.name for path in entry.path.iterdir()) == ["inner", "log.txt", MANIFEST]
    assert [path.name for path in (workspace.root / "datasets").iterdir()] == [entry.id]


def test_what_was_killed_between_manifest_and_publication_is_no_entry(workspace: Workspace) -> None:
    entry = workspace.produce(derivation(), write, {})
    partial = entry.path.with_name(f".{entry.id}.0a1b2c3d.partial")
    shutil.copytree(entry.path, partial)
    assert workspace.entries() == [entry]
    assert workspace.located(partial.name) is None
    for name in (partial.name, partial.name[:5]):
        with pytest.raises(InputError, match="no entry"):
            workspace.get(name)


def test_two_processes_that_ask_for_the_same_build_it_once(
    tmp_path: Path, child: Callable[[str], subprocess.Popen[str]]
) -> None:
    processes = [child("count") for _ in range(3)]
    answers = {process.communicate(timeout=60)[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == "built\n"
    assert len(answers) == 1


def test_whoever_waited_looks_again_before_it_builds(workspace: Workspace) -> None:
    begun, waits = threading.Event(), threading.Event()
    built = []

    def slow(partial: Path) -> DatasetFacts:
        begun.set()
        assert waits.wait(20)
        return build(partial)

    def build(partial: Path) -> DatasetFacts:
        built.append(partial)
        return write(partial)

    class Waiting(Silent):
        def say(self, line: str) -> None:
            assert line == f"waiting for another process that is making datasets/{derivation().id}"
            waits.set()

    first = threading.Thread(target=lambda: workspace.produce(derivation(), slow, {}))
    first.start()
    assert begun.wait(20)
    entry = Workspace(workspace.root, Waiting()).produce(derivation(), build, {})
    first.join()
    assert waits.is_set()
    assert len(built) == 1
    assert workspace.find(derivation()) == entry


def test_entry_being_written_by_another_process_is_left_alone(
    workspace: Workspace, child: Callable[[str], subprocess.Popen[str]], tmp_path: Path
) -> None:
    """Another recipe of the same kind takes another lock, and must not sweep away the first one's work."""
    with child("slow") as process:
        for _ in range(300):
            if (tmp_path / "log").exists():
                break
            time.sleep(0.02)
        workspace.produce(derivation("thing-else"), write, {})
        assert process.wait(60) == 0
    assert {entry.id.rpartition("-")[0] for entry in workspace.entries()} == {"thing", "thing-else"}


def test_root_below_a_regular_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        WorkspaceError, match=r"file/runs cannot be written .*choose another with --workspace"
    ) as caught:
        Workspace(tmp_path / "file" / "runs").produce(derivation(), write, {})
    assert caught.value.exit_code == 2


def test_read_only_disk_is_one_sentence(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *_arguments: object, **_options: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(WorkspaceError, match="Read-only file system") as caught:
        workspace.produce(derivation(), write, {})
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_folder_above_the_workspace_that_cannot_be_written_is_its_own(workspace: Workspace) -> None:
    with pytest.raises(WorkspaceError, match="Permission denied"), workspace.writing():
        raise PermissionError(errno.EACCES, "Permission denied", str(workspace.root.parent))


class NoPictureError(OSError):
    """As PIL.UnidentifiedImageError: an OSError without number or file name."""


@pytest.mark.parametrize(
    "error",
    [
        NoPictureError("cannot identify image file"),
        ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
        TimeoutError("the hub does not answer"),
        PermissionError(errno.EACCES, "Permission denied", "/photos/1.jpg"),
    ],
)
def test_errors_that_have_nothing_to_do_with_the_workspace_pass_through(workspace: Workspace, error: OSError) -> None:
    def build(partial: Path) -> DatasetFacts:
        raise error

    with pytest.raises(type(error)):
        workspace.produce(derivation(), build, {})


def test_missing_input_inside_the_workspace_is_not_blamed_on_writing(workspace: Workspace) -> None:
    def build(partial: Path) -> DatasetFacts:
        (workspace.root / "datasets" / "gone" / "model.onnx").read_bytes()
        return DatasetFacts(notice="")

    with pytest.raises(FileNotFoundError):
        workspace.produce(derivation(), build, {})


def test_neighbour_whose_name_begins_alike_is_not_the_workspace(workspace: Workspace) -> None:
    def build(partial: Path) -> DatasetFacts:
        raise PermissionError(errno.EACCES, "Permission denied", f"{workspace.root}-of-others/file")

    with pytest.raises(PermissionError):
        workspace.produce(derivation(), build, {})


class Figures(Facts):
    shape: tuple[int, ...]
    loss: float
    bounds: tuple[float, float]


def test_facts_are_the_same_on_the_first_run_and_on_a_cache_hit(workspace: Workspace) -> None:
    """NaN and infinity, which JSON does not have, among them."""
    asked = Derivation(Kind("figures", 1, Figures), "figures", {}, {})

    def build(partial: Path) -> Figures:
        return Figures(shape=(3, 64, 64), loss=math.nan, bounds=(-math.inf, math.inf))

    first, hit = (workspace.produce(asked, build, {}) for _ in range(2))
    for entry in (first, hit):
        assert entry.facts.shape == (3, 64, 64)
        assert math.isnan(entry.facts.loss)
        assert entry.facts.bounds == (-math.inf, math.inf)


def test_file_that_a_build_could_not_find_elsewhere_is_not_blamed_on_the_workspace(workspace: Workspace) -> None:
    def build(partial: Path) -> DatasetFacts:
        Path("/no/such/photo.jpg").read_bytes()
        return DatasetFacts(notice="")

    with pytest.raises(FileNotFoundError, match=r"photo\.jpg"):
        workspace.produce(derivation(), build, {})


def test_finished_entries_are_read_from_a_workspace_that_cannot_be_written(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = workspace.produce(derivation(), write, {})
    monkeypatch.setattr(Path, "mkdir", lambda *_arguments, **_options: pytest.fail("a cache hit writes nothing"))
    assert workspace.produce(derivation(), write, {}) == entry


@pytest.mark.parametrize("text", ["{", "", '{"id": "x"}', "\x00\x01"])
def test_damaged_manifest_is_a_data_error(workspace: Workspace, text: str) -> None:
    entry = workspace.produce(derivation(), write, {})
    (entry.path / MANIFEST).write_text(text)
    for look in (
        lambda: workspace.find(derivation()),
        lambda: workspace.get(entry.id),
        lambda: workspace.produce(derivation(), write, {}),
    ):
        with pytest.raises(DataError, match=r"manifest of .* is damaged; delete this directory"):
            look()


def test_a_damaged_entry_hides_no_other(workspace: Workspace) -> None:
    damaged = workspace.produce(derivation(), write, {})
    whole = workspace.produce(derivation(determined_by={"seed": 99}), write, {})
    (damaged.path / MANIFEST).write_text("{")
    assert [entry.id for entry in workspace.entries()] == [whole.id]


def test_an_unknown_kind_suggests_the_nearest(workspace: Workspace) -> None:
    with pytest.raises(InputError, match="unknown kind 'artefacts': did you mean 'artifacts'"):
        workspace.entries("artefacts")


def test_truncated_file_is_a_data_error(workspace: Workspace) -> None:
    entry = workspace.produce(derivation(), write, {})
    (entry.path / "inner" / "weights.bin").write_bytes(b"wei")
    with pytest.raises(
        DataError, match=r"weights\.bin is damaged: it has 3 bytes instead of 7; delete .* and run the same"
    ) as caught:
        workspace.find(derivation())
    assert caught.value.exit_code == 4


def test_missing_file_is_a_data_error(workspace: Workspace) -> None:
    entry = workspace.produce(derivation(), write, {})
    (entry.path / "log.txt").unlink()
    with pytest.raises(DataError, match=r"log\.txt is missing"):
        workspace.find(derivation())


def test_directory_without_a_manifest_is_no_entry(workspace: Workspace) -> None:
    (workspace.root / "datasets" / derivation().id).mkdir(parents=True)
    assert workspace.find(derivation()) is None
    assert workspace.entries() == []


def test_entry_is_found_by_the_beginning_of_its_id(workspace: Workspace) -> None:
    resnet = workspace.produce(derivation("resnet"), write, {})
    vit = workspace.produce(derivation("vit"), write, {})
    assert workspace.get("res") == resnet
    assert workspace.get(vit.id) == vit
    assert workspace.get("vit", kind="datasets") == vit


def test_entry_is_found_by_the_hash_at_the_end_of_its_id(workspace: Workspace) -> None:
    one, two = (workspace.produce(derivation("vit", seed=seed), write, {}) for seed in (1, 2))
    for entry in (one, two):
        tail = entry.id.rpartition("-")[2]
        assert workspace.get(tail[:4]) == workspace.get("#" + tail[:4]) == workspace.get(tail) == entry
        with pytest.raises(InputError, match="no entry"):
            workspace.get(tail[:3])
        with pytest.raises(InputError, match="no entry"):
            workspace.get(tail[1:6])


def test_ambiguous_beginning_names_the_candidates(workspace: Workspace) -> None:
    one, two = (workspace.produce(derivation("vit", seed=seed), write, {}) for seed in (1, 2))
    with pytest.raises(InputError, match="is ambiguous") as caught:
        workspace.get("vit")
    assert one.id in str(caught.value)
    assert two.id in str(caught.value)


def test_unknown_id_gets_the_nearest_one(workspace: Workspace) -> None:
    entry = workspace.produce(derivation("resnet"), write, {})
    with pytest.raises(InputError, match=f"did you mean '{entry.id}'"):
        workspace.get("x" + entry.id)
    with pytest.raises(InputError, match=r"no samples 'resnet' in the workspace .*: it is empty"):
        workspace.get("resnet", kind=OTHERS)


def test_entries_come_oldest_first_and_by_kind(workspace: Workspace) -> None:
    first = workspace.produce(derivation("z", kind=THINGS), write, {})
    time.sleep(0.002)
    second = workspace.produce(derivation("a", kind=OTHERS), write, {})
    assert workspace.entries(THINGS) == [first]
    assert workspace.entries(OTHERS) == [second]
    time.sleep(0.002)
    third = workspace.produce(derivation("a", kind=THINGS), write, {})
    assert workspace.entries(THINGS) == [first, third]
    assert workspace.entries("benches") == []


def test_root_comes_from_argument_then_environment_then_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path / "environment"))
    assert Workspace("given").root == tmp_path / "given"
    assert Workspace().root == tmp_path / "environment"
    monkeypatch.delenv(ENVIRONMENT_VARIABLE)
    assert Workspace().root == tmp_path / "fqbench_runs"
    assert not list(tmp_path.iterdir()), "looking writes nothing"


OLD_MANIFEST = """{
  "id": "synthfaces-8000x64-0123456789", "kind": "datasets", "stage_version": 1,
  "determined_by": {"images": 8000}, "inputs": {}, "config": {}, "command": "fqbench train --images 8000",
  "versions": {"python": "3.11.0"}, "created": "2026-01-01T00:00:00.000+00:00", "seconds": 1.5,
  "files": {}, "digest": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "details": {"notice": ""}
}"""


@pytest.fixture
def old(workspace: Workspace) -> Path:
    """An entry as it was written before facts had types."""
    folder = workspace.root / "datasets" / "synthfaces-8000x64-0123456789"
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_text(OLD_MANIFEST)
    return folder


def test_an_entry_of_an_older_layout_says_how_to_make_it_again(workspace: Workspace, old: Path) -> None:
    with pytest.raises(OutdatedError, match=r"another version of fqbench.*make it again with: fqbench train --images"):
        workspace.get(old.name)


def test_entries_of_an_older_layout_are_left_out_with_one_sentence(
    workspace: Workspace, old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[str] = []
    workspace.reporter = Telling(told)
    entry = workspace.produce(derivation("synthfaces-8000x64"), write, {})
    assert workspace.entries() == [entry]
    assert told == [
        f"1 entries of {workspace.root} were written by another version of fqbench and are left out; run their "
        "commands again (`command` in each manifest.json), then remove them with `fqbench gc --delete`."
    ]
    assert workspace.get("synthfaces") == entry, "of two that begin alike, this version's is meant"


def test_an_entry_of_another_stage_version_is_not_opened(workspace: Workspace) -> None:
    entry = workspace.produce(derivation(version=DATASETS.version + 1), write, {})
    with pytest.raises(OutdatedError, match="written by another version"):
        workspace.get(entry.id, DATASETS)


def test_an_entry_of_another_layout_is_not_opened(workspace: Workspace) -> None:
    entry = workspace.produce(derivation(), write, {})
    later = entry.manifest.model_copy(update={"layout": entry.manifest.layout + 1})
    (entry.path / MANIFEST).write_bytes(later.sealed())
    with pytest.raises(OutdatedError, match="written by another version"):
        workspace.get(entry.id, DATASETS)


class Telling(Silent):
    def __init__(self, told: list[str]) -> None:
        self.told = told

    def say(self, line: str) -> None:
        self.told.append(line)
