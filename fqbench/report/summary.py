"""An evaluation and a latency measurement in a few plain sentences: how fast, who is harmed, what to do.

Every sentence is made of the results; who is harmed is decided in `fqbench.report.harm`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fqbench.report.harm import Harm
from fqbench.report.names import short_names

if TYPE_CHECKING:
    from fqbench.fairness.evaluated import Evaluation
    from fqbench.fairness.results import ChangeRow
    from fqbench.latency.interval import Interval
    from fqbench.latency.results import LatencyReport, SubjectLatency

NAMED = 2  # groups that a sentence names; it counts the others
MOST_NAMED = 4  # artifacts that the advice names


@dataclass(frozen=True)
class _Candidate(Harm):
    """An artifact that was compared with the reference: its name, its change and, where it was timed, its latency."""

    name: str
    latency: SubjectLatency | None


def summary(evaluation: Evaluation, latency: LatencyReport | None) -> tuple[str, ...]:
    """Return the speed, one sentence per artifact on the groups that it harms, and what to do.

    Parameters
    ----------
    evaluation : Evaluation
        The reference first.
    latency : LatencyReport or None
        Of the same artifacts; one that was not timed has no speed.
    """
    artifacts = evaluation.artifacts
    names = short_names([one.label for one in artifacts], [one.id for one in artifacts])
    timed = {subject.id: subject for subject in latency.subjects} if latency is not None else {}
    candidates = [
        _Candidate(one.change, name, timed.get(one.id))
        for name, one in zip(names, artifacts, strict=True)
        if one.change is not None
    ]
    reference = timed.get(artifacts[0].id)
    speed = []
    if latency is not None and reference is not None:
        speed = [_speed(names[0], reference, candidates, latency)]
    harm = [_harm(names[0], one, candidates[:index]) for index, one in enumerate(candidates)]
    return (*speed, *harm, _advice(names[0], reference, candidates))


def _speed(name: str, reference: SubjectLatency, candidates: Sequence[_Candidate], report: LatencyReport) -> str:
    first = f"{name} takes {reference.p50_ms.value:.2f} ms"
    parts = [_one_speed(name, one.name, one.latency) for one in candidates if one.latency is not None]
    return f"Speed (batch {report.batch}, {report.machine.cpu}): {'; '.join([first, *parts])}."


def _one_speed(reference: str, name: str, timed: SubjectLatency) -> str:
    if timed.speedup is None:
        return f"{name} is {timed.facts.level.value}, so its latency says nothing about speed"
    took, ratio = f"{name} {timed.p50_ms.value:.2f} ms", timed.speedup
    if ratio.low <= 1 <= ratio.high:
        return f"{took}, not distinguishable from {reference}"
    times = f"{ratio.value:.1f} times as fast" if ratio.value > 1 else f"slower ({ratio.value:.2f} times as fast)"
    return f"{took}, {times}"


def _harm(reference: str, one: _Candidate, before: Sequence[_Candidate]) -> str:
    """Say which groups an artifact harms, and what it does to the group that an earlier artifact hit hardest."""
    count, change = len(one.change.groups), one.change
    if not count:
        return f"{one.name}: there are no groups to compare."
    margin = f"{100 * change.groups[0].verdict.margin:g}"
    points = f"{margin} point" if margin == "1" else f"{margin} points"
    parts = []
    if one.harmed:
        parts.append(f"{one.name} harms {len(one.harmed)} of {count} groups: {_losses(one.harmed)}")
    elif one.harmless and len(one.equivalent) == count:
        parts.append(
            f"{one.name} harms no group: the accuracy of all {count} is within {points} of {reference}'s (proved)"
        )
    elif one.harmless:
        parts.append(f"{one.name} harms no group: none of the {count} loses as much as {points} of accuracy (proved)")
    else:
        within = f"{len(one.equivalent)} of {count} groups are within {points} of {reference}'s accuracy (proved)"
        parts.append(f"{one.name}: {within}")
    gained = count - sum(map(len, (one.harmed, one.undecided, one.not_inferior, one.equivalent)))
    if gained:
        parts.append(f"{gained} gained accuracy")
    if one.not_inferior:
        parts.append(f"{_named(one.not_inferior)} may have gained more than {points}")
    if one.undecided:
        parts.append(_undecided(one))
    worst = max((other for other in before if other.harmed), key=lambda other: len(other.harmed), default=None)
    if worst is not None:
        parts.append(_compared(one, worst))
    return "; ".join(parts) + "."


def _losses(rows: Sequence[ChangeRow]) -> str:
    named = [f"{row.group} loses {_lost(row)}" for row in rows[:NAMED]]
    more = len(rows) - len(named)
    return ", ".join([*named, f"{more} more lose less"] if more else named)


def _lost(row: ChangeRow) -> str:
    return f"{-100 * row.accuracy.value:.1f} points [{-100 * row.accuracy.high:.1f}, {-100 * row.accuracy.low:.1f}]"


def _undecided(one: _Candidate) -> str:
    needed = one.images_needed
    enough = f" (about {needed:,.0f} images per group would decide)" if math.isfinite(needed) else ""
    return f"undecided for {_named(one.undecided)}{enough}"


def _named(rows: Sequence[ChangeRow]) -> str:
    groups = ", ".join(row.group for row in rows[:NAMED])
    return f"{groups} and {len(rows) - NAMED} more" if len(rows) > NAMED else groups


def _either(names: Sequence[str]) -> str:
    if len(names) > MOST_NAMED:
        return f"{', '.join(names[:NAMED])} or the {len(names) - NAMED} others that harm a group"
    return " or ".join(names)


def _compared(one: _Candidate, worst: _Candidate) -> str:
    hit = worst.harmed[0]
    now = one.change.row(hit.group).accuracy.value
    words = "undefined" if math.isnan(now) else f"{100 * now:+.1f} points"
    return f"{hit.group}, hit hardest by {worst.name} ({100 * hit.accuracy.value:+.1f}), changes by {words}"


def _advice(reference: str, timed: SubjectLatency | None, candidates: Sequence[_Candidate]) -> str:
    harmless = [one for one in candidates if one.harmless]
    harmful = [one.name for one in candidates if one.harmed]
    avoid = f" Do not ship {_either(harmful)}." if harmful else ""
    chosen = _best(harmless)
    if chosen is not None:
        return f"What to do: {_ship(reference, timed, chosen)}.{avoid}"
    if harmless:
        return f"What to do: measure the speed of {harmless[0].name} on a runtime that executes it natively.{avoid}"
    pending = [one for one in candidates if one.undecided and not one.harmed]
    if pending:
        one = min(pending, key=lambda other: math.inf if math.isnan(other.images_needed) else other.images_needed)
        needed = one.images_needed
        images = f"about {needed:,.0f} images per group" if math.isfinite(needed) else "more images"
        return f"What to do: no artifact is proved harmless; evaluate {one.name} on {images} before you ship it.{avoid}"
    if harmful:
        return f"What to do: keep {reference}, or try more bits or --method qat; every artifact harms a group."
    return "What to do: compare a quantized artifact by groups; there is nothing to decide on here."


@dataclass(frozen=True)
class _Chosen:
    """A harmless artifact that runs at the speed of the fastest one."""

    name: str
    speedup: Interval
    bytes: int


def _best(harmless: Sequence[_Candidate]) -> _Chosen | None:
    """Of the artifacts whose speed is not distinguishable from the fastest one's, the smallest."""
    real = [
        _Chosen(one.name, one.latency.speedup, one.latency.facts.bytes)
        for one in harmless
        if one.latency is not None and one.latency.speedup is not None
    ]
    if not real:
        return None
    fastest = max(real, key=lambda one: one.speedup.value)
    return min((one for one in real if one.speedup.high >= fastest.speedup.low), key=lambda one: one.bytes)


def _ship(reference: str, timed: SubjectLatency | None, chosen: _Chosen) -> str:
    before = f" in place of {timed.facts.bytes / 1e6:.1f}" if timed is not None else ""
    size = f"{chosen.bytes / 1e6:.1f}{before} MB"
    if chosen.speedup.low > 1:
        return f"ship {chosen.name}: {chosen.speedup.value:.1f} times as fast as {reference}, {size}, no group harmed"
    return f"keep {reference}, or ship {chosen.name} for its size ({size}): it harms no group, but is not faster"
