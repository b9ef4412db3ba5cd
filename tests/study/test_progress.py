"""Time left, from what has run."""

import math

import pytest

from fqbench.study.cells import Cell
from fqbench.study.file import Grid, Study
from fqbench.study.grid import cells_of
from fqbench.study.progress import TimeLeft, seconds_left, told
from fqbench.study.tasks import Task, TaskOutcome

CELLS = cells_of(
    Study(
        name="one", grid=Grid.model_validate({"models": ["a", "b"], "methods": ["ptq_static", "qat"], "bits": [8, 4]})
    )
)


def task(method: str, model: str = "a", bits: int = 8, part: str = "answers") -> Task:
    def fits(cell: Cell) -> bool:
        where = cell.coordinates
        return (where.method, where.model, where.bits) == (method, model, bits)

    return Task(next(cell for cell in CELLS if fits(cell)), part)  # type: ignore[arg-type]


def ended(one: Task, seconds: float, entry: str = "e") -> tuple[Task, TaskOutcome]:
    return one, TaskOutcome(one.cell.id, one.part, entry, seconds)


def test_a_task_takes_as_long_as_the_nearest_ones_that_ran() -> None:
    done = [ended(task("ptq_static"), 10), ended(task("ptq_static", bits=4), 20), ended(task("qat"), 100)]
    assert seconds_left([task("ptq_static")], done) == 10
    assert seconds_left([task("ptq_static", "b")], done) == 15
    assert seconds_left([task("fp32", bits=32)], done) == pytest.approx(130 / 3)
    assert seconds_left([task("qat", part="latency")], done) == pytest.approx(130 / 3)


def test_latencies_are_not_shared_by_workers() -> None:
    done = [ended(task("qat"), 100), ended(task("qat", part="latency"), 8)]
    waiting = [task("qat", "b"), task("qat", "b", part="latency")]
    assert seconds_left(waiting, done, workers=4) == 25 + 8


def test_what_was_found_or_failed_says_nothing() -> None:
    assert math.isnan(seconds_left([task("qat")], [ended(task("qat"), 0.01), ended(task("qat"), 50, entry="")]))
    assert seconds_left([], []) == 0


def test_what_an_earlier_run_finished_is_not_left() -> None:
    finished, waiting = task("ptq_static"), task("ptq_static", bits=4)
    estimate = TimeLeft(1, [ended(finished, 10)])
    assert estimate([finished, waiting], []) == 10
    assert estimate([finished, waiting], [ended(finished, 0.01), ended(waiting, 12)]) == 0


def test_durations_are_told_as_people_say_them() -> None:
    assert [told(one) for one in (math.nan, 12.4, 100, 5000, 9000)] == [
        "an unknown time",
        "12 s",
        "2 min",
        "83 min",
        "2.5 h",
    ]
