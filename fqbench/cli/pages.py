"""The verb that writes reports."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fqbench.cli.app import INSPECT, app
from fqbench.errors import InputError

if TYPE_CHECKING:
    from fqbench.cli.verbs import Show
    from fqbench.run import Run


@app.verb("report", panel=INSPECT)
def report(
    run: Run,
    show: Show,
    ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID]...", help="A study, a search, or evaluations and a measurement (default: the newest)."
        ),
    ] = None,
    table: Annotated[
        Path | None, typer.Option("--table", metavar="PATH", help="Report on this study.parquet, made anywhere.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write.")] = Path("report"),
) -> None:
    """Write an evaluation, search or study as an HTML page.

    Runs nothing: every figure is read from the workspace. The page needs no network; figures are also written as SVG
    and PDF, tables as CSV and LaTeX, and a model card per quantized artifact.

    Example: fqbench report --out report
    """
    from fqbench.report.entries import file_document
    from fqbench.report.page import page_of, table_page
    from fqbench.report.page.folder import require_libraries, write_report

    require_libraries()
    if table is not None and ids:
        raise InputError(f"--table {table} is reported on alone; leave {', '.join(ids)} out.")
    contents = page_of(run.workspace, ids or ()) if table is None else table_page(table)
    show(file_document(write_report(contents, out, run.reporter)))
