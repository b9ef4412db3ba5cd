"""Verbs that run artifacts on another machine and import the results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fqbench.cli.app import REMOTE, Ids, Json, app
from fqbench.terminal import print_json, stdout

if TYPE_CHECKING:
    from fqbench.run import Run


@app.verb("pack", panel=REMOTE, more=("data", "model", "preprocessing", "train", "qat", "quantize", "eval"))
def pack(
    run: Run,
    ids: Ids = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="PATH", help="File to write (default: ./ID.fqpack.zip).")
    ] = None,
) -> None:
    """Pack artifacts and test images into one file.

    `fqbench run-pack` runs it on another machine; `fqbench import` reads the result.

    Example: fqbench pack resnet10t-trt-int8-balanced
    """
    from fqbench.stages.pack import pack as pack_stage
    from fqbench.stages.select import subjects

    stdout().print(str(pack_stage(run, subjects(run, ids), out)), soft_wrap=True, highlight=False)


@app.verb("run-pack", panel=REMOTE, own=("bench", "backends"))
def run_pack(
    run: Run,
    file: Annotated[Path, typer.Argument(help="File written by `fqbench pack`.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="PATH", help="File to write (default: next to FILE).")
    ] = None,
) -> None:
    """Run a pack on this machine.

    Builds, predicts and times its artifacts; needs neither the data set nor the workspace.

    Example: fqbench run-pack resnet10t-trt-int8-balanced.fqpack.zip
    """
    from fqbench.stages.pack import run_pack as run_stage

    stdout().print(str(run_stage(run, file, out)), soft_wrap=True, highlight=False)


@app.verb("import", panel=REMOTE)
def import_(
    run: Run,
    file: Annotated[Path, typer.Argument(help="File written by `fqbench run-pack`.")],
    as_json: Json = False,
) -> None:
    """Import the results of `fqbench run-pack`.

    Predictions and latencies join the workspace under the name of the machine that measured them.

    Example: fqbench import resnet10t-trt-int8-balanced.fqresult.zip
    """
    from fqbench.report.latency import latency_sheet
    from fqbench.report.sheets import print_sheets
    from fqbench.stages.pack import import_results

    imported = import_results(run, file)
    ids = [entry.id for entry in imported.predictions]
    if as_json:
        print_json({"predictions": ids, "bench": imported.bench.id, "latency": imported.latency.to_dict()})
        return
    print_sheets([latency_sheet(imported.latency)], stdout())
    run.reporter.say(f"per group: fqbench eval {' '.join(ids)}")
