"""Verbs that run artifacts on another machine and import the results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fqbench.cli.app import REMOTE, TRAINED, Ids, app

if TYPE_CHECKING:
    from fqbench.cli.verbs import Show
    from fqbench.run import Run


@app.verb("pack", panel=REMOTE, more=(*TRAINED, "qat", "quantize", "eval"))
def pack(
    run: Run,
    show: Show,
    ids: Ids = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="PATH", help="File to write (default: ./ID.fqpack.zip).")
    ] = None,
) -> None:
    """Pack artifacts and test images into one file.

    `fqbench run-pack` runs it on another machine; `fqbench import` reads the result.

    Example: fqbench pack resnet10t-trt-int8-balanced
    """
    from fqbench.report.entries import file_document
    from fqbench.stages.pack import pack as pack_stage
    from fqbench.stages.quantize import subjects

    show(file_document(pack_stage(run, subjects(run, ids), out)))


@app.verb("run-pack", panel=REMOTE, own=("bench", "backends"))
def run_pack(
    run: Run,
    show: Show,
    file: Annotated[Path, typer.Argument(help="File written by `fqbench pack`.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="PATH", help="File to write (default: next to FILE).")
    ] = None,
) -> None:
    """Run a pack on this machine.

    Builds, predicts and times its artifacts; needs neither the data set nor the workspace.

    Example: fqbench run-pack resnet10t-trt-int8-balanced.fqpack.zip
    """
    from fqbench.report.entries import file_document
    from fqbench.stages.pack import run_pack as run_stage

    show(file_document(run_stage(run, file, out)))


@app.verb("import", panel=REMOTE)
def import_(
    run: Run,
    show: Show,
    file: Annotated[Path, typer.Argument(help="File written by `fqbench run-pack`.")],
) -> None:
    """Import the results of `fqbench run-pack`.

    Predictions and latencies join the workspace under the name of the machine that measured them.

    Example: fqbench import resnet10t-trt-int8-balanced.fqresult.zip
    """
    from fqbench.report.latency import import_document
    from fqbench.stages.pack import import_results

    imported = import_results(run, file)
    ids = [entry.id for entry in imported.predictions]
    show(import_document(imported.latency, ids, imported.bench.id))
    run.reporter.say(f"per group: fqbench eval {' '.join(ids)}")
