"""How a study scales: efficiency with two workers here, a model of more workers, and what breaks first.

    python benchmarks/study_scaling.py efficiency benchmarks/scaling.yaml --executor local
    python benchmarks/study_scaling.py schedule studies/small.yaml --workspace runs --seeds 100
    python benchmarks/study_scaling.py workspace

`efficiency` runs a study without latencies, with one worker of one core and with two, each in a workspace of its own;
then two studies of one worker side by side, which share nothing but the machine: what they lose, no executor wins back.
`schedule` takes the durations that a study's journal holds, repeats the grid for many seeds, and simulates workers.
`workspace` measures what grows with the number of entries: publishing one, and finding one by its id.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from fqbench.machine import this_machine
from fqbench.run import Run
from fqbench.study.executors.choice import executor_named
from fqbench.study.opening import open_study
from fqbench.study.runner import run_study, tasks_of
from fqbench.study.schedule import StudyStep, simulate
from fqbench.study.tasks import read_journal
from fqbench.workspace import Derivation, Workspace
from fqbench.workspace.kinds import STUDIES, StudyFacts

WORKERS = (1, 2, 10, 100, 1000)
PER_NODE = 8


def efficiency(file: Path, executor: str, *, debug: bool) -> None:
    """Print the wall time of one worker, of two, and of two studies of one worker side by side; a worker has a core."""
    os.environ["OMP_NUM_THREADS"] = "1"  # read when NumPy is imported, by the processes that start here
    cores = sorted(os.sched_getaffinity(0))[:2]
    (alone,) = _side_by_side([Subject(file, executor, 1, (cores[0],), debug)])
    (together,) = _side_by_side([Subject(file, executor, 2, tuple(cores), debug)])
    apart = _side_by_side([Subject(file, executor, 1, (core,), debug) for core in cores])
    for name, found in (("one worker", alone), ("two workers", together)):
        print(
            f"{name}: {found.seconds:.1f} s, {found.cells} cells, {found.failed} failed; {found.busy:.0%} of the "
            "workers' time is in tasks, the rest is start-up, waiting at the end of a phase, and the table"
        )
    beside = sum(one.seconds for one in apart) / 2
    print(f"one worker beside another study of one worker: {beside:.1f} s, which nothing but the machine slows down")
    print(f"efficiency at 2 workers: {alone.seconds / (2 * together.seconds):.2f}")
    print(f"the machine's own: {alone.seconds / beside:.2f}; of it reached: {beside / (2 * together.seconds):.2f}")


@dataclass(frozen=True)
class Subject:
    """A study in a process and workspace of its own, on some cores."""

    file: Path
    executor: str
    workers: int
    cores: tuple[int, ...]
    debug: bool


@dataclass(frozen=True)
class Measured:
    """Wall time of a study with its imports, its cells, how many failed, and the share of the time spent in tasks."""

    seconds: float
    cells: int
    failed: int
    busy: float


def _side_by_side(subjects: Sequence[Subject]) -> list[Measured]:
    with ProcessPoolExecutor(len(subjects), mp_context=get_context("spawn")) as processes:
        return list(processes.map(_measured, subjects))


def _measured(subject: Subject) -> Measured:
    os.sched_setaffinity(0, subject.cores)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(workspace=Workspace(folder))
        study, cells = open_study(run, subject.file, debug=subject.debug)
        study = study.model_copy(update={"latency": False})
        executor = executor_named(subject.executor, workers=subject.workers)
        begun = time.monotonic()
        result = run_study(run, study, cells, executor, debug=subject.debug)
        seconds = time.monotonic() - begun
        tasks = [task for step in tasks_of(study, cells) for task in step]
        busy = sum(one.seconds for task in tasks if (one := read_journal(run.workspace.root, task)) is not None)
    return Measured(seconds, len(cells), len(result.failed), busy / (subject.workers * seconds))


def schedule(file: Path, workspace: Path, seeds: int, driver: float, *, debug: bool) -> None:
    """Print the simulated schedule of 1 to 1,000 workers."""
    run = Run(workspace=Workspace(workspace))
    study, cells = open_study(run, file, debug=debug, check=False)
    steps, missing = [], 0
    for together in tasks_of(study, cells):
        known = [read_journal(run.workspace.root, task) for task in together]
        measured = [one.seconds for one in known if one is not None and one.entry]
        missing += len(together) - len(measured)
        name = "latency" if together[0].part == "latency" else together[0].cell.phase.value
        steps.append(StudyStep(name, tuple(measured) * seeds, alone=name == "latency"))
    total = sum(sum(step.seconds) for step in steps)
    print(
        f"{sum(len(step.seconds) for step in steps)} tasks, {total / 3600:.1f} h of work; {missing} tasks have no time"
    )
    print("| workers | hours | efficiency | bound by |\n|---:|---:|---:|---|")
    for workers in WORKERS:
        found = simulate(steps, workers, workers_per_node=min(PER_NODE, workers), driver_seconds=driver)
        print(f"| {workers} | {found.seconds / 3600:.3f} | {found.efficiency:.2f} | {found.bound} |")


def workspace() -> None:
    """Print what an entry costs in workspaces of several sizes."""
    print("| entries | publish one, ms | find one by its id, ms |\n|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        place, made = Workspace(folder), 0
        for count in (10, 100, 1000):
            begun, first = time.monotonic(), made
            while made < count:
                derivation = Derivation(kind=STUDIES, slug="x", determined_by={"n": made}, inputs={})
                place.produce(derivation, lambda _out: StudyFacts(study="x", cells=0, rows=0, failed={}), {})
                made += 1
            publish = (time.monotonic() - begun) / (made - first)
            begun = time.monotonic()
            for _ in range(20):
                place.get(derivation.id, STUDIES)
            print(f"| {count} | {1000 * publish:.1f} | {1000 * (time.monotonic() - begun) / 20:.1f} |")


def main() -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["efficiency", "schedule", "workspace"])
    parser.add_argument("file", type=Path, nargs="?", default=Path("benchmarks/scaling.yaml"))
    parser.add_argument("--executor", default="local")
    parser.add_argument("--workspace", type=Path, default=Path("fqbench_runs"))
    parser.add_argument("--seeds", type=int, default=100, help="how often the measured grid is repeated")
    parser.add_argument("--driver", type=float, default=0.01, help="seconds of the driver per task")
    parser.add_argument("--debug", action="store_true", help="tiny cells, as those of --debug")
    asked = parser.parse_args()
    print(f"{this_machine().cpu}, {this_machine().cores} cores")
    if asked.what == "efficiency":
        efficiency(asked.file, asked.executor, debug=asked.debug)
    elif asked.what == "schedule":
        schedule(asked.file, asked.workspace, asked.seeds, asked.driver, debug=asked.debug)
    else:
        workspace()


if __name__ == "__main__":
    main()
