"""A study that is killed at random and resumed gives the table of one that ran through; workers may die, too."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fqbench.run import Run
from fqbench.study.executors.local import Local
from fqbench.study.executors.serial import Serial
from fqbench.study.opening import open_study
from fqbench.study.runner import run_study
from fqbench.study.table import KEY, PARQUET, read_table
from fqbench.workspace import Workspace

Write = Callable[..., Path]


def table_of(workspace: Path, file: Path) -> Path:
    call = [sys.executable, "-m", "fqbench.cli", "study", "report", str(file), "--json", "--workspace", str(workspace)]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    return Path(json.loads(done.stdout)["table"])


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_at_random_and_resumed_it_gives_the_same_table(workers: int, write_study: Write, tmp_path: Path) -> None:
    file, chance = write_study(latency=workers == 1), random.Random(workers)
    command = [sys.executable, "-m", "fqbench.cli", "study", "run", str(file), "--workers", str(workers)]

    def start(workspace: Path) -> subprocess.Popen[bytes]:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen([*command, "--workspace", str(workspace)], **quiet)  # type: ignore[call-overload, no-any-return]

    begun = time.monotonic()
    assert start(tmp_path / "through").wait() == 0
    lasts = time.monotonic() - begun
    kills = 0
    most = 5 if workers == 1 else 2
    while kills < most:
        process = start(tmp_path / "killed")
        time.sleep(chance.uniform(0.2, 0.9) * lasts * 0.7)
        process.send_signal(signal.SIGKILL)
        if process.wait() == 0:
            break
        kills += 1
    assert kills
    assert start(tmp_path / "killed").wait() == 0
    through, killed = (read_table(table_of(tmp_path / name, file)) for name in ("through", "killed"))
    assert through[list(KEY)].equals(killed[list(KEY)])
    still = ~through["timed"]
    columns = [name for name in through.columns if name != "notice"]
    assert through.loc[still, columns].equals(killed.loc[still, columns])
    assert not list((tmp_path / "killed").glob("*/.*.scratch"))


def test_two_processes_give_the_table_of_one(write_study: Write, tmp_path: Path) -> None:
    file = write_study(grid={"bits": [8]}, exclude=[])
    tables = []
    for name, executor in (("one", Serial()), ("two", Local(2))):
        run = Run(workspace=Workspace(tmp_path / name))
        study, cells = open_study(run, file)
        result = run_study(run, study, cells, executor)
        assert result.failed == {}
        table = read_table(result.table.file(PARQUET))
        tables.append(table[~table["timed"]])
    assert tables[0].equals(tables[1])


class Said:
    """A reporter that remembers lines, and kills a worker when it hears of a task that ended."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    track = None


def test_a_killed_worker_is_replaced_and_its_task_is_made_again(
    write_study: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, said = write_study(grid={"bits": [8]}, exclude=[]), Said()
    run = Run(workspace=Workspace(tmp_path / "runs"), reporter=said)  # type: ignore[arg-type]
    study, cells = open_study(run, file)
    from fqbench.study.executors import local

    start, victims = local._Pool._start, []

    def start_and_kill_the_first(self: local._Pool) -> local._Worker:
        worker = start(self)
        if not victims:
            victims.append(worker.process.pid)
            os.kill(worker.process.pid or 0, signal.SIGKILL)
        return worker

    monkeypatch.setattr(local._Pool, "_start", start_and_kill_the_first)
    result = run_study(run, study, cells, Local(2))
    assert result.failed == {}
    assert [line for line in said.lines if "was killed; it is made again" in line]


def test_a_task_that_kills_its_process_every_time_fails_and_the_others_go_on(
    write_study: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fqbench.study.executors import local

    start = local._Pool._start

    def start_and_kill(self: local._Pool) -> local._Worker:
        worker = start(self)
        if len(kills) < local.ATTEMPTS:
            kills.append(worker.process.pid or 0)
            os.kill(kills[-1], signal.SIGKILL)
        return worker

    kills: list[int] = []
    monkeypatch.setattr(local._Pool, "_start", start_and_kill)
    monkeypatch.setattr(local, "PEAK", 1 << 60)  # one process until a task has ended, so that one task is killed twice
    run = Run(workspace=Workspace(tmp_path / "runs"))
    study, cells = open_study(run, write_study(grid={"bits": [8]}, exclude=[]))
    result = run_study(run, study, cells, Local(2))
    (failed,) = result.failed.values()
    assert failed.reason.startswith("its process was killed 2 times")
    assert result.table.facts.cells == len(cells) - 1
