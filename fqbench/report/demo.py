"""The demo's results as a document: a summary, then the main tables, then everything."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from fqbench.report.document import UNDEFINED, Document, Heading, Note, Section, Sheet, notes, warnings
from fqbench.report.evaluation import evaluation_document
from fqbench.report.latency import latency_document
from fqbench.report.names import said_once, short_names
from fqbench.report.summary import summary

if TYPE_CHECKING:
    from fqbench.demo import Demo
    from fqbench.fairness import GapEstimate
    from fqbench.fairness.evaluated import Evaluation
    from fqbench.fairness.results import ChangeRow

GAPS = {
    "accuracy_gap": "accuracy gap",
    "demographic_parity_difference": "demographic parity",
    "equalized_odds_difference": "equalized odds",
}
MARKS = {"equivalent": "=", "undecided": "?"}
MENDING = "looks for the smallest artifact within limits that you write into a file (docs/search.md)."
LATENCY = ("artifact", "id", "level", "p50 ms", "speed-up at p50", "int8 MACs", "MB")


def demo_document(demo: Demo, *, details: bool = False) -> Document:
    """Return the summary and the main tables; with ``details``, all tables of the evaluation and the latency, too."""
    evaluation, latency = evaluation_document(demo.evaluation), latency_document(demo.latency)
    said = summary(demo.evaluation, demo.latency)
    if demo.search:
        said = (*said, f"What mends harm: `{demo.search}` {MENDING}")
    sections: tuple[Section, ...] = (Heading("summary"), *map(Note, said), *_groups(demo.evaluation))
    if details:
        sections += (*evaluation.sections, *latency.sections)
    else:
        sections += (*_main(latency), *notes("--details prints all tables, --json all figures."))
    value = {"summary": list(said), "evaluation": evaluation.value, "latency": latency.value}
    return Document(sections, value, evaluation.records)


def _groups(evaluation: Evaluation) -> Iterator[Section]:
    artifacts = evaluation.artifacts
    names = short_names([one.label for one in artifacts], [one.id for one in artifacts])
    remarks = [(name, text) for name, one in zip(names, artifacts, strict=True) for text in one.report.warnings]
    yield _changes(evaluation, names)
    yield from said_once(remarks, names)
    yield _gaps(evaluation, names)
    yield from notes(evaluation.notice)
    yield from warnings(*evaluation.notes)


def _changes(evaluation: Evaluation, names: Sequence[str]) -> Sheet:
    reference = evaluation.artifacts[0].report
    changes = [(name, one.change) for name, one in zip(names, evaluation.artifacts, strict=True) if one.change]
    rows = []
    for row in reference.groups:
        accuracy = UNDEFINED if math.isnan(row.accuracy.value) else f"{row.accuracy.value:.3f}"
        rows.append((row.group, accuracy, *(_cell(change.row(row.group)) for _name, change in changes)))
    overall = f"{reference.overall.accuracy.value:.3f}"
    rows.append((reference.overall.group, overall, *(_cell(change.overall) for _name, change in changes)))
    sizes = sorted({row.n for row in reference.groups})
    counts = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
    how = (
        f"{evaluation.split} split, {counts} images per group; Δ against {names[0]} with {reference.confidence:.0%} "
        "intervals. = equivalent, - lost, + gained, ? undecided."
    )
    columns = ("group", f">{names[0]}", *(f">Δ {name}" for name, _change in changes))
    return Sheet("accuracy, change in points", columns, tuple(rows), notes(how), total=True)


def _cell(row: ChangeRow) -> str:
    change, answer = row.accuracy, row.verdict.answer
    mark = MARKS.get(answer) or ("-" if change.value < 0 else "+")
    if math.isnan(change.value):
        return f"{UNDEFINED} {mark}"
    return f"{100 * change.value:+.1f} [{100 * change.low:+.1f}, {100 * change.high:+.1f}] {mark}"


def _gaps(evaluation: Evaluation, names: Sequence[str]) -> Sheet:
    rows = [
        (name, *(_gap(one.report.gaps[key]) for key in GAPS))
        for name, one in zip(names, evaluation.artifacts, strict=True)
    ]
    floors = [evaluation.artifacts[0].report.gaps[key].noise_floor for key in GAPS]
    rows.append(("by chance", *(UNDEFINED if math.isnan(floor) else f"{floor:.3f}" for floor in floors)))
    columns = ("artifact", *(f">{title}" for title in GAPS.values()))
    how = "by chance: the average gap between groups of these sizes if there is no difference."
    return Sheet("gaps between groups", columns, tuple(rows), notes(how))


def _gap(gap: GapEstimate) -> str:
    return UNDEFINED if math.isnan(gap.value) else f"{gap.value:.3f} [{gap.low:.3f}, {gap.high:.3f}]"


def _main(latency: Document) -> Iterator[Section]:
    """The heading and the table of a latency document, with the columns that matter and every doubt."""
    yield from (section for section in latency.sections if isinstance(section, Heading))
    sheet = next(one for one in latency.sheets if set(LATENCY) <= set(one.names))
    kept = [sheet.names.index(name) for name in LATENCY]
    rows = tuple(tuple(row[index] for index in kept) for row in sheet.rows)
    yield Sheet("", tuple(sheet.columns[index] for index in kept), rows, sheet.notes)
