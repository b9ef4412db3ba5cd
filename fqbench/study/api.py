"""A whole study in one call, for the library."""

from __future__ import annotations

from pathlib import Path

from fqbench.reporter import Reporter, Silent
from fqbench.run import Run
from fqbench.study import runner
from fqbench.study.executors.choice import LOCAL, executor_named
from fqbench.study.opening import open_study
from fqbench.study.runner import StudyResult
from fqbench.workspace import Workspace


def run_study(
    file: Path | str,
    workspace: Path | str | None = None,
    *,
    root: Path | str | None = None,
    debug: bool = False,
    executor: str = LOCAL,
    workers: int | None = None,
    reporter: Reporter | None = None,
) -> StudyResult:
    """Run a study file, as ``fqbench study run`` does; what is finished is found again.

    Parameters
    ----------
    file : Path or str
        The study file.
    workspace : Path or str, optional
        Where results live; ``$FQBENCH_WORKSPACE``, else ``./fqbench_runs``.
    root : Path or str, optional
        Directory of the data set, in place of the study's.
    debug : bool
        Tiny data and short training.
    executor : str
        Who performs the cells, as for ``--executor``.
    workers : int, optional
        Cells at a time.
    reporter : Reporter, optional
        Told what is done; nobody is by default.

    Returns
    -------
    StudyResult
        `StudyResult.frame` is the table; failed cells are in it by name.
    """
    told = reporter or Silent()
    run = Run(workspace=Workspace(workspace, told), reporter=told)
    study, cells = open_study(run, Path(file), root=None if root is None else Path(root), debug=debug)
    return runner.run_study(run, study, cells, executor_named(executor, workers=workers), debug=debug)
