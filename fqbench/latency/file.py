"""A measurement on disk: ``latency.json``, raw values included, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fqbench.contracts.runtime import Arithmetic, Level
from fqbench.errors import DataError
from fqbench.latency.conditions import Conditions
from fqbench.latency.results import (
    AnswerCheck,
    Interval,
    LatencyReport,
    PeakMemory,
    SubjectFacts,
    SubjectLatency,
    TimedCall,
)
from fqbench.latency.steadiness import Doubt, Mark
from fqbench.machine import Machine


def write_latency(report: LatencyReport, path: Path) -> None:
    """Write a measurement as JSON."""
    path.write_text(json.dumps(report.to_dict(), allow_nan=False) + "\n", encoding="utf-8")


def read_latency(path: Path) -> LatencyReport:
    """Read what `write_latency` wrote.

    Raises
    ------
    DataError
        It is no such file.
    """
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return LatencyReport(
            subjects=tuple(_subject(subject) for subject in facts["subjects"]),
            reference=facts["reference"],
            batch=facts["batch"],
            rounds=facts["rounds"],
            seconds=facts["seconds"],
            seed=facts["seed"],
            confidence=facts["confidence"],
            machine=Machine(**_tuples(facts["machine"])),
            conditions=Conditions(**_tuples(facts["conditions"])),
            marks=_marks(facts["marks"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is no measurement of this fqbench ({error!r}); measure again.") from error


def _subject(facts: Mapping[str, Any]) -> SubjectLatency:
    return SubjectLatency(
        id=facts["id"],
        label=facts["label"],
        p50_ms=_estimate(facts["p50_ms"]),
        p90_ms=_estimate(facts["p90_ms"]),
        p99_ms=_estimate(facts["p99_ms"]),
        images_per_second=_estimate(facts["images_per_second"]),
        ratio=None if facts["ratio"] is None else _estimate(facts["ratio"]),
        answers=None if facts["answers"] is None else _answers(facts["answers"]),
        arithmetic=Arithmetic(facts["integer_macs"], facts["total_macs"], tuple(facts["uncounted"])),
        marks=_marks(facts["marks"]),
        runs=(
            *_runs(facts["warmup_positions"], facts["warmups_ns"], warmup=True),
            *_runs(facts["round_positions"], facts["rounds_ns"], warmup=False),
        ),
        facts=_facts(facts["facts"]),
        phases=facts["phases"],
    )


def _estimate(facts: Mapping[str, float | None]) -> Interval:
    """An infinite end was written as null: the upper one, unless a lower one is null as well."""
    ends = [facts["value"], facts["low"], facts["high"]]
    value, low, high = (end if end is not None else float("inf") for end in ends)
    return Interval(value, low if facts["low"] is not None else float("-inf"), high)


def _facts(facts: Mapping[str, Any]) -> SubjectFacts:
    memory = facts["peak_memory"]
    peak = None if memory is None else PeakMemory(memory["peak"], memory["before"], memory["reason"])
    return SubjectFacts(**{**facts, "level": Level(facts["level"]), "peak_memory": peak})


def _answers(facts: Mapping[str, Any]) -> AnswerCheck:
    largest = facts["largest_difference"]
    return AnswerCheck(
        answers=facts["answers"],
        largest_difference=float("inf") if largest is None else largest,
        tolerance=facts["tolerance"],
        disagreements=facts["disagreements"],
    )


def _runs(positions: list[int], times: list[int], *, warmup: bool) -> list[TimedCall]:
    pairs = zip(positions, times, strict=True)
    return [TimedCall(number, position, nanoseconds, warmup) for number, (position, nanoseconds) in enumerate(pairs)]


def _marks(facts: list[Mapping[str, str]]) -> tuple[Mark, ...]:
    return tuple(Mark(Doubt(mark["doubt"]), mark["text"], mark.get("figure", "")) for mark in facts)


def _tuples(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in facts.items()}
