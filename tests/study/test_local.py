"""Processes of this machine: which task is next, how many threads a process gets, and how many run before any ended."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from fqbench.config import Config
from fqbench.run import Run
from fqbench.study.cells import Cell, Coordinates, Phase
from fqbench.study.executors import local
from fqbench.study.executors.order import pick, spread
from fqbench.study.tasks import Task
from fqbench.workspace import Workspace


def task(model: str, seed: int, bits: int) -> Task:
    where = Coordinates("synthfaces", model, seed, "ort", "ptq_static", bits)
    return Task(Cell(where, Phase.METHODS, Config(), Config()), "answers")


def test_the_next_task_is_of_a_model_that_nobody_works_on() -> None:
    waiting = [task("a", 0, 8), task("a", 0, 4), task("a", 1, 8), task("b", 0, 8)]
    assert pick(waiting, []) is waiting[0]
    assert pick(waiting, [task("a", 0, 2)]) is waiting[2]
    assert pick(waiting, [task("a", 0, 2), task("a", 1, 2)]) is waiting[3]


def test_where_every_model_is_worked_on_it_is_the_first() -> None:
    waiting = [task("a", 0, 8), task("b", 0, 8)]
    assert pick(waiting, [task("a", 0, 2), task("b", 0, 2)]) is waiting[0]


def test_models_take_turns_and_keep_the_order_of_their_tasks() -> None:
    a, b, c, d, e = task("a", 0, 8), task("a", 0, 4), task("a", 0, 2), task("b", 0, 8), task("b", 0, 4)
    assert spread([a, b, c, d, e]) == [a, d, b, e, c]


SAYS = """
import os, numpy, psutil
numpy.ones((600, 600)) @ numpy.ones((600, 600))
print(os.environ["OMP_NUM_THREADS"], psutil.Process().num_threads())
"""


@pytest.mark.parametrize("before", [None, "7"])
def test_a_process_starts_with_its_share_of_threads(before: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if before:
        monkeypatch.setenv("OMP_NUM_THREADS", before)
    with local.threads_of_children(1):
        said = subprocess.run([sys.executable, "-c", SAYS], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["1", "1"]
    assert os.environ.get("OMP_NUM_THREADS") == before


@pytest.mark.parametrize(("memory", "processes"), [(64 << 30, 3), (11 << 30, 2), (1 << 30, 1)])
def test_before_a_task_has_ended_as_many_processes_run_as_fit(
    memory: int, processes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Memory:
        available = memory

    monkeypatch.setattr(psutil, "virtual_memory", Memory)
    assert local._Pool(Run(workspace=Workspace(tmp_path)), 3).limit == processes
