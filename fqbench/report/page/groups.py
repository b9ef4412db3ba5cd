"""Sections on groups: what changed for each, with intervals, and the same as a heatmap."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from fqbench.report.document import UNDEFINED, Heading, Section
from fqbench.report.evaluation import verdict_in_words
from fqbench.report.figures import Axis, Dot, DotPlot, Heatmap, Series

if TYPE_CHECKING:
    from fqbench.fairness.results import ChangeRow
    from fqbench.report.page.material import Material, View

CHANGE = Axis("change of accuracy, points", signed=True)
ANSWERS = ("equivalent", "different", "undecided")
FULL_COLOUR = 1.0  # points: a heatmap's colour is never full for less


def change_section(material: Material) -> Iterator[Section]:
    """A dot per group and artifact, with its interval."""
    yield Heading("Change per group")
    for view in material.views:
        if view.compared:
            yield _changes(view)


def heatmap_section(material: Material) -> Iterator[Section]:
    """All groups and artifacts at a glance."""
    views = [view for view in material.views if view.compared]
    if not views:
        return
    yield Heading("Groups and artifacts at a glance")
    yield from map(_heatmap, views)


def _changes(view: View) -> DotPlot:
    _subject, first = view.compared[0]
    rows = [*first.groups, first.overall]
    series = []
    for subject, change in view.compared:
        dots = tuple(_dot(change.row(row.group)) for row in first.groups)
        series.append(Series(subject.name, (*dots, _dot(change.overall))))
    margin = 100 * first.overall.verdict.margin
    reference = view.reference.name
    said = [verdict_in_words(reference, subject.name, change) for subject, change in view.compared]
    return DotPlot(
        name=view.named("change-per-group"),
        title=f"Change of accuracy per group, against {reference}: {view.title}",
        description=" ".join(said),
        caption=(
            f"{first.confidence:.0%} intervals of the paired difference. Grey band: within {margin:g} "
            f"point{'' if margin == 1 else 's'} of {reference}."
        ),
        sources=(view.entry.id,),
        rows=tuple(row.group for row in rows),
        axis=CHANGE,
        series=tuple(series),
        band=(-margin, margin),
        answers=ANSWERS,
        total=True,
    )


def _heatmap(view: View) -> Heatmap:
    changes = [change for _subject, change in view.compared]
    groups = [row.group for row in changes[0].groups]
    cells = tuple(tuple(_cell(change.row(group)) for change in changes) for group in groups)
    values = [abs(dot.value) for row in cells for dot in row if not math.isnan(dot.value)]
    return Heatmap(
        name=view.named("groups-and-artifacts"),
        title=f"Change of accuracy in points, against {view.reference.name}",
        description=(
            f"{len(groups)} groups and {len(changes)} artifacts; each cell is a change of accuracy in points."
        ),
        caption="Orange: loses accuracy; blue: gains. ● equivalent, ◆ different, ○ undecided.",
        sources=(view.entry.id,),
        corner="group",
        rows=tuple(groups),
        columns=tuple(subject.name for subject, _change in view.compared),
        cells=cells,
        axis=CHANGE,
        limit=max([*values, FULL_COLOUR]),
    ).upright


def _cell(row: ChangeRow) -> Dot:
    """The value alone: a heatmap is looked at, and the intervals are in the figure above it."""
    dot = _dot(row)
    return dot if math.isnan(dot.value) else replace(dot, text=f"{dot.value:+.1f}")


def _dot(row: ChangeRow) -> Dot:
    change = row.accuracy
    value, low, high = (100 * end for end in (change.value, change.low, change.high))
    if math.isnan(value):
        return Dot(math.nan, math.nan, math.nan, UNDEFINED, row.verdict.answer)
    return Dot(value, low, high, f"{value:+.2f} [{low:+.2f}, {high:+.2f}]", row.verdict.answer)
