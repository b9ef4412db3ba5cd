"""Results of a latency measurement: raw times, estimates with intervals, and doubts about them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.contracts.runtime import Arithmetic, Level
from fqbench.errors import InputError, did_you_mean
from fqbench.latency.conditions import Conditions
from fqbench.latency.interval import Interval
from fqbench.latency.modes import ColdStart, Energy, MlperfResult, Throughput
from fqbench.latency.steadiness import Mark
from fqbench.machine import Machine
from fqbench.storage import Stored

if TYPE_CHECKING:
    from numpy.typing import NDArray


NANOSECONDS_A_MILLISECOND = 1e6
NANOSECONDS_A_SECOND = 1e9


@dataclass(frozen=True)
class AnswerCheck:
    """Outputs of the timed calls compared with those of ``predict`` (as MLPerf's TEST01).

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
        """Share of outputs with another predicted class."""
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
class TimedCall:
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
class PeakMemory:
    """Memory of a process that loads an artifact and runs it.

    Attributes
    ----------
    peak : int or None
        Largest resident set of the process, bytes: Python, the runtime and the model. None where not measurable.
    before : int or None
        Resident set before the artifact was loaded; the runtime itself is usually loaded after that.
    reason : str
        Why there is no figure.
    """

    peak: int | None
    before: int | None
    reason: str = ""

    @property
    def added(self) -> int | None:
        """Memory of runtime and model in addition to Python."""
        return None if self.peak is None or self.before is None else self.peak - self.before

    def to_dict(self) -> dict[str, int | str | None]:
        """Return JSON values."""
        return {**asdict(self), "added": self.added}


@dataclass(frozen=True)
class SubjectFacts:
    """What was timed.

    Attributes
    ----------
    backend, runtime : str
        Name of the backend and version of what executed it.
    level : Level
        How it was executed; a simulated or emulated model has a latency, but no speed to compare.
    threads : int
        Of the runtime.
    bytes : int
        Size of the artifact on disk.
    peak_memory : PeakMemory or None
        Of a process that loads it and answers.
    quantized : bool
        Whether its scheme asks for integers.
    cold_starts : tuple of ColdStart
        Of fresh processes that load it and answer, one each.
    """

    backend: str = ""
    runtime: str = ""
    level: Level = Level.NATIVE
    threads: int | None = None
    bytes: int = 0
    peak_memory: PeakMemory | None = None
    quantized: bool = False
    cold_starts: tuple[ColdStart, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        memory = None if self.peak_memory is None else self.peak_memory.to_dict()
        starts = [start.to_dict() for start in self.cold_starts]
        return {**asdict(self), "level": self.level.value, "peak_memory": memory, "cold_starts": starts}


@dataclass(frozen=True)
class SubjectLatency:
    """The latency of one subject.

    Attributes
    ----------
    id, label : str
        Id of the artifact and its name in tables.
    p50_ms, p90_ms, p99_ms : Interval
        Milliseconds a call (of one batch); order-statistic intervals.
    images_per_second : Interval
        Images in all calls over the sum of their times; bootstrap over rounds.
    ratio : Interval or None
        p50 of this subject over p50 of the reference: below 1 is faster. Bootstrap over rounds, which are resampled
        for both alike. None where there is no reference, or where one of the two is simulated or emulated.
    answers : AnswerCheck or None
        None where no expected logits were given.
    arithmetic : Arithmetic
        Where the multiply-accumulates run.
    marks : tuple of Mark
        Why not to trust the figures; empty where nothing speaks against them.
    runs : tuple of TimedCall
        Every raw value in the order measured, warm-ups first.
    facts : SubjectFacts
        What was timed.
    phases : mapping
        Median milliseconds of the parts of a call, by name, where the runtime times them.
    throughput : Throughput or None
        Of several sessions at a time, where that was asked for.
    energy : Energy or None
        Where it was asked for.
    mlperf : tuple of MlperfResult
        One for each scenario that was asked for.
    """

    id: str
    label: str
    p50_ms: Interval
    p90_ms: Interval
    p99_ms: Interval
    images_per_second: Interval
    ratio: Interval | None
    answers: AnswerCheck | None
    arithmetic: Arithmetic
    marks: tuple[Mark, ...]
    runs: tuple[TimedCall, ...]
    facts: SubjectFacts = field(default_factory=SubjectFacts)
    phases: Mapping[str, float] = field(default_factory=dict)
    throughput: Throughput | None = None
    energy: Energy | None = None
    mlperf: tuple[MlperfResult, ...] = ()

    @property
    def speedup(self) -> Interval | None:
        """Speed-up over the reference at p50: the inverse of the ratio."""
        return None if self.ratio is None else self.ratio.inverse()

    @property
    def nanoseconds(self) -> NDArray[np.int64]:
        """Times of the measured rounds, in order."""
        return np.array([run.nanoseconds for run in self.runs if not run.warmup], dtype=np.int64)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; ``runs`` as one list per column, to keep the file small."""
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
            "half_macs": self.arithmetic.half_macs,
            "fallback_macs": self.arithmetic.fallback_macs,
            "marks": [mark.to_dict() for mark in self.marks],
            "facts": self.facts.to_dict(),
            "phases": dict(self.phases),
            "throughput": None if self.throughput is None else self.throughput.to_dict(),
            "energy": None if self.energy is None else self.energy.to_dict(),
            "mlperf": [result.to_dict() for result in self.mlperf],
            "warmups_ns": [run.nanoseconds for run in warmups],
            "warmup_positions": [run.position for run in warmups],
            "rounds_ns": [run.nanoseconds for run in measured],
            "round_positions": [run.position for run in measured],
        }


@dataclass(frozen=True)
class LatencyReport(Stored):
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
