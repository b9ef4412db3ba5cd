"""Tasks of a study, and the journal that says how each ended and how long it took."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from fqbench.errors import FqbenchError, WorkspaceError
from fqbench.run import Run
from fqbench.storage import write_whole
from fqbench.study.cells import Cell
from fqbench.study.make import Part, make_answers, make_latency

JOURNAL = "study_journal"
BUG = 70  # as on the command line: an error that fqbench did not expect


@dataclass(frozen=True)
class Task:
    """One part of one cell: its answers, or its latency.

    Attributes
    ----------
    cell : Cell
        Which cell.
    part : str
        ``answers`` or ``latency``.
    threads : int or None
        Threads for predicting, where the configuration does not say; they are part of the predictions' id.
    """

    cell: Cell
    part: Part
    threads: int | None = None


@dataclass(frozen=True)
class TaskOutcome:
    """How a task ended.

    Attributes
    ----------
    cell, part : str
        Which task.
    entry : str
        Id of the entry that it made or found; empty where it failed.
    seconds : float
        How long it took; near 0 where everything was there.
    reason : str
        Why it failed; empty otherwise.
    exit_code : int
        Of the failure, as of the command line; 0 otherwise.
    """

    cell: str
    part: str
    entry: str
    seconds: float
    reason: str = ""
    exit_code: int = 0


def perform(run: Run, task: Task) -> TaskOutcome:
    """Make a task's entry, and write into the journal how that ended.

    Raises
    ------
    WorkspaceError
        The workspace cannot be written: that concerns all cells.
    """
    outcome = attempt(run, task)
    record(run.workspace.root, task, outcome)
    return outcome


def attempt(run: Run, task: Task) -> TaskOutcome:
    """Make a task's entry; a failure of its own is an outcome.

    Raises
    ------
    WorkspaceError
        The workspace cannot be written: that concerns all cells.
    """
    begun = time.monotonic()
    make = make_answers if task.part == "answers" else make_latency
    try:
        entry = make(run, task.cell, threads=task.threads)
    except WorkspaceError:
        raise
    except FqbenchError as error:
        return _failed(task, begun, str(error), error.exit_code)
    except Exception as error:  # whatever went wrong in one cell, the others go on
        return _failed(task, begun, f"{type(error).__name__}: {error}", BUG)
    return TaskOutcome(task.cell.id, task.part, entry.id, _since(begun))


def record(root: Path, task: Task, outcome: TaskOutcome) -> None:
    """Write an outcome into the journal, unless its entry was found there: then the journal knows how long it took."""
    earlier = read_journal(root, task) if outcome.entry else None
    if earlier is None or earlier.entry != outcome.entry:
        write_journal(root, outcome)


def failure(task: Task, reason: str, seconds: float = 0.0) -> TaskOutcome:
    """Return the outcome of a task whose process ended without saying why."""
    return TaskOutcome(task.cell.id, task.part, "", seconds, " ".join(reason.split()), BUG)


def read_journal(root: Path, task: Task) -> TaskOutcome | None:
    """Return how a task ended last time; None where the journal does not say."""
    try:
        return TaskOutcome(**json.loads(_place(root, task.cell.id, task.part).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def write_journal(root: Path, outcome: TaskOutcome) -> None:
    """Write how a task ended; the file is written whole."""
    place = _place(root, outcome.cell, outcome.part)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_whole(place, json.dumps(asdict(outcome), indent=1) + "\n")
    except OSError as error:
        raise WorkspaceError(
            f"the workspace {root} cannot be written ({error.strerror or error}); make room, and run the study again."
        ) from error


def _place(root: Path, cell: str, part: str) -> Path:
    return root / JOURNAL / f"{cell}.{part}.json"


def _failed(task: Task, begun: float, reason: str, exit_code: int) -> TaskOutcome:
    return TaskOutcome(task.cell.id, task.part, "", _since(begun), " ".join(reason.split()), exit_code)


def _since(begun: float) -> float:
    return round(time.monotonic() - begun, 3)
