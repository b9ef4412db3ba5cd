"""Predict: an artifact's answers on a split, with the runtime's version and the CPU's features."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from fqbench import plugins, predictions
from fqbench.catalogue import model_of
from fqbench.contracts.artifacts import Artifact
from fqbench.execution import answers, batch_size_for
from fqbench.machine import this_machine, usable_cores
from fqbench.predictions import PREDICTIONS, ArtifactPredictions, read_predictions
from fqbench.provenance import require_same_classes
from fqbench.run import Run
from fqbench.stages.build import execution_of
from fqbench.stages.prepare import prepare
from fqbench.stages.read import read, read_entry
from fqbench.stages.saturation import sums_of
from fqbench.storage import text_digest
from fqbench.workspace import Derivation, Entry, kinds
from fqbench.workspace.kinds import PredictionFacts


def predict_split(run: Run, artifact: Artifact, *, only: Collection[str] | None = None) -> ArtifactPredictions:
    """Return the artifact's predictions on the configured split, running it if necessary.

    Parameters
    ----------
    run : Run
        The experiment.
    artifact : Artifact
        What is executed.
    only : collection of str, optional
        Sample ids; by default all readable images of the split.

    Raises
    ------
    InputError
        The data set has other classes than the model.
    UnavailableError
        The artifact's runtime is not available here.
    DataError
        The runtime answers NaN.
    """
    asked, samples, model = run.config.eval, read(run), model_of(run.workspace, artifact)
    require_same_classes(model, samples)
    store = prepare(run, model.preprocessing)
    frame = samples.split(asked.split)
    frame, rows = store.readable(frame if only is None else frame[frame["sample_id"].isin(only)])
    measured = measured_elsewhere(run, artifact)
    if measured is not None and only is None:
        found = read_predictions(measured.file(PREDICTIONS), expected=frame["sample_id"].tolist(), task=artifact.task)
        return ArtifactPredictions(replace(artifact, where=measured.facts.where), frame, found, measured)
    running, threads = execution_of(run, artifact), asked.threads or usable_cores()
    artifact = running.artifact
    derivation = Derivation(
        kind=kinds.PREDICTIONS,
        slug=f"{artifact.id.rpartition('-')[0]}-{asked.split}" + (f"-{len(rows)}" if only is not None else ""),
        determined_by={
            "artifact": artifact.digest,
            "backend": artifact.backend,
            "runtime": running.runtime,
            "device": running.device,
            "options": dict(running.options),
            "cpu_features": list(this_machine().features),
            "samples": read_entry(run).digest,
            "prepared": store.entry.digest,
            "preprocessing": store.images.preprocessing.model_dump(mode="json"),
            "split": asked.split,
            "threads": threads,
            "batch_size": batch_size_for(artifact, asked.batch_size),
            **({} if only is None else {"only": text_digest("\n".join(frame["sample_id"]))}),
        },
        inputs={"artifact": artifact.id, "samples": read_entry(run).id, "prepared": store.entry.id},
    )

    def build(out: Path) -> PredictionFacts:
        found, arithmetic = answers(
            running, store.images, rows, batch_size=asked.batch_size, threads=threads, reporter=run.reporter
        )
        predictions.write_predictions(found, out / PREDICTIONS)
        return PredictionFacts(
            artifact=artifact.id,
            level=running.level,
            images=len(rows),
            machine=this_machine(),
            arithmetic=arithmetic,
            integer_sums=sums_of(this_machine(), running.device, running.level),
        )

    entry = run.produce(derivation, build, f"predicting the {asked.split} split with {artifact.label}")
    found = read_predictions(entry.file(PREDICTIONS), expected=frame["sample_id"].tolist(), task=artifact.task)
    return ArtifactPredictions(artifact, frame, found, entry)


def measured_elsewhere(run: Run, artifact: Artifact) -> Entry[PredictionFacts] | None:
    """Return the imported predictions of an artifact that take the place of running it, if there are any.

    They are where the artifact names them, or where its runtime is not available here: then what it answered on a
    machine that has it comes before any emulation.
    """
    if artifact.answers:
        return run.workspace.get(artifact.answers, kinds.PREDICTIONS)
    if plugins.backend(artifact.backend).availability().can_run:
        return None
    split, samples = run.config.eval.split, read_entry(run).digest
    found = [
        entry
        for entry in run.workspace.entries(kinds.PREDICTIONS)
        if entry.facts.where
        and {"artifact": artifact.digest, "split": split, "samples": samples}.items()
        <= entry.manifest.determined_by.items()
    ]
    return found[-1] if found else None
