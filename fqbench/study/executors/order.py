"""In which order tasks are handed out: those of one trained model share work, for which one worker would wait."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from fqbench.study.tasks import Task


def pick(waiting: Sequence[Task], working: Sequence[Task]) -> Task:
    """Return the first task of a trained model that no other process works on, or the first one if there is none."""
    busy = {task.cell.coordinates.trained for task in working}
    return next((task for task in waiting if task.cell.coordinates.trained not in busy), waiting[0])


def spread(tasks: Sequence[Task]) -> list[Task]:
    """Return all tasks with the trained models taking turns, for an executor that itself decides when each starts."""
    seen = Counter[tuple[str, str, int]]()
    turns = []
    for task in tasks:
        turns.append(seen[task.cell.coordinates.trained])
        seen[task.cell.coordinates.trained] += 1
    return [task for _turn, task in sorted(zip(turns, tasks, strict=True), key=lambda one: one[0])]
