"""Perform tasks on a Ray cluster, whose nodes share the workspace, or else carry entries through the object store."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fqbench.errors import FqbenchError, UnavailableError, WorkspaceError
from fqbench.machine import usable_cores
from fqbench.optional import require
from fqbench.run import Run
from fqbench.study.executors.carried import AsksDesk, CarriedWorkspace, Desk
from fqbench.study.executors.order import spread
from fqbench.study.tasks import Task, TaskOutcome, attempt, failure, record
from fqbench.workspace import Workspace

EXTRA = "ray"
RETRIES = 2  # of a task whose worker was killed
GOODBYE = 20.0  # seconds that the nodes have to remove their copies
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
    carry : bool, optional
        Whether entries are carried between the driver's workspace and one on each node; by default, if some node does
        not see the driver's.
    """

    address: str | None = None
    workers: int = 0
    carry: bool | None = None
    threads: int | None = None
    started: bool = False
    desk: Any = field(default=None, repr=False)
    copies: str = field(default_factory=lambda: f"fqbench-{secrets.token_hex(8)}", repr=False)

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
            No cluster at the address, or latencies are asked for and its nodes differ.
        WorkspaceError
            The workspace cannot be written.
        """
        ray = require("ray", extra=EXTRA)
        self.started |= self._connect(ray)
        if self.carry is None:
            self.carry = not self._is_shared(ray, run)
            if self.carry:
                run.reporter.say(f"not every node sees {run.workspace.root}: entries are carried through Ray")
        make = ray.remote(_attempt)
        needs: dict[str, Any] = {"num_cpus": self._cores(ray, alone=alone), "max_retries": RETRIES}
        if alone:
            needs["resources"] = self._one_kind_of_cpu(ray)
        root = str(run.workspace.root)
        if self.carry and self.desk is None:
            here = _on(ray.get_runtime_context().get_node_id())
            self.desk = ray.remote(Desk).options(num_cpus=0, scheduling_strategy=here).remote(root)
        where = (self.copies, self.desk) if self.carry else (root, None)
        waiting = {make.options(**needs).remote(*where, task, self.threads): task for task in spread(tasks)}
        while waiting:
            (ready,), _rest = ray.wait(list(waiting), num_returns=1)
            task = waiting.pop(ready)
            yield task, self._outcome(ray, run, task, ready)

    def close(self) -> None:
        """Remove the copies of entries, disconnect, and stop a cluster that was started here."""
        ray = require("ray", extra=EXTRA)
        if self.desk is not None and ray.is_initialized():
            self._remove_copies(ray)
        if self.started:
            ray.shutdown()
        self.started, self.desk = False, None

    def _remove_copies(self, ray: Any) -> None:
        """Remove what the nodes keep; a node that is gone has taken it along."""
        remove = ray.remote(_remove)
        nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
        asked = [remove.options(num_cpus=0, scheduling_strategy=_on(node)).remote(self.copies) for node in nodes]
        with suppress(ray.exceptions.RayError):
            ray.get(asked, timeout=GOODBYE)
            ray.kill(self.desk)

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

    def _is_shared(self, ray: Any, run: Run) -> bool:
        """Return whether all nodes see the workspace: the driver writes a file, and a task on each looks for it."""
        with run.workspace.writing():
            run.workspace.root.mkdir(parents=True, exist_ok=True)
            token = run.workspace.root / f".seen.{os.getpid()}"
            token.write_text("", encoding="ascii")
        try:
            sees = ray.remote(_sees)
            nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
            asked = [sees.options(num_cpus=0, scheduling_strategy=_on(node)).remote(str(token)) for node in nodes]
            return all(ray.get(asked))
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
            outcome = answer
        record(run.workspace.root, task, outcome)
        return outcome


def _attempt(root: str, desk: Any, task: Task, threads: int | None) -> TaskOutcome | WorkspaceError:
    """Perform one task in a worker of Ray, which keeps nothing between tasks but what it has imported.

    ``root`` is the workspace that all nodes share; with a desk, the name of a folder of this node.
    """
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    workspace = Workspace(root)
    if desk is not None:
        ray = require("ray", extra=EXTRA)
        workspace = CarriedWorkspace(_copies(ray, root), _asking(ray, desk), f"{task.cell.id}.{task.part}")
    try:
        return attempt(Run(workspace=workspace), task)
    except WorkspaceError as error:
        return WorkspaceError(str(error))


def _asking(ray: Any, desk: Any) -> AsksDesk:
    def ask(method: str, *values: Any) -> Any:
        try:
            return ray.get(getattr(desk, method).remote(*values))
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, FqbenchError):
                raise error.cause from error
            raise

    return ask


def _copies(ray: Any, name: str) -> Path:
    """Return this node's folder of copies: several nodes may run on one machine."""
    folder = Path(tempfile.gettempdir()) / name
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / str(ray.get_runtime_context().get_node_id())


def _remove(name: str) -> None:
    folder = _copies(require("ray", extra=EXTRA), name)
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        folder.parent.rmdir()


def _sees(token: str) -> bool:
    return Path(token).is_file()


def _on(node: str) -> Any:
    """Return the strategy that puts a task or an actor on one node."""
    strategies = require("ray.util.scheduling_strategies", extra=EXTRA)
    return strategies.NodeAffinitySchedulingStrategy(node, soft=False)
