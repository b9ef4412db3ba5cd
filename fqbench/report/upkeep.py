"""What `verify` and `gc` found in a workspace, as documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from fqbench.report.document import Document, Records, Section, notes, warnings

if TYPE_CHECKING:
    from fqbench.workspace.upkeep import Garbage, Verification


def verification_document(found: Verification) -> Document:
    """Return how much was checked, and every damage with what to do."""
    rows = [(damage.kind, damage.id, damage.problem, damage.remedy) for damage in found.damages]
    return Document(tuple(_checked(found)), found.to_dict(), Records(("kind", "id", "problem", "remedy"), rows))


def garbage_document(garbage: Sequence[Garbage], *, deleted: bool) -> Document:
    """Return what nothing refers to, and whether it was deleted."""
    size = f"{len(garbage)} file(s) or folder(s), {sum(one.bytes for one in garbage) / 1e6:.1f} MB"
    if not garbage:
        outcome = "nothing to delete"
    else:
        outcome = f"deleted {size}" if deleted else f"{size}; nothing was deleted: run again with --delete"
    value = {"deleted": deleted, "garbage": [one.to_dict() for one in garbage]}
    rows = [(str(one.path), one.reason, one.bytes) for one in garbage]
    listed = (f"{one.path}: {one.reason}" for one in garbage)
    return Document(notes(*listed, outcome), value, Records(("path", "reason", "bytes"), rows))


def _checked(found: Verification) -> Iterator[Section]:
    for damage in found.damages:
        yield from warnings(f"{damage.kind}/{damage.id}: {damage.problem}")
        yield from notes(f"  {damage.remedy}")
    yield from notes(*(f"{name}: written by another version of fqbench; not checked" for name in found.outdated))
    state = f"{len(found.damages)} damaged" if found.damages else "all as they were written"
    checked = f"{found.files} files ({found.bytes / 1e6:.1f} MB) of {found.entries} entries"
    yield from notes(f"checked {checked}: {state}")
