"""Verbs on studies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fqbench.cli.app import MEASURE, app

if TYPE_CHECKING:
    from fqbench.cli.verbs import Show
    from fqbench.run import Run

study_app = app.group("study", "Run a grid of experiments and report on it.", panel=MEASURE)

File = Annotated[Path, typer.Argument(metavar="FILE", help="YAML study file.")]
Root = Annotated[
    Path | None, typer.Option("--root", metavar="PATH", help="Directory of the data set, in place of the study's.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Tiny data and short training: every cell in seconds.")]


@study_app.verb("run")
def run_study(
    run: Run,
    show: Show,
    file: File,
    root: Root = None,
    debug: Debug = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the cells and their ids; run nothing.")] = False,
    executor: Annotated[
        str, typer.Option("--executor", metavar="NAME", help="Who runs the cells: local, or ray.")
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option("--address", metavar="HOST:PORT|auto", help="Ray cluster (default: one is started here)."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", metavar="N", min=1, help="Most cells at a time (default: 1; ray: one per core)."),
    ] = None,
) -> None:
    """Run every cell of a study that is missing, and write its table.

    Stopped at any moment, the same command goes on where it was. A cell that fails is recorded with its reason, and the
    others go on; the exit code is then that of the first failure.

    Example: fqbench study run studies/small.yaml
    """
    from fqbench.report.study import plan_document, result_document
    from fqbench.study.executors.choice import executor_named
    from fqbench.study.opening import open_study
    from fqbench.study.runner import run_study as make

    study, cells = open_study(run, file, root=root, debug=debug)
    if dry_run:
        show(plan_document(study.name, cells))
        return
    result = make(run, study, cells, executor_named(executor, workers=workers, address=address), debug=debug)
    show(result_document(result, result.frame()))
    if result.exit_code:
        raise typer.Exit(result.exit_code)


@study_app.verb("status")
def status(run: Run, show: Show, file: File, root: Root = None, debug: Debug = False) -> None:
    """Show which cells are done, failed or waiting, and estimate the time left.

    Example: fqbench study status studies/small.yaml
    """
    from fqbench.report.study import status_document
    from fqbench.study.opening import open_study
    from fqbench.study.runner import study_status

    study, cells = open_study(run, file, root=root, debug=debug, check=False)
    show(status_document(study_status(run, study, cells)))


@study_app.verb("report")
def report(
    run: Run,
    show: Show,
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="YAML study file.")] = None,
    root: Root = None,
    debug: Debug = False,
    table: Annotated[
        Path | None,
        typer.Option("--table", metavar="PATH", help="Report on this study.parquet, made anywhere, in place of FILE."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write the table there, as Parquet and CSV.")
    ] = None,
    hypotheses: Annotated[
        bool, typer.Option("--hypotheses", help="Answer H1 to H6 from the table, each by a written test.")
    ] = False,
) -> None:
    """Report on the cells of a study that are done; nothing is run.

    Example: fqbench study report studies/small.yaml --hypotheses
    """
    from fqbench.report.hypotheses import hypotheses_document
    from fqbench.report.study import table_document
    from fqbench.study.hypotheses.questions import answer_hypotheses
    from fqbench.study.opening import reported
    from fqbench.study.table import PARQUET, write_table

    found = reported(run, file, table, root=root, debug=debug)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_table(found.table, out)
    if hypotheses:
        show(hypotheses_document(answer_hypotheses(found.table)))
    else:
        show(table_document(found.table, found.name, out / PARQUET if out else found.file, found.failed))
