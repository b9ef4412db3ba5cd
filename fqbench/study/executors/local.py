"""Perform tasks in several processes of this machine, as many as its memory allows."""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from fqbench.errors import WorkspaceError
from fqbench.machine import usable_cores
from fqbench.run import Run
from fqbench.study.executors.order import pick
from fqbench.study.executors.serial import Serial
from fqbench.study.tasks import Task, TaskOutcome, failure, perform, write_journal
from fqbench.workspace import Workspace

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

ATTEMPTS = 2  # a process that ends without an answer may have been killed by chance, twice hardly
THREADS = "OMP_NUM_THREADS"
MEMORY_SHARE = 0.8  # of the free memory, that all processes together may take
PEAK = 4 << 30  # bytes that a process is taken to need until one has been seen


@dataclass
class _Worker:
    process: SpawnProcess
    connection: Connection
    task: Task | None = None


class Local:
    """The executor of several processes; each keeps samples and stores open for all of its tasks.

    Until a task has ended, as many processes run as fit into memory at 4 GiB each; then as many as fit by the largest
    that was seen. A process takes the next task whose trained model no other process works on, if there is one: tasks
    of one model share work, for which one process would wait while another does it. Latencies are measured in this
    process, when no other one runs.

    Parameters
    ----------
    workers : int
        Most processes at a time; the cores are shared out among them.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.threads: int | None = max(1, usable_cores() // workers)
        self.pool: _Pool | None = None

    def perform(self, run: Run, tasks: Sequence[Task], *, alone: bool) -> Iterator[tuple[Task, TaskOutcome]]:
        """Yield outcomes as tasks end; a task whose process was killed runs again, once."""
        if alone:
            self.close()
            yield from Serial().perform(run, tasks, alone=True)
        else:
            self.pool = self.pool or _Pool(run, self.workers)
            yield from self.pool.perform(tasks)

    def close(self) -> None:
        """End the processes."""
        if self.pool is not None:
            self.pool.close()
        self.pool = None


class _Pool:
    def __init__(self, run: Run, most: int) -> None:
        import psutil

        self.run, self.most = run, most
        self.free = int(psutil.virtual_memory().available)
        self.limit = self._fitting(PEAK)
        self.workers: list[_Worker] = []
        self.killed: Counter[tuple[str, str]] = Counter()

    def perform(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, TaskOutcome]]:
        waiting = deque(tasks)
        while waiting or any(worker.task for worker in self.workers):
            self._hand_out(waiting)
            busy = [worker for worker in self.workers if worker.task is not None]
            wait([place for worker in busy for place in (worker.connection, worker.process.sentinel)])
            for worker in busy:
                yield from self._ended(worker, waiting)

    def close(self) -> None:
        for worker in self.workers:
            worker.process.terminate()
        for worker in self.workers:
            worker.process.join()
        self.workers = []

    def _hand_out(self, waiting: deque[Task]) -> None:
        running = sum(worker.task is not None for worker in self.workers)
        while waiting and running < self.limit:
            idle = next((worker for worker in self.workers if worker.task is None), None) or self._start()
            idle.task = pick(waiting, [worker.task for worker in self.workers if worker.task is not None])
            waiting.remove(idle.task)
            with suppress(BrokenPipeError):  # it has just died: its sentinel says so
                idle.connection.send(idle.task)
            running += 1

    def _fitting(self, peak: int) -> int:
        return max(1, min(self.most, int(MEMORY_SHARE * self.free // max(peak, 1))))

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        cores = _share(len(self.workers), self.most)
        process = context.Process(target=_serve, args=(theirs, str(self.run.workspace.root), cores), daemon=True)
        with threads_of_children(len(cores)):
            process.start()
        theirs.close()
        worker = _Worker(process, ours)
        self.workers.append(worker)
        return worker

    def _ended(self, worker: _Worker, waiting: deque[Task]) -> Iterator[tuple[Task, TaskOutcome]]:
        """Yield the outcome of a worker's task, if it has ended; put the task back if its process was killed."""
        task = worker.task
        if task is None or not (worker.connection.poll() or not worker.process.is_alive()):
            return
        try:
            answer = worker.connection.recv()
        except (EOFError, ConnectionResetError):
            self.workers.remove(worker)
            worker.process.join()
            self.killed[task.cell.id, task.part] += 1
            if self.killed[task.cell.id, task.part] < ATTEMPTS:
                self.run.reporter.say(f"the process that made {task.cell.name} was killed; it is made again")
                waiting.appendleft(task)
                return
            outcome = failure(task, f"its process was killed {ATTEMPTS} times, perhaps for want of memory")
            write_journal(self.run.workspace.root, outcome)
            yield task, outcome
            return
        worker.task = None
        if isinstance(answer, WorkspaceError):
            raise answer
        outcome, peak = answer
        self.limit = self._fitting(peak)
        yield task, outcome


def _share(number: int, workers: int) -> tuple[int, ...]:
    """Return the cores of one of several workers; empty where the system does not say which there are."""
    if not hasattr(os, "sched_getaffinity"):
        return ()
    cores = sorted(os.sched_getaffinity(0))
    return tuple(cores[number % workers :: workers]) or (cores[number % len(cores)],)


@contextmanager
def threads_of_children(threads: int) -> Iterator[None]:
    """Give processes that start meanwhile so many threads for products of matrices.

    NumPy starts these threads when it is imported, which is before a process reaches any line of ours; more threads
    than cores wait for each other actively.
    """
    before = os.environ.get(THREADS)
    if threads:
        os.environ[THREADS] = str(threads)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(THREADS, None)
        else:
            os.environ[THREADS] = before


def _serve(connection: Connection, root: str, cores: tuple[int, ...]) -> None:
    """Perform tasks until the connection is closed; runs in a process of its own."""
    if cores:
        os.sched_setaffinity(0, cores)
    run = Run(workspace=Workspace(root))
    while True:
        try:
            task = connection.recv()
        except (EOFError, KeyboardInterrupt):
            return
        answer: Any
        try:
            answer = (perform(run, task), _peak())
        except WorkspaceError as error:
            answer = WorkspaceError(str(error))
        except KeyboardInterrupt:
            return
        connection.send(answer)


def _peak() -> int:
    """Largest resident set of this process so far, in bytes."""
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
