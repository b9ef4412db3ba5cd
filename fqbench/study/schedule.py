"""A model of a study's schedule on any number of workers, from durations that were measured."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class StudyStep:
    """Tasks that may run at the same time; the next step begins when all have ended.

    Attributes
    ----------
    name : str
        Phase of the study, or ``latency``.
    seconds : tuple of float
        Duration of each task, in the order in which they are handed out.
    alone : bool
        Whether a task takes a whole node.
    """

    name: str
    seconds: tuple[float, ...]
    alone: bool = False


@dataclass(frozen=True)
class Schedule:
    """The simulated run of a study.

    Attributes
    ----------
    workers : int
        How many.
    seconds : float
        From the start to the end.
    efficiency : float
        Share of the workers' time in which they work, latencies apart.
    bound : str
        What its length is bound by: ``work`` (more workers help), ``longest task`` or ``driver``, with the step.
    """

    workers: int
    seconds: float
    efficiency: float
    bound: str


def simulate(
    steps: Sequence[StudyStep], workers: int, *, workers_per_node: int = 1, driver_seconds: float = 0.0
) -> Schedule:
    """Simulate a study: each task goes to the first worker that is free, in order.

    Parameters
    ----------
    steps : sequence of StudyStep
        In order.
    workers : int
        How many; a step that measures latency has one worker per node.
    workers_per_node : int
        How many share a node.
    driver_seconds : float
        What the driver does for each task, one after the other.
    """
    total, busy, offered, spent = 0.0, 0.0, 0.0, {}
    for step in steps:
        places = max(1, workers // workers_per_node) if step.alone else workers
        lasts = _makespan(step.seconds, places, driver_seconds)
        total += lasts
        if not step.alone:
            busy, offered = busy + sum(step.seconds), offered + places * lasts
        spent[f"{_bound(step, places, driver_seconds)} of {step.name}"] = lasts
    bound = max(spent, key=spent.__getitem__) if spent else "nothing"
    return Schedule(workers, total, busy / offered if offered else 1.0, bound)


def _makespan(seconds: Sequence[float], workers: int, driver_seconds: float) -> float:
    free = [0.0] * min(workers, max(len(seconds), 1))
    end = 0.0
    for number, lasts in enumerate(seconds):
        begun = max(heapq.heappop(free), number * driver_seconds)
        heapq.heappush(free, begun + lasts)
        end = max(end, begun + lasts)
    return end


def _bound(step: StudyStep, workers: int, driver_seconds: float) -> str:
    limits = {
        "work": sum(step.seconds) / workers,
        "longest task": max(step.seconds, default=0.0),
        "driver": driver_seconds * len(step.seconds),
    }
    return max(limits, key=limits.__getitem__)
