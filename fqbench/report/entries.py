"""Entries of the workspace as documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fqbench.report.document import Document, Heading, Records, Section, Sheet, notes

if TYPE_CHECKING:
    from fqbench.workspace import Entry

LONGEST_VALUE = 200
MOST_VALUES = 20
COLUMNS = ("id", "created (UTC)", ">seconds", ">MB")


def entry_document(entry: Entry) -> Document:
    """Return what a stage made: its id, where it is, and its plain facts."""
    facts = entry.manifest.facts
    plain = {name: value for name, value in facts.items() if isinstance(value, (str, int, float)) and value != ""}
    lines = [f"  {entry.path}", *(f"  {name}: {value}" for name, value in plain.items())]
    value = {"id": entry.id, "kind": entry.manifest.kind, "path": str(entry.path), "facts": facts}
    return Document((Heading(f"{entry.manifest.kind}/{entry.id}"), *notes(*lines)), value)


def entries_document(entries: Sequence[Entry]) -> Document:
    """Return one sheet per kind of entry: id, when it was made, seconds, size."""
    value = [entry.manifest.model_dump(mode="json", exclude={"files", "config"}) for entry in entries]
    if not entries:
        return Document(notes("no entries yet; `fqbench quantize` makes everything up to an artifact."), value)
    kinds: dict[str, list[tuple[str, ...]]] = {}
    for entry in entries:
        kinds.setdefault(entry.manifest.kind, []).append(_row(entry))
    records = Records(
        ("kind", "id", "created_utc", "seconds", "megabytes"),
        [(kind, *row) for kind, rows in kinds.items() for row in rows],
    )
    return Document(tuple(Sheet(kind, COLUMNS, tuple(rows)) for kind, rows in kinds.items()), value, records)


def manifest_document(entry: Entry) -> Document:
    """Return one entry's manifest; long lists are shortened for people."""
    value = {**entry.manifest.model_dump(mode="json"), "path": str(entry.path)}
    return Document(tuple(_manifest(entry)), value)


def file_document(file: Path) -> Document:
    """Return the name of a file that was written, alone on a line for scripts."""
    return Document(notes(str(file)), {"file": str(file)})


def _manifest(entry: Entry) -> Iterator[Section]:
    manifest = entry.manifest
    yield Heading(f"{manifest.kind}/{manifest.id}")
    yield from notes(
        f"  path: {entry.path}",
        f"  created: {manifest.created} in {manifest.seconds:.1f} s by: {manifest.command}",
        f"  digest: {manifest.digest}",
    )
    parts: dict[str, dict[str, Any]] = {
        "inputs": manifest.inputs,
        "determined by": manifest.determined_by,
        "facts": manifest.facts,
        "versions": manifest.versions,
        "files": {name: f"{record.size} bytes, sha256 {record.sha256[:16]}" for name, record in manifest.files.items()},
    }
    for title, values in parts.items():
        if values:
            yield Heading(title)
            yield from notes(*(f"  {name}: {_short(value)}" for name, value in list(values.items())[:MOST_VALUES]))
            hidden = len(values) - MOST_VALUES
            yield from notes(f"  ... and {hidden} more (--json shows all)" if hidden > 0 else "")


def _row(entry: Entry) -> tuple[str, ...]:
    manifest = entry.manifest
    size = sum(record.size for record in manifest.files.values())
    return entry.id, manifest.created[:16].replace("T", " "), f"{manifest.seconds:.1f}", f"{size / 1e6:.1f}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."
