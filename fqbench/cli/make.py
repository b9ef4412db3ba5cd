"""Verbs that make things: checkpoints, models, artifacts, engines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fqbench.cli.app import MAKE, TRAINED, app

if TYPE_CHECKING:
    from fqbench.cli.verbs import Show
    from fqbench.run import Run


@app.verb("train", panel=MAKE, own=("train",), more=("objectives", "data", "model", "preprocessing"))
def train(
    run: Run,
    show: Show,
    seeds: Annotated[
        str | None, typer.Option("--seeds", metavar="A,B,...", help="Train one checkpoint per random seed: 0,1,2.")
    ] = None,
) -> None:
    """Train a classifier.

    Example: fqbench train --model resnet10t --data folder --root photos
    """
    from fqbench.config import whole_numbers
    from fqbench.report.entries import entries_document, entry_document
    from fqbench.stages.train import train as train_stage
    from fqbench.stages.train import train_seeds

    if seeds is None:
        show(entry_document(train_stage(run)))
    else:
        show(entries_document(train_seeds(run, whole_numbers("--seeds", seeds))))


@app.verb("export", panel=MAKE, own=("model",), more=("data", "preprocessing", "train", "objectives"))
def export(run: Run, show: Show) -> None:
    """Export a classifier to ONNX, or adopt your own.

    Example: fqbench export --onnx model.onnx --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5 --data folder --root photos
    """
    from fqbench.report.entries import entry_document
    from fqbench.stages.export import export as export_stage

    show(entry_document(run.workspace.get(export_stage(run).id)))


@app.verb("quantize", panel=MAKE, own=("quantize",), more=(*TRAINED, "qat", "backends"))
def quantize(run: Run, show: Show) -> None:
    """Quantize a classifier for a runtime.

    Trains, exports and calibrates first where that has not been done yet.

    Example: fqbench quantize --backend ort --bits 8 --calib balanced
    """
    from fqbench.report.entries import entry_document
    from fqbench.stages.build import next_step
    from fqbench.stages.quantize import quantize as quantize_stage

    artifact = quantize_stage(run)
    show(entry_document(run.workspace.get(artifact.id)))
    if todo := next_step(artifact):
        run.reporter.say(todo)


@app.verb("build", panel=MAKE, own=("backends",), more=(*TRAINED, "bench"))
def build(
    run: Run,
    show: Show,
    artifact_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the artifact, a unique prefix, or its hash.")],
) -> None:
    """Compile an artifact for the local GPU.

    Only runtimes that need it have this step, and `predict`, `eval` and `bench` run it by themselves.

    Example: fqbench build resnet10t-trt-int8-balanced --backend-option trt.max_batch=8
    """
    from fqbench.catalogue import artifact_named
    from fqbench.report.entries import entry_document
    from fqbench.stages.build import build as build_stage

    made = build_stage(run, artifact_named(run.workspace, artifact_id))
    show(entry_document(run.workspace.get(made.id)))
