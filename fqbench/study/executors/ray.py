"""Perform tasks on a Ray cluster; every node sees the workspace at the same path."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fqbench.errors import UnavailableError, WorkspaceError
from fqbench.machine import usable_cores
from fqbench.optional import require
from fqbench.run import Run
from fqbench.study.tasks import Task, TaskOutcome, failure, perform, write_journal
from fqbench.workspace import Workspace

EXTRA = "ray"
RETRIES = 2  # of a task whose worker was killed
NO_DASHBOARD = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}


@dataclass
class Ray:
    """The executor of a Ray cluster.

    Parameters
    ----------
    address : str, optional
        Of a running cluster, ``auto`` for the one of this machine; without it, one is started here and stopped at the
        end.
    workers : int, optional
        Tasks at a time on each node: the cores of a node are shared out among them. Of a cluster that is started here,
        this machine's; one core per task by default.
    """

    address: str | None = None
    workers: int = 0
    threads: int | None = None
    started: bool = False

    def __post_init__(self) -> None:
        """Find Ray.

        Raises
        ------
        UnavailableError
            It is not installed.
        """
        require("ray", extra=EXTRA)
        cores = usable_cores()
        self.workers = self.workers or cores
        self.threads = max(1, cores // self.workers)

    def perform(self, run: Run, tasks: Sequence[Task], *, alone: bool) -> Iterator[tuple[Task, TaskOutcome]]:
        """Yield outcomes as tasks end.

        A task whose worker is killed runs again on another one; what it had published is found, not made again. A
        latency takes all cores of its node, and all latencies are measured on nodes with one model of CPU.

        Raises
        ------
        UnavailableError
            No cluster at the address, or a node that does not see the workspace.
        WorkspaceError
            The workspace cannot be written.
        """
        ray = require("ray", extra=EXTRA)
        self.started |= self._connect(ray)
        self._require_shared(ray, run)
        make = ray.remote(_perform)
        needs: dict[str, Any] = {"num_cpus": self._cores(ray, alone=alone), "max_retries": RETRIES}
        if alone:
            needs["resources"] = self._one_kind_of_cpu(ray)
        root = str(run.workspace.root)
        waiting = {make.options(**needs).remote(root, task, self.threads): task for task in tasks}
        while waiting:
            (ready,), _rest = ray.wait(list(waiting), num_returns=1)
            task = waiting.pop(ready)
            yield task, self._outcome(ray, run, task, ready)

    def close(self) -> None:
        """Disconnect, and stop a cluster that was started here."""
        if self.started:
            require("ray", extra=EXTRA).shutdown()
        self.started = False

    def _connect(self, ray: Any) -> bool:
        """Connect, or start a cluster here; return whether it has to be stopped."""
        if ray.is_initialized():
            return False
        try:
            if self.address is None:
                ray.init(num_cpus=usable_cores(), **NO_DASHBOARD)
            else:
                ray.init(address=self.address, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise UnavailableError(
                f"no Ray cluster at {self.address or 'this machine'} ({reason}); start one with `ray start --head`, or "
                "leave --address out."
            ) from error
        return True

    def _cores(self, ray: Any, *, alone: bool) -> float:
        if alone:
            smallest = min(node["Resources"].get("CPU", 1.0) for node in ray.nodes() if node["Alive"])
            return float(max(1, int(smallest)))
        return float(self.threads or 1)

    def _one_kind_of_cpu(self, ray: Any) -> dict[str, float]:
        """Return the custom resource ``fqbench_latency``, if some node offers it; else all nodes must be alike."""
        nodes = [node for node in ray.nodes() if node["Alive"]]
        if any("fqbench_latency" in node["Resources"] for node in nodes):
            return {"fqbench_latency": 1.0}
        if len(nodes) > 1:
            raise UnavailableError(
                f"the cluster has {len(nodes)} nodes, and latencies of different machines cannot be compared; start "
                "one node, or several of one CPU model, with --resources '{\"fqbench_latency\": 1}'."
            )
        return {}

    def _require_shared(self, ray: Any, run: Run) -> None:
        """Check that a node sees the workspace: the driver writes a file, and a task looks for it on every node."""
        with run.workspace.writing():
            run.workspace.root.mkdir(parents=True, exist_ok=True)
            token = run.workspace.root / f".seen.{os.getpid()}"
            token.write_text("", encoding="ascii")
        try:
            sees = ray.remote(_sees).options(num_cpus=0, scheduling_strategy="SPREAD")
            nodes = sum(node["Alive"] for node in ray.nodes())
            if not all(ray.get([sees.remote(str(token)) for _ in range(nodes)])):
                raise UnavailableError(
                    f"a node of the Ray cluster does not see the workspace {run.workspace.root}; put it on a disk that "
                    "all nodes share, at the same path."
                )
        finally:
            token.unlink(missing_ok=True)

    def _outcome(self, ray: Any, run: Run, task: Task, ready: Any) -> TaskOutcome:
        try:
            answer = ray.get(ready)
        except ray.exceptions.WorkerCrashedError:
            outcome = failure(task, f"its worker was killed {RETRIES + 1} times, perhaps for want of memory")
        except ray.exceptions.RayError as error:
            outcome = failure(task, f"Ray could not run it: {str(error).splitlines()[0]}")
        else:
            if isinstance(answer, WorkspaceError):
                raise answer
            return answer  # type: ignore[no-any-return]
        write_journal(run.workspace.root, outcome)
        return outcome


def _perform(root: str, task: Task, threads: int | None) -> TaskOutcome | WorkspaceError:
    """Perform one task in a worker of Ray, which keeps nothing between tasks but what it has imported."""
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    try:
        return perform(Run(workspace=Workspace(root)), task)
    except WorkspaceError as error:
        return WorkspaceError(str(error))


def _sees(token: str) -> bool:
    return Path(token).is_file()
