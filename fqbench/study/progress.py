"""How much time is left, from what has run."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from fqbench.study.tasks import Task, TaskOutcome

FOUND = 0.5  # seconds below which a task is taken as found, not made


def seconds_left(waiting: Sequence[Task], done: Iterable[tuple[Task, TaskOutcome]], *, workers: int = 1) -> float:
    """Estimate the seconds that the waiting tasks take.

    A task takes as long as those of the same part, method, bits and model took on average; where there are none, as
    those of the same part and method, then of the same part, then as all.

    Parameters
    ----------
    waiting : sequence of Task
        What is still to be done.
    done : iterable of (Task, TaskOutcome)
        What has run; what was merely found says nothing.
    workers : int
        Answers are made by so many processes; latencies are measured one by one.

    Returns
    -------
    float
        NaN where nothing has run yet.
    """
    known: dict[tuple[object, ...], list[float]] = {}
    for task, outcome in done:
        if outcome.entry and outcome.seconds >= FOUND:
            for key in _keys(task):
                known.setdefault(key, []).append(outcome.seconds)
    if not known:
        return 0.0 if not waiting else math.nan
    seconds = dict.fromkeys(("answers", "latency"), 0.0)
    for task in waiting:
        seconds[task.part] += _expected(task, known)
    return seconds["answers"] / workers + seconds["latency"]


def _expected(task: Task, known: Mapping[tuple[object, ...], Sequence[float]]) -> float:
    return next(fmean(known[key]) for key in _keys(task) if key in known)


def _keys(task: Task) -> tuple[tuple[object, ...], ...]:
    where = task.cell.coordinates
    return (
        (task.part, where.method, where.bits, where.model),
        (task.part, where.method),
        (task.part,),
        (),
    )


class TimeLeft:
    """The estimate of a study that runs; computed again once a second, since it looks at every task.

    Parameters
    ----------
    workers : int
        As for `seconds_left`.
    earlier : sequence of (Task, TaskOutcome)
        What an earlier run has finished: it is found, not made, and says how long the like of it takes.
    """

    def __init__(self, workers: int, earlier: Sequence[tuple[Task, TaskOutcome]] = ()) -> None:
        self.workers, self.earlier, self.seconds, self.since = workers, earlier, math.nan, -math.inf

    def __call__(self, everything: Sequence[Task], done: Sequence[tuple[Task, TaskOutcome]]) -> float:
        """Return the seconds that are left of all tasks."""
        now = time.monotonic()
        if now - self.since >= 1 or len(done) == len(everything):
            known = [*self.earlier, *done]
            ended = {(task.cell.id, task.part) for task, _outcome in known}
            waiting = [task for task in everything if (task.cell.id, task.part) not in ended]
            self.seconds, self.since = seconds_left(waiting, known, workers=self.workers), now
        return self.seconds


def told(seconds: float) -> str:
    """Return a duration as people say it: ``40 s``, ``12 min``, ``3.5 h``."""
    if math.isnan(seconds):
        return "an unknown time"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
