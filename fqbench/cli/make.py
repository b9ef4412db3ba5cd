"""Verbs that make things: checkpoints, models, artifacts, engines."""

from __future__ import annotations

from typing import Annotated

import typer

from fqbench.cli.app import Json, app, reporting
from fqbench.cli.options import asks, whole_numbers
from fqbench.run import Run


@app.command()
@asks("data", "model", "preprocessing", "train", **reporting)
def train(
    run: Run,
    seeds: Annotated[
        str | None, typer.Option("--seeds", metavar="A,B,...", help="Several seeds, one checkpoint each: 0,1,2.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a classifier on a data set.

    Example: fqbench train --model resnet10t --data folder --root photos
    """
    from fqbench.stages.train import train as train_stage
    from fqbench.stages.train import train_seeds
    from fqbench.tables import print_entries, print_entry

    if seeds is None:
        print_entry(train_stage(run), as_json=as_json)
    else:
        print_entries(train_seeds(run, whole_numbers("--seeds", seeds)), as_json=as_json)


@app.command()
@asks("data", "model", "preprocessing", "train", **reporting)
def export(run: Run, as_json: Json = False) -> None:
    """Export the trained classifier to ONNX, or adopt your own ONNX file.

    Example: fqbench export --onnx model.onnx --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5 --data folder --root photos
    """
    from fqbench.stages.export import export as export_stage
    from fqbench.tables import print_entry

    print_entry(run.workspace.get(export_stage(run).id, "models"), as_json=as_json)


@app.command()
@asks("data", "model", "preprocessing", "train", "qat", "quantize", **reporting)
def quantize(run: Run, as_json: Json = False) -> None:
    """Quantize the configured model for a runtime; what is missing on the way is made first.

    Example: fqbench quantize --backend ort --bits 8 --calib balanced
    """
    from fqbench.stages.build import next_step
    from fqbench.stages.quantize import quantize as quantize_stage
    from fqbench.tables import print_entry

    artifact = quantize_stage(run)
    print_entry(run.workspace.get(artifact.id, "artifacts"), as_json=as_json)
    if todo := next_step(artifact):
        run.reporter.say(todo)


@app.command()
@asks("data", "model", "preprocessing", "train", "bench", "build", **reporting)
def build(
    run: Run,
    artifact_id: Annotated[str, typer.Argument(metavar="ID", help="Artifact, or its beginning.")],
    as_json: Json = False,
) -> None:
    """Compile an artifact for the GPU at hand, for runtimes that need it.

    Example: fqbench build resnet10t-trt-int8-balanced --max-batch 8
    """
    from fqbench.stages.build import build as build_stage
    from fqbench.stages.quantize import open_artifact
    from fqbench.tables import print_entry

    made = build_stage(run, open_artifact(run.workspace.get(artifact_id, "artifacts")))
    print_entry(run.workspace.get(made.id, "artifacts"), as_json=as_json)
