"""Predict: an artifact's answers on a split, with the runtime's version and the CPU's features beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fqbench import plugins, predictions
from fqbench.contracts.artifacts import Artifact
from fqbench.contracts.scheme import Method
from fqbench.machine import this_machine, usable_cores
from fqbench.plugins import Arithmetic
from fqbench.predictions import PREDICTIONS, Predictions, read_predictions
from fqbench.run import Run
from fqbench.stages.build import runtime_of
from fqbench.stages.prepare import prepare
from fqbench.stages.quantize import model_of
from fqbench.stages.read import read, read_entry
from fqbench.workspace import Entry, Recipe

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Answered:
    """An artifact's predictions on a split, beside the rows of the table that they belong to."""

    artifact: Artifact
    frame: pd.DataFrame
    predictions: Predictions
    entry: Entry

    @property
    def arithmetic(self) -> Arithmetic:
        """Where the multiply-accumulates ran when it answered."""
        facts = self.entry.details["arithmetic"]
        return Arithmetic(facts["integer_macs"], facts["total_macs"], tuple(facts["uncounted"]))


def predict_split(run: Run, artifact: Artifact) -> Answered:
    """Return the artifact's predictions on the configured split, running it where there are none.

    Raises
    ------
    UnavailableError
        The artifact's runtime is not available here.
    DataError
        The runtime answers NaN.
    """
    asked, machine = run.config.eval, this_machine()
    store = prepare(run, model_of(run.workspace, artifact).preprocessing)
    frame, rows = store.readable(read(run).split(asked.split))
    measured = measured_elsewhere(run, artifact)
    if measured is not None:
        answers = read_predictions(measured.file(PREDICTIONS), expected=frame["sample_id"].tolist())
        return Answered(replace(artifact, where=measured.details["where"]), frame, answers, measured)
    runtime = runtime_of(run, artifact)
    artifact = runtime.artifact
    threads = asked.threads or usable_cores()
    # A dynamic scheme takes its scales from the whole batch: only one image at a time is independent of its neighbours.
    batch_size = 1 if artifact.scheme.method is Method.PTQ_DYNAMIC else asked.batch_size
    recipe = Recipe(
        kind="predictions",
        slug=f"{artifact.id.rpartition('-')[0]}-{asked.split}",
        version=predictions.STAGE_VERSION,
        determined_by={
            "artifact": artifact.digest,
            "backend": artifact.backend,
            "runtime": runtime.version,
            "device": runtime.device,
            "cpu_features": list(machine.features),
            "samples": read_entry(run).digest,
            "prepared": store.entry.digest,
            "preprocessing": store.images.preprocessing.model_dump(mode="json"),
            "split": asked.split,
            "threads": threads,
            "batch_size": batch_size,
        },
        inputs={"artifact": artifact.id, "samples": read_entry(run).id, "prepared": store.entry.id},
    )

    def build(out: Path) -> Mapping[str, object]:
        session = runtime.load(threads)
        answers = predictions.predict(
            session,
            store.images,
            rows,
            batch_size=batch_size,
            what=f"predicting {artifact.label}",
            reporter=run.reporter,
        )
        predictions.write_predictions(answers, out / PREDICTIONS)
        arithmetic = session.arithmetic
        return {
            "artifact": artifact.id,
            "level": runtime.level,
            "images": len(rows),
            "machine": machine.to_dict(),
            "arithmetic": {
                "integer_macs": arithmetic.integer_macs,
                "total_macs": arithmetic.total_macs,
                "uncounted": list(arithmetic.uncounted),
            },
        }

    entry = run.produce(recipe, build, f"predicting the {asked.split} split with {artifact.label}")
    answers = read_predictions(entry.file(PREDICTIONS), expected=frame["sample_id"].tolist())
    return Answered(artifact, frame, answers, entry)


def measured_elsewhere(run: Run, artifact: Artifact) -> Entry | None:
    """Return predictions of an artifact that were brought in from another machine, if they are to be used.

    They are where the artifact names them, or where its runtime is not available here: then what it answered on a
    machine that has it comes before any emulation.
    """
    if artifact.answers:
        return run.workspace.get(artifact.answers, "predictions")
    if plugins.backend(artifact.backend).availability().usable:
        return None
    split, samples = run.config.eval.split, read_entry(run).digest
    found = [
        entry
        for entry in run.workspace.entries("predictions")
        if entry.details.get("where")
        and {"artifact": artifact.digest, "split": split, "samples": samples}.items()
        <= entry.manifest.determined_by.items()
    ]
    return found[-1] if found else None
