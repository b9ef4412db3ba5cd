"""Rows of a study's table, from an evaluation and a latency measurement."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from fqbench.fairness.evaluated import EvaluatedArtifact
from fqbench.fairness.results import Change, Estimate, GapChange
from fqbench.latency.interval import Interval
from fqbench.latency.results import SubjectLatency
from fqbench.study.table import ALL

Row = dict[str, Any]
RATES = ("accuracy", "selection_rate", "tpr", "fpr", "fnr", "precision", "balanced_accuracy")
CHANGES = ("accuracy", "selection_rate", "tpr", "fpr")


def row(group: str, measure: str, value: float, **more: Any) -> Row:
    """Return one row without the columns that all rows of a cell share."""
    given = {"low": math.nan, "high": math.nan, "confidence": math.nan, "n": 0, "p_value": math.nan, "verdict": ""}
    return {"group": group, "measure": measure, "value": float(value), **given, "timed": False, **more}


def rows_of_evaluation(found: EvaluatedArtifact) -> Iterator[Row]:
    """Yield the rates per group, the gaps, and, except for the reference, what changed."""
    report, sure = found.report, {"confidence": found.report.confidence}
    for one in (*report.groups, report.overall):
        for rate in RATES:
            yield _of_estimate(one.group, rate, getattr(one, rate)) | sure
    n = report.overall.n
    for name, gap in report.gaps.items():
        yield row(ALL, name, gap.value, low=gap.low, high=gap.high, n=n) | sure
        yield row(ALL, f"{name}_noise_floor", gap.noise_floor, n=n)
    for score in found.scores:
        yield _of_estimate(score.group, "auc", score.auc) | sure
        yield row(score.group, "calibration_error", score.calibration_error)
    yield from _rows_of_change(found)


def _rows_of_change(found: EvaluatedArtifact) -> Iterator[Row]:
    if found.change is None:
        return
    sure = {"confidence": found.change.confidence}
    for one in (*found.change.groups, found.change.overall):
        tested = {"p_value": one.mcnemar_p_adjusted, "verdict": one.verdict.answer}
        for rate in CHANGES:
            yield _of_change(one.group, rate, getattr(one, rate)) | sure | (tested if rate == "accuracy" else {})
        for name in ("flips", "negative_flips"):
            share = getattr(one, name) / one.n if one.n else math.nan
            yield row(one.group, f"{name.removesuffix('s')}_rate", share, n=one.n)
    for name, gap in found.change.gaps.items():
        yield _of_gap(name, gap, found.change.overall.n) | sure
    for paired in found.paired_scores:
        for name in ("cross_entropy_change", "kl_divergence"):
            yield _of_estimate(paired.group, name, getattr(paired, name)) | sure


def rows_of_latency(found: SubjectLatency, confidence: float, *, is_reference: bool) -> Iterator[Row]:
    """Yield percentiles of the latency, the speed-up over the reference where there is one, and peak memory."""
    rounds = len(found.nanoseconds)
    for name in ("p50_ms", "p90_ms", "p99_ms"):
        yield _of_interval(f"latency_{name}", getattr(found, name), rounds, confidence)
    if found.speedup is not None and not is_reference:
        yield _of_interval("speedup", found.speedup, rounds, confidence)
    memory = found.facts.peak_memory
    if memory is not None and memory.added is not None:
        yield row(ALL, "added_memory_bytes", memory.added, timed=True)


def _of_estimate(group: str, measure: str, found: Estimate) -> Row:
    return row(group, measure, found.value, low=found.low, high=found.high, n=found.n)


def _of_change(group: str, rate: str, found: Change) -> Row:
    return row(group, f"{rate}_change", found.value, low=found.low, high=found.high, n=found.n)


def _of_gap(name: str, gap: GapChange, n: int) -> Row:
    tested = {"p_value": gap.verdict.p_different, "verdict": gap.verdict.answer}
    return row(ALL, f"{name}_change", gap.value, low=gap.low, high=gap.high, n=n, **tested)


def _of_interval(measure: str, found: Interval, rounds: int, confidence: float) -> Row:
    ends = {"low": found.low, "high": found.high, "confidence": confidence}
    return row(ALL, measure, found.value, n=rounds, timed=True, **ends)
