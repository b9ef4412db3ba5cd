"""The measuring protocol (docs/design.md): interleaved rounds in random order, steady warm-up, answers checked."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fqbench.contracts.task import PredictionTask
from fqbench.errors import DataError, InputError, did_you_mean
from fqbench.latency.conditions import Conditions, conditions
from fqbench.latency.interval import Interval
from fqbench.latency.kernels import kernel_doubts
from fqbench.latency.noise import glance, noise
from fqbench.latency.results import (
    NANOSECONDS_A_MILLISECOND,
    NANOSECONDS_A_SECOND,
    AnswerCheck,
    LatencyReport,
    SubjectFacts,
    SubjectLatency,
    TimedCall,
)
from fqbench.latency.statistics import quantile_estimate, round_figures
from fqbench.latency.steadiness import FEWEST_WARMUPS, LONGEST_WARMUP, MOST_WARMUPS, Doubt, Mark, doubts, is_steady
from fqbench.machine import this_machine
from fqbench.reporter import Reporter, Silent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fqbench.plugins import Session

__all__ = ["LatencyReport", "Subject", "measure"]

# Of the largest expected logit. Another batch size may sum floats in another order; that can tip one 8-bit activation
# over to its neighbour, which is seen in the logits. More than this is another computation.
TOLERANCE = 0.01
PENDING = 256  # answers that are kept until they are checked together


@dataclass(frozen=True)
class Subject:
    """One loaded artifact under comparison.

    Attributes
    ----------
    id, label : str
        Id of the artifact, and its name in tables.
    session : Session
        What is timed: its ``run`` alone.
    expected : ndarray of float32, shape (images, classes), optional
        The logits that ``predict`` gave for the very images that are measured on; answers are not checked without.
    facts : SubjectFacts
        Stored with the figures.
    task : PredictionTask
        What the logits stand for: by it two answers are the same or not.
    """

    id: str
    label: str
    session: Session
    expected: NDArray[np.float32] | None = None
    facts: SubjectFacts = field(default_factory=SubjectFacts)
    task: PredictionTask = PredictionTask.CLASSES


def measure(
    subjects: Sequence[Subject],
    images: NDArray[np.float32],
    *,
    batch: int = 1,
    rounds: int = 200,
    seconds: float = 3.0,
    seed: int = 0,
    reference: str | None = None,
    confidence: float = 0.95,
    replicates: int = 2000,
    clock: Callable[[], int] = time.perf_counter_ns,
    reporter: Reporter | None = None,
) -> LatencyReport:
    """Measure the latency of loaded artifacts against each other.

    In each round every subject answers the same batch once, in a new random order, so that whatever slows the machine
    down hits all alike. Nothing but ``session.run`` lies between two readings of the clock. Warm-up rounds go on until
    each subject has been steady once (`fqbench.latency.steadiness.is_steady`), at most 300, and not much longer than a
    minute for each subject; then the measured rounds, at least ``rounds`` of them and for at least ``seconds``.
    Python's garbage collector is off meanwhile, as in `timeit`, and nothing is shown: a progress bar's thread would
    take the interpreter's lock under the clock.

    Parameters
    ----------
    subjects : sequence of Subject
        With different ids.
    images : ndarray of float32, shape (K, 3, H, W)
        Prepared inputs; rounds go through them in batches, again and again. What is left over by ``batch`` is unused.
    batch : int
        Images a call.
    rounds, seconds
        The least number of measured rounds, and their least duration in all.
    seed : int
        Of the orders and of the bootstrap.
    reference : str, optional
        Id of the subject that ratios refer to, usually FP32.
    confidence, replicates
        Of the intervals; memory does not grow with the replicates.
    clock : callable
        Returns nanoseconds.
    reporter : Reporter, optional
        Told what begins, and what did not settle.

    Raises
    ------
    InputError
        No subjects, two of one id, an unknown reference, no rounds, or fewer images than one batch.
    DataError
        Expected logits for another number of images.
    """
    reporter = reporter or Silent()
    _check(subjects, images, batch, rounds, reference)
    inputs = [images[start : start + batch] for start in range(0, len(images) - batch + 1, batch)]
    state = conditions(clock)
    stopwatch = _Stopwatch(subjects, inputs, np.random.default_rng(seed), clock)
    with _no_garbage_collection():
        reporter.say(f"warming up {len(subjects)} subject(s) until their rates are steady")
        steady = stopwatch.warm_up()
        for subject in (subject for subject in subjects if subject.id not in steady):
            runs = len(stopwatch.warmups[subject.id])
            reporter.say(f"WARNING: {subject.label} is not steady after {runs} runs; do not trust its times")
        reporter.say(f"measuring at least {rounds} rounds and {seconds:g} s")
        before = glance()
        elapsed = stopwatch.go(rounds, seconds)
        after = glance()
    times = stopwatch.times()
    threads = max((subject.facts.threads or 1 for subject in subjects), default=None)
    row = [subject.id for subject in subjects].index(reference) if reference is not None else None
    if row is not None and not subjects[row].facts.level.has_speed:
        row = None  # nothing is faster or slower than a simulation
    figures = round_figures(times, batch=batch, reference=row, confidence=confidence, replicates=replicates, seed=seed)
    described = [
        _describe(
            subject, stopwatch, own_times, own_figures, confidence=confidence, state=state, steady=subject.id in steady
        )
        for subject, own_times, own_figures in zip(subjects, times, figures, strict=True)
    ]
    return LatencyReport(
        subjects=tuple(described),
        reference=reference,
        batch=batch,
        rounds=times.shape[1],
        seconds=elapsed / NANOSECONDS_A_SECOND,
        seed=seed,
        confidence=confidence,
        machine=this_machine(),
        conditions=state,
        marks=noise(before, after, threads=threads, governors=state.governor),
    )


def _check(
    subjects: Sequence[Subject], images: NDArray[np.float32], batch: int, rounds: int, reference: str | None
) -> None:
    ids = [subject.id for subject in subjects]
    if not ids:
        raise InputError("there is nothing to measure: name at least one artifact.")
    twice = sorted({name for name in ids if ids.count(name) > 1})
    if twice:
        raise InputError(f"{', '.join(twice)} would be measured twice in one comparison; name each artifact once.")
    if reference is not None and reference not in ids:
        raise InputError(f"the reference {reference!r} is not among the subjects: {did_you_mean(reference, ids)}")
    if not 1 <= batch <= len(images):
        raise InputError(f"a batch of {batch} cannot be filled from {len(images)} image(s); lower --batch.")
    if rounds < 1:
        raise InputError(f"{rounds} rounds measure nothing; raise --rounds.")
    for subject in subjects:
        if subject.expected is not None and len(subject.expected) != len(images):
            raise DataError(
                f"{subject.label} has expected answers for {len(subject.expected)} images and is measured on "
                f"{len(images)}; run predict on the same images again."
            )


class _Answers:
    """Accumulate the outputs of the timed calls for `AnswerCheck`, keeping few of them.

    They are checked some hundred at a time: what runs between two timed calls takes the next one's cache.
    """

    def __init__(self, expected: NDArray[np.float32], task: PredictionTask) -> None:
        self.expected = expected
        self.task = task
        self.tolerance = TOLERANCE * float(np.abs(expected).max(initial=1e-6))
        self.count = 0
        self.largest = 0.0
        self.disagreements = 0
        self.pending: list[tuple[NDArray[np.float32], int, int]] = []

    def add(self, answer: NDArray[np.float32], start: int, images: int) -> None:
        self.pending.append((np.array(answer), start, images))  # a session may write its next answer into this array
        if len(self.pending) == PENDING:
            self._check_pending()

    def _check_pending(self) -> None:
        for answer, start, images in self.pending:
            self._check(answer, start, images)
        self.pending.clear()

    def _check(self, answer: NDArray[np.float32], start: int, images: int) -> None:
        expected = self.expected[start : start + images]
        self.count += images
        if answer.shape != expected.shape or not np.isfinite(answer).all():
            self.largest = float("inf")
            self.disagreements += images
            return
        self.largest = max(self.largest, float(np.abs(answer - expected).max(initial=0.0)))
        self.disagreements += int((self.task.agreement(answer, expected) < 1).sum())

    def result(self) -> AnswerCheck:
        self._check_pending()
        return AnswerCheck(self.count, self.largest, self.tolerance, self.disagreements)


class _Stopwatch:
    """Runs rounds and keeps every time."""

    def __init__(
        self,
        subjects: Sequence[Subject],
        inputs: Sequence[NDArray[np.float32]],
        generator: np.random.Generator,
        clock: Callable[[], int],
    ) -> None:
        self.subjects = subjects
        self.inputs = inputs
        self.generator = generator
        self.clock = clock
        self.warmups: dict[str, list[TimedCall]] = {subject.id: [] for subject in subjects}
        self.measured: dict[str, list[TimedCall]] = {subject.id: [] for subject in subjects}
        self.answers = {
            subject.id: _Answers(subject.expected, subject.task) for subject in subjects if subject.expected is not None
        }

    def warm_up(self) -> set[str]:
        """TimedCall rounds until each subject has been steady once, or too many; return the ids of the steady ones."""
        steady: set[str] = set()
        end = self.clock() + LONGEST_WARMUP * len(self.subjects) * NANOSECONDS_A_SECOND
        for number in range(MOST_WARMUPS):
            if number >= FEWEST_WARMUPS and self.clock() > end:
                break
            self._round(number, self.warmups, warmup=True)
            for name in self.warmups.keys() - steady:
                if is_steady([run.nanoseconds for run in self.warmups[name]]):
                    steady.add(name)
            if len(steady) == len(self.subjects):
                break
        return steady

    def go(self, rounds: int, seconds: float) -> int:
        """TimedCall the measured rounds; return how long they took, in nanoseconds."""
        start = self.clock()
        elapsed = 0
        number = 0
        while number < rounds or elapsed < seconds * NANOSECONDS_A_SECOND:
            self._round(number, self.measured, warmup=False)
            number += 1
            elapsed = self.clock() - start
        return elapsed

    def times(self) -> NDArray[np.int64]:
        """Return nanoseconds of the measured rounds (subjects, rounds)."""
        return np.array([[run.nanoseconds for run in self.measured[subject.id]] for subject in self.subjects], np.int64)

    def _round(self, number: int, runs: dict[str, list[TimedCall]], *, warmup: bool) -> None:
        which = number % len(self.inputs)
        images = self.inputs[which]
        for position, index in enumerate(self.generator.permutation(len(self.subjects))):
            subject = self.subjects[index]
            nanoseconds, answer = _timed(subject.session.run, images, self.clock)
            runs[subject.id].append(TimedCall(number, position, nanoseconds, warmup))
            if subject.id in self.answers:
                self.answers[subject.id].add(answer, which * len(images), len(images))


def _timed(
    run: Callable[[NDArray[np.float32]], NDArray[np.float32]], images: NDArray[np.float32], clock: Callable[[], int]
) -> tuple[int, NDArray[np.float32]]:
    start = clock()
    answer = run(images)
    stop = clock()
    return stop - start, answer


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _describe(
    subject: Subject,
    stopwatch: _Stopwatch,
    times: NDArray[np.int64],
    figures: tuple[Interval, Interval | None],
    *,
    confidence: float,
    state: Conditions,
    steady: bool,
) -> SubjectLatency:
    p50, p90, p99 = (quantile_estimate(times, quantile, confidence) for quantile in (0.5, 0.9, 0.99))
    answers = stopwatch.answers[subject.id].result() if subject.id in stopwatch.answers else None
    arithmetic = subject.session.arithmetic
    marks = (
        *kernel_doubts(arithmetic, subject.facts),
        *doubts(times, steady=steady, p99_high=p99.high, timer_step=state.timer_step),
    )
    if answers is not None and not answers.same:
        text = (
            f"logits differ from those of predict by up to {answers.largest_difference:.3g}, and so do "
            f"{answers.disagreement:.1%} of the labels: the timed model is not the evaluated one. In dynamic schemes "
            "scales depend on the batch; evaluate and time them at the same batch size."
        )
        marks = (Mark(Doubt.DIFFERENT_ANSWERS, text), *marks)
    return SubjectLatency(
        id=subject.id,
        label=subject.label,
        p50_ms=_milliseconds(p50),
        p90_ms=_milliseconds(p90),
        p99_ms=_milliseconds(p99),
        images_per_second=figures[0],
        ratio=figures[1] if subject.facts.level.has_speed else None,
        answers=answers,
        arithmetic=arithmetic,
        marks=marks,
        runs=(*stopwatch.warmups[subject.id], *stopwatch.measured[subject.id]),
        facts=subject.facts,
        phases=dict(subject.session.phases(len(times))),
    )


def _milliseconds(nanoseconds: Interval) -> Interval:
    ends = (nanoseconds.value, nanoseconds.low, nanoseconds.high)
    return Interval(*(end / NANOSECONDS_A_MILLISECOND for end in ends))
