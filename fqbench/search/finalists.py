"""Finalists: few candidates, confirmed on images that no choice has seen, and measured together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fqbench.fairness.paired_scores import mean_estimate
from fqbench.fairness.results import Estimate
from fqbench.gate import GateOptions, Outcome, group_confidence, latency_checks
from fqbench.search.effects import ImageEffects
from fqbench.search.results import FinalistReport, Outlook, ShownGain, TrialReport

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fqbench.contracts.artifacts import Artifact
    from fqbench.latency.results import LatencyReport

FINALISTS = 3


def pick(trials: Sequence[TrialReport], objective: Callable[[TrialReport], tuple[float, ...]]) -> list[TrialReport]:
    """Return the best candidates that keep the limits on the choosing images; the nearest one where none does.

    Of those of one runtime that are equal in size, or in what stands for speed, only the best is a finalist: the others
    are no alternative if it is not confirmed. Each runtime's best is one, since only a measurement tells which is
    faster.
    """
    made = [one for one in trials if not one.failed]
    keeping = sorted((one for one in made if one.keeps), key=objective)
    if keeping:
        best = {(one.backend, objective(one)[0]): one for one in reversed(keeping)}
        distinct = sorted(best.values(), key=objective)
        firsts = {one.backend: one for one in reversed(distinct)}
        others = [one for one in distinct if firsts[one.backend] is not one]
        return sorted([*firsts.values(), *others[: max(0, FINALISTS - len(firsts))]], key=objective)
    return sorted(made, key=lambda one: (one.shortfall, one.score))[:1]


def report_of(
    artifact: Artifact, outlooks: tuple[Outlook, ...], options: GateOptions, latency: LatencyReport | None
) -> FinalistReport:
    """Put together what was confirmed and measured of one finalist."""
    kept = not any(one.contradicted for one in outlooks)
    if latency is None:
        return FinalistReport(artifact.id, outlooks, None, None, kept)
    checks = list(latency_checks(options.limits, artifact, latency))
    timed = latency[artifact.id]
    p50 = Estimate(timed.p50_ms.value, timed.p50_ms.low, timed.p50_ms.high, latency.rounds)
    ratio = timed.speedup
    speedup = None if ratio is None else Estimate(ratio.value, ratio.low, ratio.high, latency.rounds)
    kept = kept and all(check.outcome is Outcome.PASSED for check in checks)
    return FinalistReport(artifact.id, outlooks, p50, speedup, kept)


def ordered(
    finalists: Sequence[FinalistReport], trials: Sequence[TrialReport], objective: str
) -> tuple[FinalistReport, ...]:
    """Order finalists by the objective; those not slower than the fastest, as measured, by how little they change."""
    own = {one.artifact_id: one for one in trials}
    if objective == "size" or any(one.p50_ms is None for one in finalists):
        return tuple(finalists)
    fastest = min((one.p50_ms for one in finalists if one.p50_ms is not None), key=lambda p50: p50.value)

    def key(one: FinalistReport) -> tuple[float, ...]:
        p50 = one.p50_ms
        assert p50 is not None  # noqa: S101  # all were measured
        slower = p50.low > fastest.high
        return (float(slower), p50.value if slower else 0.0, own[one.artifact_id].score)

    return tuple(sorted(finalists, key=key))


def selected(finalists: Sequence[FinalistReport]) -> FinalistReport:
    """Return the first that is confirmed; where none is, the one that misses least."""
    return next(
        (one for one in finalists if one.kept),
        min(finalists, key=lambda one: sum(each.shortfall for each in one.outlooks if each.shortfall > 0)),
    )


def claim_of(
    baseline: tuple[str, ImageEffects],
    chosen: tuple[str, ImageEffects],
    groups: NDArray[np.str_],
    group: str,
    *,
    confidence: float,
    looks: int,
) -> ShownGain:
    """Decide whether the chosen artifact changes a group's answers less than the baseline, on confirming images.

    The group was named on the choosing images, and so was the baseline; the chosen artifact is one of ``looks``
    finalists, of which each may be claimed. So the interval is two-sided at a level raised by Bonferroni's rule: over
    searches in which nothing differs, at most half of 1 - confidence claim a gain.

    Parameters
    ----------
    baseline, chosen : tuple of str and ImageEffects
        Id, and effects on the confirming images.
    groups : ndarray of str, shape (images,)
        The group of each of these images.
    group : str
        The group that the claim is about; "all" for all images.
    confidence : float
        Of the search as a whole.
    looks : int
        Number of finalists.
    """
    rows = np.flatnonzero(groups == group) if group != "all" else np.arange(len(groups))
    difference = baseline[1].kl_divergence[rows] - chosen[1].kl_divergence[rows]
    level = group_confidence(confidence, looks)
    reduction = mean_estimate(difference, level)
    shown = not math.isnan(reduction.low) and reduction.low > 0
    return ShownGain(group, baseline[0], chosen[0], reduction, level, shown)


def front(trials: Sequence[TrialReport]) -> tuple[str, ...]:
    """Return the ids of the trials that no other one beats in size, integer share and worst group at once."""
    made = [one for one in trials if not one.failed]

    def figures(one: TrialReport) -> tuple[float, float, float]:
        share = 0.0 if math.isnan(one.integer_share) else one.integer_share
        return (float(one.bytes), -share, one.worst_kl_divergence)

    found: dict[str, None] = {}
    for one in made:
        mine = figures(one)
        beaten = any(
            other != mine and all(a <= b for a, b in zip(other, mine, strict=True)) for other in map(figures, made)
        )
        if not beaten:
            found[one.artifact_id] = None
    return tuple(found)
