"""Data sets as documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fqbench.report.document import Document, Heading, Records, Section, Sheet, notes, warnings

if TYPE_CHECKING:
    from fqbench.data.inspect import Inspection
    from fqbench.data.samples import Samples


def preview_document(rows: Sequence[tuple[str, int]], out: Path, samples: Samples) -> Document:
    """Return the groups on a contact sheet, and its path."""
    sheet = Sheet("", ("group", ">images"), tuple((group, str(count)) for group, count in rows))
    value = {"file": str(out), "groups": dict(rows)}
    return Document((sheet, *notes(f"wrote {out}", samples.notice)), value)


def inspection_document(inspection: Inspection) -> Document:
    """Return images per split and class, every group from the smallest to the largest, and problems."""
    classes = tuple(next(iter(inspection.labels.values())))
    columns = ("group", "images", "share", *inspection.splits, *classes)
    rows = [
        (group.group, group.images, group.share, *group.splits.values(), *group.labels.values())
        for group in inspection.groups
    ]
    return Document(tuple(_sections(inspection, classes)), inspection.to_dict(), Records(columns, rows))


def _sections(inspection: Inspection, classes: tuple[str, ...]) -> Iterator[Section]:
    yield Heading(f"{inspection.data}: {inspection.images} images")
    yield from notes(inspection.notice)
    splits = tuple(f">{split}" for split in inspection.splits)
    counts = [(label, *(str(inspection.labels[split][label]) for split in inspection.splits)) for label in classes]
    counts.append(("all", *map(str, inspection.splits.values())))
    what = "attribute" if inspection.several else "class"
    yield Sheet(f"images per {what}", (what, *splits), tuple(counts), total=True)
    yield Sheet(
        "images per group",
        (" × ".join(inspection.by) or "group", ">images", ">share", *splits, *(f">{label}" for label in classes)),
        tuple(
            (
                group.group,
                *map(str, (group.images, f"{group.share:.1%}", *group.splits.values(), *group.labels.values())),
            )
            for group in inspection.groups
        ),
        notes(
            f"ratio of largest to smallest: {what} {inspection.class_imbalance:.1f}, "
            f"group {inspection.group_imbalance:.1f}; "
            f"smallest groups: {', '.join(group.group for group in inspection.smallest_groups)}"
        ),
    )
    for problem in inspection.problems:
        names = ", ".join(problem.first) + (", ..." if problem.count > len(problem.first) else "")
        yield from warnings(f"problem: {problem.count} {problem.what}: {names}")
    if not inspection.problems:
        yield from notes("no problems found")
