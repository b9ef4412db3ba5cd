"""What is diagnosed: a finished artifact, or a scheme for which no artifact was made."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fqbench import plugins
from fqbench.catalogue import artifact_entry, artifact_named, model_of, open_model
from fqbench.contracts.artifacts import Artifact, ExportedModel
from fqbench.contracts.scheme import Method, Scheme
from fqbench.errors import InputError
from fqbench.execution import logits_of
from fqbench.machine import this_machine
from fqbench.quant.calibration import CalibrationSet
from fqbench.quant.choice import settled
from fqbench.quant.graph import cleaned
from fqbench.quant.plan import make_plan
from fqbench.quant.record import open_record
from fqbench.quant.rescaling import rescaled
from fqbench.run import Run
from fqbench.search.diagnosed import SIDES, WAYS, Diagnosis
from fqbench.search.diagnosis import BATCH, IMAGES, LayerTimes, PlannedModel, diagnose_plan
from fqbench.search.images import ValidationImages, validation_images
from fqbench.stages.build import calibration_of
from fqbench.stages.observe import with_shared_memory
from fqbench.stages.quantize import quantize
from fqbench.workspace import Entry
from fqbench.workspace.kinds import ARTIFACTS, QAT_MODELS, RECORDS, ArtifactFacts


def diagnose(
    run: Run,
    artifact_id: str | None = None,
    *,
    images: int = IMAGES,
    sides: tuple[str, ...] = SIDES,
    ways: tuple[str, ...] = WAYS,
) -> Diagnosis:
    """Diagnose an artifact on validation images.

    Parameters
    ----------
    run : Run
        The experiment; ``eval.by`` names the groups.
    artifact_id : str, optional
        Id or its beginning; the configured artifact by default.
    images : int
        At most so many, of each group as many as of the others.
    sides, ways : tuple of str
        Which of `SIDES` and `WAYS`.

    Raises
    ------
    InputError
        It is not quantized, or its method leaves no plan.
    """
    entry = artifact_entry(run.workspace, artifact_named(run.workspace, artifact_id) if artifact_id else quantize(run))
    artifact = artifact_named(run.workspace, entry.id)
    model = model_of(run.workspace, artifact)
    some = validation_images(run, model).few(images)
    planned = _planned_model(run, artifact, entry)
    executed = logits_of(artifact, some.batches(model.batch_size(BATCH)), device=run.config.bench.device)
    planned = replace(planned, executed=executed, timed=_layer_times(run, artifact))
    return diagnose_plan(run, planned, some, sides=sides, ways=ways)


def diagnose_scheme(
    run: Run,
    artifact: Artifact,
    scheme: Scheme,
    images: ValidationImages,
    *,
    sides: tuple[str, ...],
    ways: tuple[str, ...],
) -> Diagnosis:
    """Diagnose a scheme of which no artifact was made, with the calibration images of another artifact."""
    entry = artifact_entry(run.workspace, artifact)
    model = model_of(run.workspace, artifact)
    calibration = _observed(run, artifact, entry)
    return diagnose_plan(
        run, _planned(model, artifact.backend, scheme, calibration, entry), images, sides=sides, ways=ways
    )


def settled_scheme(run: Run, artifact_id: str) -> Scheme:
    """Return an artifact's scheme with what was chosen on validation images in the place of ``auto``."""
    facts = run.workspace.get(artifact_id, ARTIFACTS).facts
    return settled(facts.scheme, facts.choice)


def _planned_model(run: Run, artifact: Artifact, entry: Entry[ArtifactFacts]) -> PlannedModel:
    scheme = settled(entry.facts.scheme, entry.facts.choice)
    if scheme.method not in {Method.PTQ_STATIC, Method.QAT}:
        what = "takes its scales from each batch" if scheme.method is Method.PTQ_DYNAMIC else "is in float"
        raise InputError(
            f"{artifact.id} {what}, so there are no fixed scales to diagnose; name an artifact of --method ptq_static."
        )
    model: ExportedModel = model_of(run.workspace, artifact)
    calibration = None
    if scheme.method is Method.QAT:
        model = open_model(run.workspace, run.workspace.get(entry.manifest.inputs["tuned"], QAT_MODELS))
    else:
        calibration = _observed(run, artifact, entry)
    planned = _planned(model, artifact.backend, scheme, calibration, entry)
    determined = {**planned.determined_by, "artifact": artifact.digest}
    return replace(planned, artifact_id=entry.id, label=artifact.label, determined_by=determined)


def _layer_times(run: Run, artifact: Artifact) -> LayerTimes | None:
    """Return how the artifact's runtime times single layers; None where it does not."""
    backend = plugins.backend(artifact.backend, run.config.backends.get(artifact.backend, {}))
    available, timer = backend.availability(), backend.abilities.layer_timer
    if timer is None or not available.can_run or artifact.batch not in {None, 1}:
        return None
    threads, device = run.config.bench.threads[0], run.config.bench.device or available.devices[0]
    return LayerTimes(
        measure=lambda images: timer.layer_times(artifact, images, threads=threads, device=device),
        on=f"{backend.name} {available.version}, {threads} thread(s), {device} of {this_machine().cpu}",
    )


def _observed(run: Run, artifact: Artifact, entry: Entry[ArtifactFacts]) -> CalibrationSet:
    recorded = run.workspace.get(entry.manifest.inputs["record"], RECORDS)
    record = with_shared_memory(run, recorded, open_record(recorded.path))
    return replace(calibration_of(run, artifact), record=record, population=record.population)


def _planned(
    model: ExportedModel, backend: str, scheme: Scheme, calibration: CalibrationSet | None, entry: Entry[ArtifactFacts]
) -> PlannedModel:
    numerics = plugins.backend(backend).numerics(scheme)
    values: dict[str, Any] = {
        "model": model.digest,
        "preprocessing": model.preprocessing.model_dump(mode="json"),
        "scheme": scheme.model_dump(mode="json"),
        "numerics": repr(numerics),
        "calibration": None if calibration is None else calibration.digest,
    }
    graph = cleaned(model.path)
    if scheme.rescaling == "on" and calibration is not None:
        graph = rescaled(model, graph, calibration).graph
    return PlannedModel(
        model=model,
        graph=graph,
        plan=make_plan(model, scheme, numerics, calibration),
        scheme=scheme.model_dump_json(),
        label=f"{backend} {scheme.label}",
        determined_by=values,
        inputs={
            "artifact": entry.id,
            **{key: entry.manifest.inputs[key] for key in ("model", "calibration") if key in entry.manifest.inputs},
        },
    )
