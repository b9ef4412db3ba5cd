"""The first sections: what was found in plain sentences, and a verdict per artifact."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fqbench.report.document import Heading, Note, Section, Sheet, Tone, Tones, notes, warnings
from fqbench.report.figures import WITHOUT_A_FIGURE
from fqbench.report.summary import summary

if TYPE_CHECKING:
    from fqbench.fairness.results import ChangeRow
    from fqbench.report.page.material import Material, ReportedArtifact, View

COLUMNS = (
    "artifact", "verdict", ">equivalent", ">undecided", ">largest loss, points", ">worst-group accuracy",
    ">speed-up at p50", ">MB", "level",
)  # fmt: skip
CORRECTIONS = {
    "holm": "after Holm's correction",
    "benjamini-hochberg": "after the correction of Benjamini and Hochberg",
    "none": "without a correction",
}


def summary_section(material: Material) -> Iterator[Section]:
    """Say what to do first, then how it was found."""
    yield Heading("Summary")
    for view in material.views:
        if len(material.views) > 1:
            yield Heading(view.title, level=3)
        *found, advice = summary(view.evaluation, material.latency)
        yield Note(advice, lead=True)
        yield from notes(*found)
        yield from warnings(*view.evaluation.notes)
    yield from warnings(*material.notices)


def verdict_section(material: Material) -> Iterator[Section]:
    """One row per artifact."""
    yield Heading("Verdicts")
    for view in material.views:
        yield _verdicts(view, several=len(material.views) > 1)


def verdict_of(subject: ReportedArtifact) -> tuple[str, Tone]:
    """Return the verdict on an artifact in a few words, and its tone."""
    change = subject.figures.change
    if change is None:
        return "reference", "plain"
    rows = change.groups
    lost, undecided = len(lost_rows(subject)), sum(row.verdict.answer == "undecided" for row in rows)
    if lost:
        return f"harms {lost} of {len(rows)} groups", "bad"
    if undecided:
        return f"undecided for {undecided} of {len(rows)}", "open"
    if not rows:
        return "no groups to compare", "open"
    return "harms no group (proved)", "good"


def lost_rows(subject: ReportedArtifact) -> tuple[ChangeRow, ...]:
    """Groups whose loss of accuracy is statistically significant."""
    rows = subject.figures.change.groups if subject.figures.change is not None else ()
    return tuple(row for row in rows if row.verdict.answer == "different" and row.accuracy.value < 0)


def _verdicts(view: View, *, several: bool) -> Sheet:
    rows, tones, sources = [], [], []
    for subject in view.subjects:
        words, tone = verdict_of(subject)
        rows.append((subject.name, words, *_counts(subject), *_costs(subject), subject.level.value))
        tones.append(tone)
        sources.append(subject.sources)
    return Sheet(
        view.title if several else "",
        COLUMNS,
        tuple(rows),
        notes(_how(view)),
        tones=Tones(1, tuple(tones)),
        sources=tuple(sources),
        name=view.named("verdicts"),
    )


def _how(view: View) -> str:
    if not view.compared or not view.compared[0][1].groups:
        return ""
    change = view.compared[0][1]
    margin = 100 * change.groups[0].verdict.margin
    return (
        f"Changes of accuracy against {view.reference.name} on the same images. A group is harmed if its loss is "
        f"statistically significant (exact McNemar test, {CORRECTIONS[change.correction]}), equivalent if its change "
        f"is proved to be within {margin:g} point{'' if margin == 1 else 's'}, and undecided otherwise."
    )


def _counts(subject: ReportedArtifact) -> tuple[str, ...]:
    change = subject.figures.change
    if change is None:
        return (WITHOUT_A_FIGURE,) * 3
    answers = [row.verdict.answer for row in change.groups]
    known = [row for row in change.groups if not math.isnan(row.accuracy.value)]
    worst = min(known, key=lambda row: row.accuracy.value, default=None)
    counts = (str(answers.count("equivalent")), str(answers.count("undecided")))
    if worst is None:
        return (*counts, WITHOUT_A_FIGURE)
    one = worst.accuracy
    return (*counts, f"{100 * one.value:+.1f} [{100 * one.low:+.1f}, {100 * one.high:+.1f}] {worst.group}")


def _costs(subject: ReportedArtifact) -> tuple[str, ...]:
    worst = subject.figures.report.gaps["worst_group_accuracy"]
    accuracy = WITHOUT_A_FIGURE if math.isnan(worst.value) else f"{worst.value:.3f} [{worst.low:.3f}, {worst.high:.3f}]"
    size = WITHOUT_A_FIGURE if math.isnan(subject.bytes) else f"{subject.bytes / 1e6:.2f}"
    speedup = None if subject.latency is None else subject.latency.speedup
    if subject.figures.change is None and subject.latency is not None:
        return accuracy, "1 (reference)", size
    if speedup is None:
        return accuracy, WITHOUT_A_FIGURE, size
    return accuracy, f"{speedup.value:.2f}x [{speedup.low:.2f}, {speedup.high:.2f}]", size
