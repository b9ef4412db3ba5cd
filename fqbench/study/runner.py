"""Run a study: phase by phase, cell by cell, then one table; and say how far it has come."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fqbench.errors import DataError
from fqbench.run import Run
from fqbench.study.cells import Cell, Phase
from fqbench.study.executors import Executor
from fqbench.study.file import Study
from fqbench.study.make import ROWS
from fqbench.study.progress import TimeLeft, seconds_left, told
from fqbench.study.table import PARQUET, VERSION, read_table, typed, write_table
from fqbench.study.tasks import Task, TaskOutcome, read_journal
from fqbench.workspace import Derivation, Entry
from fqbench.workspace.kinds import CELLS, STUDIES, CellFacts, StudyFacts

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

DEBUG = "-debug"
LOCK = "study.lock"


@dataclass(frozen=True)
class StudyResult:
    """What a run of a study ended with.

    Attributes
    ----------
    table : Entry
        The entry of the table.
    cells : tuple of Cell
        All cells.
    failed : mapping of str to TaskOutcome
        Failures by name of the cell, in the order of the cells.
    seconds : float
        Wall time of this run.
    """

    table: Entry[StudyFacts]
    cells: tuple[Cell, ...]
    failed: Mapping[str, TaskOutcome]
    seconds: float

    def frame(self) -> pd.DataFrame:
        """Return the table; `fqbench.study.table.COLUMNS` describes its columns."""
        return read_table(self.table.file(PARQUET))

    @property
    def exit_code(self) -> int:
        """0, or that of the first failure."""
        return next((one.exit_code for one in self.failed.values()), 0)


@dataclass(frozen=True)
class CellState:
    """How far a cell has come: ``done``, ``failed`` or ``waiting``, its failures, and seconds spent on it."""

    cell: Cell
    state: str
    reason: str
    seconds: float


@dataclass(frozen=True)
class StudyStatus:
    """How far a study has come; ``seconds_left`` is NaN where nothing has run yet."""

    name: str
    cells: tuple[CellState, ...]
    seconds_left: float


def tasks_of(study: Study, cells: Sequence[Cell], *, threads: int | None = None) -> list[list[Task]]:
    """Return the tasks in steps; all of one step must have ended before the next one begins.

    Baselines come first, since what they make is shared by all other cells; latencies come last and alone.
    """
    steps = [[Task(cell, "answers", threads) for cell in cells if cell.phase is phase] for phase in Phase]
    if study.latency:
        steps.append([Task(cell, "latency", threads) for cell in cells])
    return [step for step in steps if step]


def run_study(run: Run, study: Study, cells: Sequence[Cell], executor: Executor, *, debug: bool = False) -> StudyResult:
    """Make every cell that is missing, and the table of all.

    Parameters
    ----------
    run : Run
        Workspace and reporter.
    study : Study
        The study.
    cells : sequence of Cell
        Its cells, checked.
    executor : Executor
        Performs the tasks.
    debug : bool
        Whether the cells are tiny; the study's name in the table says so.

    Raises
    ------
    WorkspaceError
        The workspace cannot be written; what is finished is kept.
    DataError
        Every cell failed.
    """
    begun, done = time.monotonic(), list[tuple[Task, TaskOutcome]]()
    steps = tasks_of(study, cells, threads=executor.threads)
    everything = [task for step in steps for task in step]
    estimate = TimeLeft(executor.workers, _finished(run, cells, everything))
    with _alone(run), closing(executor):
        for step in steps:
            ready = [task for task in step if not _hopeless(task, done)]
            for task, outcome in executor.perform(run, ready, alone=step[0].part == "latency"):
                done.append((task, outcome))
                place = f"[{len(done)}/{len(everything)}] {task.cell.name}, {task.part}"
                how = f"failed: {outcome.reason.rstrip('.')}" if outcome.reason else f"{outcome.seconds:.1f} s"
                run.reporter.say(f"{place}: {how}; about {told(estimate(everything, done))} left")
        failed = _failures(cells, done)
        ids = {(outcome.cell, outcome.part): outcome.entry for _task, outcome in done if outcome.entry}
        entries = [run.workspace.get(ids[key], CELLS) for key in _keys(cells) if key in ids]
        reasons = {name: one.reason for name, one in failed.items()}
        try:
            table = write_study(run, study, entries, reasons, debug=debug)
        except DataError as error:
            if not entries:  # then the reason of the first cell is that of the study
                error.exit_code = next((one.exit_code for one in failed.values()), error.exit_code)
            raise
    return StudyResult(table, tuple(cells), failed, time.monotonic() - begun)


def write_study(
    run: Run, study: Study, entries: Sequence[Entry[CellFacts]], failed: Mapping[str, str], *, debug: bool = False
) -> Entry[StudyFacts]:
    """Return the entry of the table of these cells.

    Raises
    ------
    DataError
        There is no cell.
    """
    import pandas as pd

    if not entries:
        said = sorted({reason.rstrip(".") for reason in failed.values()})
        reasons = "; ".join(said[:3]) or "none has been made yet"
        raise DataError(f"the study {study.name} has no finished cell: {reasons}.")
    name = study.name + (DEBUG if debug else "")
    derivation = Derivation(
        kind=STUDIES,
        slug=name,
        determined_by={
            "study": name,
            "table": VERSION,
            "cells": [[entry.id, entry.digest] for entry in entries],
            "failed": dict(failed),
        },
        inputs={f"cell{index}": entry.id for index, entry in enumerate(entries)},
    )

    def build(out: Path) -> StudyFacts:
        table = pd.concat([read_table(entry.file(ROWS)) for entry in entries], ignore_index=True)
        table = typed(table.assign(study=name))
        write_table(table, out)
        cells = {entry.facts.cell for entry in entries}
        return StudyFacts(study=name, cells=len(cells), rows=len(table), failed=dict(failed))

    return run.produce(derivation, build, f"writing the table of the study {name}")


def finished_cells(run: Run, cells: Sequence[Cell]) -> dict[tuple[str, str], Entry[CellFacts]]:
    """Return the newest finished entries of cells, by id of the cell and part, in the order of the cells."""
    known = {(entry.facts.cell, entry.facts.part): entry for entry in run.workspace.entries(CELLS)}
    return {key: known[key] for key in _keys(cells) if key in known}


def study_status(run: Run, study: Study, cells: Sequence[Cell], *, workers: int = 1) -> StudyStatus:
    """Say how far a study has come, from the entries and the journal of the workspace; nothing is run."""
    finished = finished_cells(run, cells)
    everything = [task for step in tasks_of(study, cells) for task in step]
    journal = {(task.cell.id, task.part): read_journal(run.workspace.root, task) for task in everything}
    done = [(task, ended) for task in everything if (ended := journal[task.cell.id, task.part]) is not None]
    waiting = [task for task in everything if (task.cell.id, task.part) not in finished]
    states = []
    for cell in cells:
        mine = [task for task in everything if task.cell.id == cell.id]
        missing = [task for task in mine if (cell.id, task.part) not in finished]
        said = [one for task in mine if (one := journal[cell.id, task.part]) is not None]
        reasons = [one.reason for task in missing if (one := journal[cell.id, task.part]) is not None and one.reason]
        state = "done" if not missing else "failed" if reasons else "waiting"
        states.append(CellState(cell, state, "; ".join(reasons), sum(one.seconds for one in said)))
    return StudyStatus(study.name, tuple(states), seconds_left(waiting, done, workers=workers))


def _finished(run: Run, cells: Sequence[Cell], tasks: Sequence[Task]) -> list[tuple[Task, TaskOutcome]]:
    """Return the tasks that an earlier run has finished, with what the journal says of them."""
    finished = finished_cells(run, cells)
    known = [(task, read_journal(run.workspace.root, task)) for task in tasks]
    return [(task, one) for task, one in known if one is not None and (task.cell.id, task.part) in finished]


def _keys(cells: Sequence[Cell]) -> list[tuple[str, str]]:
    return [(cell.id, part) for cell in cells for part in ("answers", "latency")]


def _hopeless(task: Task, done: Sequence[tuple[Task, TaskOutcome]]) -> bool:
    """Whether a latency cannot be measured, since its cell failed."""
    return task.part == "latency" and any(one.cell == task.cell.id and not one.entry for _task, one in done)


def _failures(cells: Sequence[Cell], done: Sequence[tuple[Task, TaskOutcome]]) -> dict[str, TaskOutcome]:
    failures = {(one.cell, one.part): one for _task, one in done if not one.entry}
    return {cell.name: failures[key] for cell in cells for key in _keys([cell]) if key in failures}


@contextmanager
def _alone(run: Run) -> Iterator[None]:
    """Keep a second study out of the workspace: its work would disturb this one's latencies."""
    root = run.workspace.root
    with run.workspace.writing():
        root.mkdir(parents=True, exist_ok=True)
    with run.workspace.held(root / LOCK, f"another study that runs in {root}"):
        yield
