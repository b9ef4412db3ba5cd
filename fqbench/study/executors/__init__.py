"""Who performs the tasks of a study: this process, several processes of this machine, or a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from fqbench.run import Run
from fqbench.study.tasks import Task, TaskOutcome


class Executor(Protocol):
    """Performs tasks.

    Attributes
    ----------
    workers : int
        How many tasks run at a time.
    threads : int or None
        Threads for predicting in each; all cores where it is None.
    """

    workers: int
    threads: int | None

    def perform(self, run: Run, tasks: Sequence[Task], *, alone: bool) -> Iterator[tuple[Task, TaskOutcome]]:
        """Yield the outcome of each task as it ends, in any order.

        Parameters
        ----------
        run : Run
            Workspace and reporter.
        tasks : sequence of Task
            Independent of each other.
        alone : bool
            Whether nothing else may run on a task's machine: it measures latency.

        Raises
        ------
        WorkspaceError
            The workspace cannot be written.
        """
        ...

    def close(self) -> None:
        """End all processes; what they were making is made again by the next run."""
        ...
