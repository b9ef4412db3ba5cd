"""Workspaces of nodes that do not see the driver's: what they need is fetched, what they make is brought, once."""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fqbench.errors import DataError
from fqbench.run import Run
from fqbench.study.executors import carried
from fqbench.study.executors.carried import CarriedWorkspace, Desk
from fqbench.study.executors.serial import Serial
from fqbench.study.opening import open_study
from fqbench.study.runner import run_study, tasks_of
from fqbench.study.tasks import attempt
from fqbench.workspace import MANIFEST, Derivation, Workspace
from fqbench.workspace.carrying import pack, unpack
from fqbench.workspace.kinds import GATES, GateFacts

Write = Callable[..., Path]
FACTS = GateFacts(artifacts=(), passed=True, checks=0)


def derivation(name: str = "one") -> Derivation[GateFacts]:
    return Derivation(GATES, name, {"made": "here"}, {})


def build(folder: Path) -> GateFacts:
    (folder / "deep").mkdir()
    (folder / "deep" / "file.bin").write_bytes(bytes(range(256)))
    return FACTS


def node(desk: Desk, folder: Path, owner: str = "task") -> CarriedWorkspace:
    def ask(method: str, *values: Any) -> Any:
        return getattr(desk, method)(*values)

    return CarriedWorkspace(folder, ask, owner)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(str(tmp_path / "driver"))


def test_an_entry_goes_to_the_driver_and_from_there_to_another_node(desk: Desk, tmp_path: Path) -> None:
    made = node(desk, tmp_path / "a").produce(derivation(), build, {})
    assert desk.workspace.get(made.id, GATES).digest == made.digest

    def never(_folder: Path) -> GateFacts:
        raise AssertionError

    other = node(desk, tmp_path / "b")
    assert other.produce(derivation(), never, {}).digest == made.digest
    assert other.get(made.id, GATES).path.is_relative_to(tmp_path / "b")
    assert [entry.id for entry in node(desk, tmp_path / "c").entries(GATES)] == [made.id]
    assert node(desk, tmp_path / "d").located(made.id) is not None
    assert node(desk, tmp_path / "d").located("another") is None
    assert desk.leases == {}


def test_what_two_nodes_need_at_the_same_time_is_made_once(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carried, "PAUSE", 0.01)
    begun, go, made = threading.Event(), threading.Event(), []

    def slow(folder: Path) -> GateFacts:
        made.append(folder)
        begun.set()
        assert go.wait(20)
        return build(folder)

    first = threading.Thread(target=lambda: node(desk, tmp_path / "a", "first").produce(derivation(), slow, {}))
    first.start()
    assert begun.wait(20)
    second = threading.Thread(target=lambda: node(desk, tmp_path / "b", "second").produce(derivation(), slow, {}))
    second.start()
    time.sleep(0.05)
    go.set()
    first.join()
    second.join()
    assert len(made) == 1
    assert len(node(desk, tmp_path / "b").entries(GATES)) == 1


def test_a_maker_that_is_gone_is_not_waited_for(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = derivation().id
    assert desk.turn(GATES.name, name, "killed") == "make"
    assert desk.turn(GATES.name, name, "another") == "wait"
    assert desk.turn(GATES.name, name, "killed") == "make"  # the same task, run again
    desk.leases[GATES.name, name] = ("killed", time.monotonic() - 1)
    monkeypatch.setattr(carried, "RENEWED", 0.01)
    made = node(desk, tmp_path / "a", "another").produce(derivation(), build, {})
    assert desk.workspace.find(derivation()) is not None
    assert desk.turn(GATES.name, made.id, "killed") == "there"


def test_a_build_that_fails_leaves_its_entry_to_others(desk: Desk, tmp_path: Path) -> None:
    def broken(_folder: Path) -> GateFacts:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        node(desk, tmp_path / "a", "first").produce(derivation(), broken, {})
    assert node(desk, tmp_path / "b", "second").produce(derivation(), build, {}).facts == FACTS


def test_what_a_killed_process_of_this_node_did_not_bring_is_brought_by_the_next(desk: Desk, tmp_path: Path) -> None:
    made = Workspace(tmp_path / "a").produce(derivation(), build, {})
    assert not (desk.workspace.root / GATES.name).exists()
    assert node(desk, tmp_path / "a").find(derivation()) is not None
    assert desk.workspace.get(made.id, GATES).digest == made.digest


def test_what_arrives_damaged_does_not_arrive(tmp_path: Path) -> None:
    source = Workspace(tmp_path / "source")
    made = source.produce(derivation(), build, {})
    data = pack(source, GATES, made.id)
    other = Workspace(tmp_path / "other")
    flipped = data.replace(bytes(range(100, 110)), bytes(10))
    for wrong in (flipped, data[: len(data) // 3], b"nothing"):
        with pytest.raises(DataError, match=r"gates/one-\w+ did not arrive as it was sent"):
            unpack(other, GATES, made.id, wrong)
        assert list((other.root / GATES.name).iterdir()) == []
    with pytest.raises(DataError, match="came"):
        unpack(other, GATES, derivation("two").id, data)
    unpack(other, GATES, made.id, data)
    unpack(other, GATES, made.id, b"it is there already")
    assert (other.root / GATES.name / made.id / "deep" / "file.bin").read_bytes() == bytes(range(256))
    (source.root / GATES.name / made.id / "deep" / "file.bin").write_bytes(b"damaged")
    with pytest.raises(DataError, match="is damaged"):
        pack(source, GATES, made.id)


def test_what_is_no_archive_of_the_entry_does_not_arrive(tmp_path: Path) -> None:
    source, other = Workspace(tmp_path / "source"), Workspace(tmp_path / "other")
    made = source.produce(derivation(), build, {})
    data = pack(source, GATES, made.id)
    cut = gzip.compress(data)[:40]  # seen as a compressed archive, which ends too early
    for wrong, problem in ((cut, "end-of-stream"), (packed("deep/file.bin"), "its manifest is missing")):
        with pytest.raises(DataError, match=rf"gates/one-\w+ did not arrive as it was sent \(.*{problem}"):
            unpack(other, GATES, made.id, wrong)
    with pytest.raises(DataError, match="outside the destination"):
        unpack(other, GATES, made.id, packed("../outside"))
    assert list((other.root / GATES.name).iterdir()) == []


def packed(name: str) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    return data.getvalue()


def test_a_study_on_two_nodes_has_the_entries_and_the_table_of_one(write_study: Write, tmp_path: Path) -> None:
    file = write_study()
    alone = Run(workspace=Workspace(tmp_path / "alone"))
    study, cells = open_study(alone, file)
    expected = run_study(alone, study, cells, Serial())

    desk = Desk(str(tmp_path / "driver"))
    for step in tasks_of(study, cells):
        for number, task in enumerate(step):
            folder = tmp_path / f"node{number % 2}"
            outcome = attempt(Run(workspace=node(desk, folder, task.cell.id)), task)
            assert outcome.entry, outcome.reason
    driver = Run(workspace=desk.workspace)
    before = {entry.id: entry.manifest.created for entry in driver.workspace.entries()}
    found = run_study(driver, study, cells, Serial())
    after = {entry.id: entry.manifest.created for entry in driver.workspace.entries()}
    assert {name: time for name, time in after.items() if name != found.table.id} == before
    stable = ~expected.frame()["timed"]
    assert found.frame()[stable].equals(expected.frame()[stable])
    shutil.rmtree(tmp_path / "node0")
    assert all((entry.path / MANIFEST).is_file() for entry in driver.workspace.entries())
