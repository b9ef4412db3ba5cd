"""Every flipped bit is found before it is used, and what nothing refers to can go."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

from fqbench.cli import main
from fqbench.errors import DataError, InputError
from fqbench.run import Run
from fqbench.stages.bench import bench
from fqbench.stages.evaluate import evaluate
from fqbench.stages.gate import gate
from fqbench.stages.quantize import quantize, reference
from fqbench.stages.replicate import replicate
from fqbench.workspace import MANIFEST, Derivation, Workspace, contents
from fqbench.workspace.kinds import DATASETS, DatasetFacts
from fqbench.workspace.upkeep import collect, verify

MakeRun = Callable[..., Run]


def flip(path: Path, bit: int = 3) -> None:
    """Flip one bit in the middle of a file, at the same size."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1 << bit
    path.write_bytes(content)


def write(out: Path) -> DatasetFacts:
    (out / "faces.bin").write_bytes(b"faces" * 100)
    return DatasetFacts(notice="drawn")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "runs")


@pytest.fixture
def everything(make_run: MakeRun, tmp_path: Path) -> Run:
    """A workspace with every kind of entry that a model of one's own brings about."""
    run = make_run()
    evaluate(run, [reference(run), quantize(run)])
    bench(run, [reference(run), quantize(run)])
    replicate(run, (), (0, 1))
    (tmp_path / "limits.yaml").write_text("limits: {max_accuracy_drop: 0.5}")
    gate(run, tmp_path / "limits.yaml")
    return run


def test_a_flipped_bit_in_any_file_of_any_kind_is_found(everything: Run) -> None:
    workspace = everything.workspace
    assert verify(workspace).damages == ()
    kinds = set()
    for kind, folder in workspace.folders():
        for file in [path for path in folder.rglob("*") if path.is_file()]:
            before, times = file.read_bytes(), file.stat()
            flip(file)
            os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
            damages = verify(workspace, [folder.name]).damages
            assert [(one.kind, one.id) for one in damages][:1] == [(kind.name, folder.name)], file
            assert str(folder) in damages[0].remedy + damages[0].problem
            with pytest.raises(DataError):
                workspace.get(folder.name, kind)
            file.write_bytes(before)
        kinds.add(kind.name)
    assert verify(workspace).damages == ()
    assert kinds >= {"samples", "prepared", "models", "calibrations", "records", "artifacts", "predictions"}
    assert kinds >= {"evaluations", "benches", "replications", "gates"}


@pytest.mark.parametrize("name", ["samples", "prepared", "models", "records", "artifacts", "predictions", "benches"])
def test_using_what_is_damaged_is_exit_code_4(everything: Run, name: str) -> None:
    workspace = everything.workspace
    _kind, folder = workspace.folders(name)[0]
    flip(next(path for path in sorted(folder.iterdir()) if path.name != MANIFEST))
    run = Run(everything.config, Workspace(workspace.root), everything.reporter)

    def use() -> None:
        bench(run, [reference(run), quantize(run)])
        workspace.get(folder.name)  # what a measurement that is there does not look at

    with pytest.raises(DataError, match=r"is damaged: .*; delete .* and run the same command again") as caught:
        use()
    assert caught.value.exit_code == 4


def test_a_file_is_hashed_again_when_it_changed_and_not_before(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Derivation(DATASETS, "faces", {}, {})
    entry = workspace.produce(asked, write, {})
    with monkeypatch.context() as patched:
        patched.setattr("fqbench.workspace.contents.file_digest", lambda _path: pytest.fail("hashed without need"))
        assert Workspace(workspace.root).find(asked) == entry
    os.utime(entry.file("faces.bin"))
    assert workspace.find(asked) == entry, "another time, the same contents"
    flip(entry.file("faces.bin"))
    with pytest.raises(DataError, match=r"faces\.bin is damaged: its contents are not those that were written"):
        workspace.find(asked)


def test_a_workspace_that_cannot_be_written_is_hashed_and_read(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Derivation(DATASETS, "faces", {}, {})
    entry = workspace.produce(asked, write, {})
    os.utime(entry.file("faces.bin"))

    def refuse(*_arguments: object, **_options: object) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr("fqbench.workspace.contents.write_whole", refuse)
    assert workspace.find(asked) == entry
    monkeypatch.setattr(Path, "unlink", refuse)
    assert verify(workspace).entries == 1


def test_verify_names_missing_files_and_wrong_manifests(workspace: Workspace) -> None:
    one, two, three = (
        workspace.produce(Derivation(DATASETS, "faces", {"seed": seed}, {}), write, {}) for seed in range(3)
    )
    one.file("faces.bin").unlink()
    (two.path / MANIFEST).write_text((two.path / MANIFEST).read_text().replace('"seed": 1', '"seed": 7'))
    three.path.rename(three.path.with_name("renamed-0123456789"))
    damages = {damage.id: damage for damage in verify(workspace).damages}
    assert damages[one.id].problem == f"{one.file('faces.bin')} is missing"
    assert f"delete {one.path} and run again: " in damages[one.id].remedy
    assert "the manifest of" in damages[two.id].problem
    assert f"holds datasets/{three.id}" in damages["renamed-0123456789"].problem
    assert len(damages) == 3


def test_a_whole_manifest_that_contradicts_itself_is_named(workspace: Workspace) -> None:
    """Sealed again, so that its checksum is right: what else it says must still fit together."""
    first, second = (workspace.produce(Derivation(DATASETS, "faces", {"seed": seed}, {}), write, {}) for seed in (1, 2))
    for entry, change in ((first, {"determined_by": {"seed": 7}}), (second, {"digest": "0" * 64})):
        (entry.path / MANIFEST).write_bytes(entry.manifest.model_copy(update=change).sealed())
    damages = {damage.id: damage.problem for damage in verify(workspace).damages}
    assert damages == {
        first.id: f"the id of {first.path} does not match its inputs",
        second.id: f"the digest of {second.path} does not match its files",
    }


def test_what_verify_found_damaged_is_not_trusted_again_and_what_it_found_whole_is(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = (Derivation(DATASETS, "faces", {"seed": seed}, {}) for seed in (1, 2))
    rotten, whole = (workspace.produce(one, write, {}) for one in (bad, good))
    flip(rotten.file("faces.bin"))
    contents.remember(workspace.root, rotten.path, rotten.manifest.files)  # a disk that rots changes no times
    assert workspace.find(bad) == rotten
    contents.forget(workspace.root, whole.path)
    assert [damage.id for damage in verify(workspace).damages] == [rotten.id]
    with pytest.raises(DataError, match="is damaged"):
        workspace.find(bad)
    monkeypatch.setattr("fqbench.workspace.contents.file_digest", lambda _path: pytest.fail("hashed without need"))
    assert workspace.find(good) == whole


def test_entries_of_another_version_are_not_checked_but_can_go(workspace: Workspace) -> None:
    later = replace(DATASETS, version=DATASETS.version + 1)
    entry = workspace.produce(Derivation(later, "faces", {}, {}), write, {})
    found = verify(workspace)
    assert (found.outdated, found.damages, found.entries, found.files) == ((f"datasets/{entry.id}",), (), 0, 0)
    (garbage,) = (one for one in collect(workspace) if one.path.suffix != ".lock")
    assert (garbage.path, garbage.reason) == (entry.path, "written by another version of fqbench")
    assert garbage.bytes == 500 + (entry.path / MANIFEST).stat().st_size


def test_the_memory_of_a_check_goes_with_its_entry(workspace: Workspace) -> None:
    gone, there = (workspace.produce(Derivation(DATASETS, "faces", {"n": n}, {}), write, {}) for n in (1, 2))
    shutil.rmtree(gone.path)
    reasons = {one.path: one.reason for one in collect(workspace) if one.path.suffix != ".lock"}
    place = workspace.root / contents.CHECKED / "datasets"
    assert reasons == {
        there.path: "no result uses it",
        place / gone.id: "record of a check of an entry that no longer exists",
    }


def run_verb(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    return int(caught.value.code or 0)


def test_the_verb_verify(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    entry = workspace.produce(Derivation(DATASETS, "faces", {}, {}), write, {})
    root = str(workspace.root)
    assert run_verb("verify", "--workspace", root) == 0
    assert "checked 1 files (0.0 MB) of 1 entries: all as they were written" in capsys.readouterr().out
    flip(entry.file("faces.bin"))
    assert run_verb("verify", "faces", "--workspace", root, "--json") == 4
    found = json.loads(capsys.readouterr().out)
    assert [damage["id"] for damage in found["damages"]] == [entry.id]
    assert run_verb("verify", "--workspace", root) == 4
    assert run_verb("verify", "no-such", "--workspace", root) == InputError.exit_code


def test_garbage_is_named_first_and_deleted_when_asked(everything: Run, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = everything.workspace
    whole = verify(workspace)
    unused = workspace.produce(Derivation(DATASETS, "unused", {}, {}), write, {})
    partial = workspace.root / "models" / ".resnet-0123456789.a1b2c3d4.partial"
    scratch = workspace.root / "checkpoints" / ".resnet-0123456789.scratch"
    for folder in (partial, scratch):
        folder.mkdir(parents=True)
        (folder / "half").write_text("half")
    named = {one.path for one in collect(workspace)}
    assert {unused.path, partial, scratch} <= named
    assert all(path in {unused.path, partial, scratch} or path.suffix == ".lock" for path in named)
    assert run_verb("gc", "--workspace", str(workspace.root)) == 0
    assert "nothing was deleted: run again with --delete" in capsys.readouterr().out
    assert unused.path.is_dir()
    assert run_verb("gc", "--delete", "--workspace", str(workspace.root), "--json") == 0
    assert json.loads(capsys.readouterr().out)["deleted"] is True
    assert not any(path.exists() for path in named)
    assert verify(workspace) == whole
    assert collect(workspace) == []
    evaluate(everything, [reference(everything), quantize(everything)])


HOLDER = """
import sys, time
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_what_another_process_is_making_is_left_alone(workspace: Workspace) -> None:
    partial = workspace.root / "models" / ".resnet-0123456789.a1b2c3d4.partial"
    partial.mkdir(parents=True)
    lock = workspace.root / ".locks" / "models-resnet-0123456789.lock"
    lock.parent.mkdir()
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(lock)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert collect(workspace, delete=True) == []
        process.kill()
    assert {one.path for one in collect(workspace)} == {partial, lock}
    with FileLock(lock):
        pass
