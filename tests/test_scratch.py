"""The scratch folder of a derivation: it outlives a killed build, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from fqbench.errors import DataError
from fqbench.workspace import Derivation, Workspace
from fqbench.workspace.kinds import PREPARED, PreparedFacts

STORE = Derivation(PREPARED, "store", {"a": 1}, {})


def build_into(workspace: Workspace, error: BaseException | None) -> Path:
    """Produce the store; return its scratch folder."""
    seen: list[Path] = []

    def build(out: Path) -> PreparedFacts:
        scratch = workspace.scratch(STORE)
        seen.append(scratch)
        (scratch / "half").write_text("some")
        if error is not None:
            raise error
        (scratch / "half").rename(out / "whole")
        return PreparedFacts(images=1, unreadable=0, unreadable_first=())

    workspace.produce(STORE, build, {})
    return seen[0]


def test_it_lies_beside_the_entry_and_goes_with_its_publication(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    scratch = build_into(workspace, None)
    assert scratch.parent == tmp_path / "prepared"
    assert scratch.name.startswith(".")
    assert not scratch.exists()
    assert [entry.id for entry in workspace.entries()] == [STORE.id]


def test_an_interrupted_build_leaves_it_to_the_next(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        build_into(workspace, KeyboardInterrupt())
    assert (workspace.scratch(STORE) / "half").read_text() == "some"
    assert not workspace.entries()
    assert not build_into(workspace, None).exists()


def test_refused_inputs_leave_nothing(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with pytest.raises(DataError):
        build_into(workspace, DataError("damaged"))
    assert list((tmp_path / "prepared").iterdir()) == []
