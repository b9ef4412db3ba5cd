"""What a latency measurement found: raw times, figures with intervals, and whether to trust them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from fqbench.latency.conditions import Conditions
    from fqbench.latency.steadiness import Mark
    from fqbench.machine import Machine
    from fqbench.plugins import Arithmetic

NANOSECONDS_A_MILLISECOND = 1e6
NANOSECONDS_A_SECOND = 1e9
# Resampled values held at once: 32 MiB of indices, whatever the number of rounds.
RESAMPLED_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval; an end is infinite where the rounds are too few to bound it."""

    value: float
    low: float
    high: float

    def inverse(self) -> Estimate:
        """Return the estimate of 1 / value."""
        return Estimate(_divide(1.0, self.value), _divide(1.0, self.high), _divide(1.0, self.low))

    def to_dict(self) -> dict[str, float | None]:
        """Return JSON values; an infinite end is null."""
        ends = {"value": self.value, "low": self.low, "high": self.high}
        return {name: end if math.isfinite(end) else None for name, end in ends.items()}


@dataclass(frozen=True)
class AnswerCheck:
    """The answers given while the clock ran, against those of ``predict`` (as MLPerf's TEST01).

    Attributes
    ----------
    answers : int
        Images compared, repeats included.
    largest_difference : float
        Largest absolute difference of a logit; infinite where the shape differs or an answer is not finite.
    tolerance : float
        What rounding in another order explains; above it the subject is marked.
    disagreements : int
        Answers whose largest logit is of another class.
    """

    answers: int
    largest_difference: float
    tolerance: float
    disagreements: int

    @property
    def disagreement(self) -> float:
        """Share of answers of another class."""
        return self.disagreements / self.answers if self.answers else 0.0

    @property
    def same(self) -> bool:
        """Whether rounding explains the differences."""
        return self.largest_difference <= self.tolerance

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; an infinite difference is null."""
        largest = self.largest_difference if math.isfinite(self.largest_difference) else None
        return {
            "answers": self.answers,
            "largest_difference": largest,
            "tolerance": self.tolerance,
            "disagreements": self.disagreements,
            "same": self.same,
        }


@dataclass(frozen=True)
class Run:
    """One timed call.

    Attributes
    ----------
    round : int
        Rounds count from 0, warm-ups and measured ones apart.
    position : int
        Place of the subject in this round, from 0.
    nanoseconds : int
        Between the two readings of the clock.
    warmup : bool
        Whether it was before the measured rounds.
    """

    round: int
    position: int
    nanoseconds: int
    warmup: bool


@dataclass(frozen=True)
class SubjectLatency:
    """The latency of one subject.

    Attributes
    ----------
    id, label : str
        Id of the artifact and its name in tables.
    p50_ms, p90_ms, p99_ms : Estimate
        Milliseconds a call (of one batch); order-statistic intervals.
    images_per_second : Estimate
        Images in all calls over the sum of their times; bootstrap over rounds.
    ratio : Estimate or None
        p50 of this subject over p50 of the reference: below 1 is faster. Bootstrap over rounds, which are resampled
        for both alike. None where there is no reference.
    answers : AnswerCheck or None
        None where no expected logits were given.
    arithmetic : Arithmetic
        Where the multiply-accumulates run.
    marks : tuple of Mark
        Why not to trust the figures; empty where nothing speaks against them.
    runs : tuple of Run
        Every raw value in the order measured, warm-ups first.
    facts : mapping
        What the caller wants kept beside the figures: threads, size on disk, version of the runtime.
    """

    id: str
    label: str
    p50_ms: Estimate
    p90_ms: Estimate
    p99_ms: Estimate
    images_per_second: Estimate
    ratio: Estimate | None
    answers: AnswerCheck | None
    arithmetic: Arithmetic
    marks: tuple[Mark, ...]
    runs: tuple[Run, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def speedup(self) -> Estimate | None:
        """How many times as fast as the reference at p50: the ratio's inverse."""
        return None if self.ratio is None else self.ratio.inverse()

    @property
    def nanoseconds(self) -> NDArray[np.int64]:
        """Times of the measured rounds, in order."""
        return np.array([run.nanoseconds for run in self.runs if not run.warmup], dtype=np.int64)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; ``runs`` as one list a column, to keep the file small."""
        speedup = self.speedup
        measured = [run for run in self.runs if not run.warmup]
        warmups = [run for run in self.runs if run.warmup]
        return {
            "id": self.id,
            "label": self.label,
            "p50_ms": self.p50_ms.to_dict(),
            "p90_ms": self.p90_ms.to_dict(),
            "p99_ms": self.p99_ms.to_dict(),
            "images_per_second": self.images_per_second.to_dict(),
            "ratio": None if self.ratio is None else self.ratio.to_dict(),
            "speedup": None if speedup is None else speedup.to_dict(),
            "answers": None if self.answers is None else self.answers.to_dict(),
            "integer_macs": self.arithmetic.integer_macs,
            "total_macs": self.arithmetic.total_macs,
            "uncounted": list(self.arithmetic.uncounted),
            "marks": [mark.to_dict() for mark in self.marks],
            "facts": dict(self.facts),
            "warmups_ns": [run.nanoseconds for run in warmups],
            "warmup_positions": [run.position for run in warmups],
            "rounds_ns": [run.nanoseconds for run in measured],
            "round_positions": [run.position for run in measured],
        }


@dataclass(frozen=True)
class LatencyReport:
    """One interleaved measurement: its subjects share rounds, machine and conditions.

    Attributes
    ----------
    subjects : tuple of SubjectLatency
        In the order given.
    reference : str or None
        Id of the subject that the ratios refer to.
    batch, rounds, seed : int
        Images a call, measured rounds, seed of the orders and of the bootstrap.
    seconds : float
        Wall time of the measured rounds.
    confidence : float
        Of every interval.
    machine, conditions
        Where and under which conditions.
    marks : tuple of Mark
        Doubts about the whole measurement.
    """

    subjects: tuple[SubjectLatency, ...]
    reference: str | None
    batch: int
    rounds: int
    seconds: float
    seed: int
    confidence: float
    machine: Machine
    conditions: Conditions
    marks: tuple[Mark, ...]

    def __getitem__(self, subject_id: str) -> SubjectLatency:
        """Return the subject with that id."""
        for subject in self.subjects:
            if subject.id == subject_id:
                return subject
        hint = did_you_mean(subject_id, [subject.id for subject in self.subjects])
        raise InputError(f"{subject_id!r} was not measured here: {hint}")

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values, raw times included."""
        return {
            "reference": self.reference,
            "batch": self.batch,
            "rounds": self.rounds,
            "seconds": self.seconds,
            "seed": self.seed,
            "confidence": self.confidence,
            "machine": self.machine.to_dict(),
            "conditions": self.conditions.to_dict(),
            "marks": [mark.to_dict() for mark in self.marks],
            "subjects": [subject.to_dict() for subject in self.subjects],
        }


def quantile_estimate(values: NDArray[np.int64], quantile: float, confidence: float) -> Estimate:
    r"""Return a quantile with its order-statistic interval, which assumes no distribution.

    The number of values below the true quantile is binomial, :math:`B \sim Bin(n, q)`; with
    :math:`l = F_B^{-1}(\alpha / 2)` and :math:`u = F_B^{-1}(1 - \alpha / 2) + 1` the interval from the l-th to the
    u-th smallest value holds the quantile with probability of at least :math:`1 - \alpha`, if rounds are independent.

    Parameters
    ----------
    values : ndarray of int64, shape (n,)
        Times.
    quantile : float
        In (0, 1).
    confidence : float
        :math:`1 - \alpha`.

    Returns
    -------
    Estimate
        ``high`` is infinite (``low`` 0) where ``n`` values are too few: p99 at 95 % needs 368 for an upper end.
    """
    from scipy.stats import binom

    ordered = np.sort(values)
    tail = (1 - confidence) / 2
    low_rank = int(binom.ppf(tail, len(ordered), quantile))
    high_rank = int(binom.ppf(1 - tail, len(ordered), quantile)) + 1
    low = float(ordered[low_rank - 1]) if low_rank >= 1 else 0.0
    high = float(ordered[high_rank - 1]) if high_rank <= len(ordered) else math.inf
    return Estimate(float(np.quantile(ordered, quantile)), low, high)


def resampled_rounds(rounds: int, replicates: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield round numbers (<= replicates, rounds) of a circular block bootstrap, a chunk of replicates at a time.

    Blocks of neighbouring rounds, :math:`\\lceil n^{1/3} \\rceil` long, keep what disturbs several rounds in a row
    together (Politis and Romano 1992); with independent rounds they cost next to nothing.
    """
    generator = np.random.default_rng(seed)
    length = max(1, math.ceil(rounds ** (1 / 3) - 1e-9))
    blocks = math.ceil(rounds / length)
    chunk = max(1, RESAMPLED_AT_ONCE // rounds)
    for start in range(0, replicates, chunk):
        starts = generator.integers(rounds, size=(min(chunk, replicates - start), blocks, 1))
        yield ((starts + np.arange(length)) % rounds).reshape(len(starts), -1)[:, :rounds]


def round_figures(
    values: NDArray[np.int64], *, batch: int, reference: int | None, confidence: float, replicates: int, seed: int
) -> list[tuple[Estimate, Estimate | None]]:
    r"""Return throughput and ratio to the reference of every subject, from one bootstrap over rounds.

    Throughput is :math:`batch \cdot n / \sum_r t_r` images a second. The ratio of subject s to the reference is
    :math:`\mathrm{med}_r(t_{s,r}) / \mathrm{med}_r(t_{ref,r})`; a replicate draws rounds and takes the times of all
    subjects in these rounds, so that a slow stretch of the machine weighs on both medians alike. The interval is
    between the :math:`\alpha/2` and :math:`1 - \alpha/2` quantiles of the replicates.

    Parameters
    ----------
    values : ndarray of int64, shape (subjects, rounds)
        Nanoseconds.
    batch : int
        Images a call.
    reference : int or None
        Row of the reference.
    confidence : float
        :math:`1 - \alpha`.
    replicates, seed : int
        Of the bootstrap. Memory does not grow with the replicates.
    """
    subjects, rounds = values.shape
    medians, means = [], []
    for drawn in resampled_rounds(rounds, replicates, seed):
        medians.append(np.stack([np.median(values[row][drawn], axis=1) for row in range(subjects)]))
        means.append(np.stack([values[row][drawn].mean(axis=1) for row in range(subjects)]))
    median, mean = np.concatenate(medians, axis=1), np.concatenate(means, axis=1)
    tail = (1 - confidence) / 2
    scale = batch * NANOSECONDS_A_SECOND
    figures: list[tuple[Estimate, Estimate | None]] = []
    for row in range(subjects):
        slow, fast = (float(end) for end in np.quantile(mean[row], [1 - tail, tail]))
        throughput = Estimate(_divide(scale, float(values[row].mean())), _divide(scale, slow), _divide(scale, fast))
        figures.append((throughput, _ratio(values, median, row, reference, tail)))
    return figures


def _ratio(
    values: NDArray[np.int64], median: NDArray[np.float64], row: int, reference: int | None, tail: float
) -> Estimate | None:
    if reference is None:
        return None
    centre = np.median(values, axis=1)
    low, high = np.quantile(median[row] / median[reference], [tail, 1 - tail])
    return Estimate(float(centre[row] / centre[reference]), float(low), float(high))


def _divide(numerator: float, denominator: float) -> float:
    if math.isinf(denominator):
        return 0.0
    return numerator / denominator if denominator else math.inf
