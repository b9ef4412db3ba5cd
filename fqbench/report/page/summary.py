"""The first sections: what was found in plain sentences, and a verdict per artifact."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fqbench.report.document import Heading, Note, Section, Sheet, Tone, Tones, notes, warnings
from fqbench.report.figures import WITHOUT_A_FIGURE
from fqbench.report.harm import Harm
from fqbench.report.summary import summary

if TYPE_CHECKING:
    from fqbench.fairness import ChangeReport
    from fqbench.report.page.material import Material, ReportedArtifact, View

COLUMNS = (
    "artifact", "verdict", ">no harm proved", ">undecided", ">largest loss, points", ">worst-group accuracy",
    ">speed-up at p50", ">MB", "level",
)  # fmt: skip
MOST_SENTENCES = 6  # of more artifacts, they are counted first
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
        if len(view.compared) > MOST_SENTENCES:
            yield from notes(_counted(view))
            yield Heading("A sentence per artifact", level=3, folded=True)
        yield from notes(*found)
        yield Note("These sentences follow from", sources=(view.entry.id, *material.measured))
        yield from warnings(*view.evaluation.notes)
    yield from warnings(*material.notices)


def _counted(view: View) -> str:
    tones = [verdict_of(change)[1] for _subject, change in view.compared]
    return (
        f"Of {len(tones)} artifacts, {tones.count('good')} harm no group (proved), {tones.count('bad')} harm at least "
        f"one, and {tones.count('open')} are undecided."
    )


def verdict_section(material: Material) -> Iterator[Section]:
    """One row per artifact."""
    yield Heading("Verdicts")
    for view in material.views:
        yield _verdicts(view, several=len(material.views) > 1)


def verdict_of(change: ChangeReport | None) -> tuple[str, Tone]:
    """Return the verdict on an artifact in a few words, and its tone."""
    if change is None:
        return "reference", "plain"
    harm, count = Harm(change), len(change.groups)
    if harm.harmed:
        return f"harms {len(harm.harmed)} of {count} groups", "bad"
    if harm.undecided:
        return f"undecided for {len(harm.undecided)} of {count}", "open"
    return ("harms no group (proved)", "good") if count else ("no groups to compare", "open")


def _verdicts(view: View, *, several: bool) -> Sheet:
    rows, tones, sources = [], [], []
    for subject in view.subjects:
        words, tone = verdict_of(subject.figures.change)
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
        f"statistically significant (exact McNemar test, {CORRECTIONS[change.correction]}). No harm is proved if it "
        f"lost less than {margin:g} point{'' if margin == 1 else 's'}: it is equivalent, or its interval lies above "
        "that loss. It is undecided otherwise."
    )


def _counts(subject: ReportedArtifact) -> tuple[str, ...]:
    change = subject.figures.change
    if change is None:
        return (WITHOUT_A_FIGURE,) * 3
    harm = Harm(change)
    known = [row for row in change.groups if not math.isnan(row.accuracy.value)]
    worst = min(known, key=lambda row: row.accuracy.value, default=None)
    counts = (str(harm.spared), str(len(harm.undecided)))
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
