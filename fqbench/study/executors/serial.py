"""Perform tasks one after the other in this process, which keeps samples and stores open for all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fqbench.run import Run
from fqbench.study.tasks import Task, TaskOutcome, perform


class Serial:
    """The executor of one process."""

    workers = 1
    threads: int | None = None

    def perform(self, run: Run, tasks: Sequence[Task], *, alone: bool) -> Iterator[tuple[Task, TaskOutcome]]:  # noqa: ARG002 - it always is
        """Yield outcomes in the order of the tasks."""
        for task in tasks:
            yield task, perform(run, task)

    def close(self) -> None:
        """Do nothing: there are no processes."""
