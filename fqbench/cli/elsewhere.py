"""Verbs that carry an artifact to another machine and bring its answers back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fqbench.cli.app import Ids, Json, app, reporting
from fqbench.cli.options import asks
from fqbench.run import Run
from fqbench.terminal import print_json, stdout


@app.command()
@asks("data", "model", "preprocessing", "train", "qat", "quantize", "eval", **reporting)
def pack(
    run: Run,
    ids: Ids = None,
    out: Annotated[Path | None, typer.Option("--out", help="The archive (default: ID.fqpack.zip here).")] = None,
) -> None:
    """Write artifacts and prepared test images into one archive, to run on another machine.

    Example: fqbench pack resnet10t-trt-int8-balanced
    """
    from fqbench.stages.pack import pack as pack_stage
    from fqbench.stages.select import subjects

    stdout().print(str(pack_stage(run, subjects(run, ids), out)), soft_wrap=True, highlight=False)


@app.command(name="run-pack")
@asks("bench", "build", **reporting)
def run_pack(
    run: Run,
    file: Annotated[Path, typer.Argument(help="What `fqbench pack` wrote.")],
    out: Annotated[Path | None, typer.Option("--out", help="The result (default: beside FILE).")] = None,
) -> None:
    """Build, predict and time an archive's artifacts on this machine; needs no data set and no workspace.

    Example: fqbench run-pack resnet10t-trt-int8-balanced.fqpack.zip
    """
    from fqbench.stages.pack import run_pack as run_stage

    stdout().print(str(run_stage(run, file, out)), soft_wrap=True, highlight=False)


@app.command(name="import")
@asks(**reporting)
def import_(
    run: Run,
    file: Annotated[Path, typer.Argument(help="What `fqbench run-pack` wrote on the other machine.")],
    as_json: Json = False,
) -> None:
    """Bring the result of `fqbench run-pack` into the workspace, as runs measured on the other machine.

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
