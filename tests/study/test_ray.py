"""A Ray cluster of this machine: two workers, one of which is killed in the middle; nothing is made twice."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fqbench.cli import main
from fqbench.errors import InputError, UnavailableError
from fqbench.run import Run
from fqbench.study.executors.choice import executor_named
from fqbench.study.opening import open_study
from fqbench.study.runner import run_study
from fqbench.workspace import Workspace

Write = Callable[..., Path]
RAY = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not RAY, reason="Ray is not installed: pip install 'fqbench[ray]'")


def test_without_ray_it_is_said(write_study: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)

    def missing(module: str, *, extra: str) -> None:
        raise UnavailableError(f"{module} is not installed; run: pip install 'fqbench[{extra}]'.")

    monkeypatch.setattr("fqbench.study.executors.ray.require", missing)
    with pytest.raises(SystemExit) as caught:
        main(["study", "run", str(write_study()), "--executor", "ray", "--workspace", str(tmp_path / "runs")])
    assert caught.value.code == 3


def test_wrong_executors_are_refused() -> None:
    with pytest.raises(InputError, match="unknown executor 'rey': did you mean 'ray'"):
        executor_named("rey")
    with pytest.raises(InputError, match="--address auto belongs to --executor ray"):
        executor_named("local", address="auto")


KILLED = """
import json, sys
from pathlib import Path
from fqbench.run import Run
from fqbench.study.executors.choice import executor_named
from fqbench.study.opening import open_study
from fqbench.study.runner import run_study
from fqbench.workspace import Workspace

file, root = sys.argv[1:]
run = Run(workspace=Workspace(root))
study, cells = open_study(run, Path(file))
result = run_study(run, study, cells, executor_named("ray", workers=2))
print(json.dumps({"failed": [one.reason for one in result.failed.values()], "cells": result.table.facts.cells}))
"""


TWO_NODES = """
import json, sys
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from fqbench.run import Run
from fqbench.study.executors.ray import Ray
from fqbench.study.opening import open_study
from fqbench.study.runner import run_study
from fqbench.workspace import Workspace

file, root = sys.argv[1:]
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=1)
ray.init(address=cluster.address, log_to_driver=False)
run = Run(workspace=Workspace(root))
study, cells = open_study(run, Path(file))
executor = Ray(workers=1, carry=True)
executor.threads = 1
result = run_study(run, study, cells, executor)
print(json.dumps({"failed": [one.reason for one in result.failed.values()], "copies": executor.copies}))
ray.shutdown()
cluster.shutdown()
"""


@needs_ray
@pytest.mark.slow
def test_two_nodes_without_a_shared_disk_make_nothing_twice(write_study: Write, tmp_path: Path) -> None:
    file, root, copies = write_study(), tmp_path / "runs", tmp_path / "nodes"
    copies.mkdir()
    command = [sys.executable, "-W", "ignore", "-c", TWO_NODES, str(file), str(root)]
    seen: set[str] = set()
    # Ray's own folder has to have a short name: it holds sockets.
    places = {"TMPDIR": str(copies), "RAY_TMPDIR": tempfile.gettempdir()}
    log = tmp_path / "log"
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env={**os.environ, **places}
        ) as process,
    ):
        while process.poll() is None:
            seen |= {path.parent.name for path in copies.glob("fqbench-*/*/artifacts")}
            time.sleep(0.05)
        out, _errors = process.communicate()
    assert process.returncode == 0, log.read_text()
    told = json.loads(out.splitlines()[-1])
    assert told["failed"] == []
    assert len(seen) == 2  # each node had a workspace of its own
    assert list(copies.glob("fqbench-*")) == []  # and left nothing behind
    run = Run(workspace=Workspace(root))
    before = {entry.id: entry.manifest.created for entry in run.workspace.entries()}
    study, cells = open_study(run, file)
    run_study(run, study, cells, executor_named("local"))
    assert {entry.id: entry.manifest.created for entry in run.workspace.entries()} == before


@needs_ray
@pytest.mark.slow
def test_a_worker_that_is_killed_in_the_middle(write_study: Write, tmp_path: Path) -> None:
    import psutil

    file, root = write_study(), tmp_path / "runs"
    killed: list[int] = []

    def kill_one(driver: psutil.Process) -> None:
        while not killed and driver.is_running():
            for process in driver.children(recursive=True):
                try:
                    busy = process.name().startswith("ray::_attempt") or "ray::_attempt" in " ".join(process.cmdline())
                    # In the middle: a baseline is published, so that there is something that must not be made again.
                    if busy and list(root.glob("models/*/manifest.json")):
                        process.kill()
                        killed.append(process.pid)
                        return
                except psutil.Error:
                    continue
            time.sleep(0.02)

    command = [sys.executable, "-W", "ignore", "-c", KILLED, str(file), str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        watcher = threading.Thread(target=kill_one, args=(psutil.Process(process.pid),))
        watcher.start()
        out, _error = process.communicate(timeout=600)
        watcher.join()
    assert killed
    assert json.loads(out.splitlines()[-1]) == {"failed": [], "cells": 4}
    # Nothing twice: one model, and what a run here finds is what the cluster made.
    assert len(list(root.glob("models/*/manifest.json"))) == 1
    run = Run(workspace=Workspace(root))
    before = {entry.id: entry.manifest.created for entry in run.workspace.entries()}
    study, cells = open_study(run, file)
    run_study(run, study, cells, executor_named("local"))
    assert {entry.id: entry.manifest.created for entry in run.workspace.entries()} == before
