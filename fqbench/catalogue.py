"""Models and artifacts of a workspace: opened from their entries, and found by their ids."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fqbench.contracts.artifacts import Artifact, ExportedModel
from fqbench.contracts.qat_parameters import open_qat_parameters
from fqbench.errors import InputError
from fqbench.models.export import MODEL
from fqbench.models.train import CHECKPOINT
from fqbench.workspace import Entry, Workspace
from fqbench.workspace.kinds import (
    ARTIFACTS,
    CHECKPOINTS,
    DECISIONS,
    EXECUTABLE,
    MODELS,
    PREDICTIONS,
    ArtifactFacts,
    DecisionFacts,
    ModelFacts,
    QatModelFacts,
)


def open_model(workspace: Workspace, entry: Entry[ModelFacts]) -> ExportedModel:
    """Open a model that was exported or adopted, or one that was trained with quantization (`fqbench.stages.qat`)."""
    facts = entry.facts
    model = ExportedModel(
        id=entry.id,
        name=facts.model,
        path=entry.file(MODEL),
        digest=entry.digest,
        classes=facts.classes,
        preprocessing=facts.preprocessing,
        architecture=facts.architecture,
        batch=facts.batch,
        task=facts.task,
    )
    if isinstance(facts, QatModelFacts):
        return replace(model, checkpoint=entry.file(CHECKPOINT), learned=open_qat_parameters(entry.path))
    trained = entry.manifest.inputs.get("checkpoint")
    return model if trained is None else replace(model, checkpoint=workspace.get(trained, CHECKPOINTS).file(CHECKPOINT))


def artifacts(workspace: Workspace, model_id: str | None = None) -> list[Artifact]:
    """Return the finished artifacts, of one model or of all, FP32 first."""
    found = [open_artifact(workspace, entry) for kind in (ARTIFACTS, DECISIONS) for entry in workspace.entries(kind)]
    mine = [artifact for artifact in found if model_id is None or artifact.model_id == model_id]
    return sorted(mine, key=lambda artifact: artifact.scheme.label != "fp32")


def artifact_named(workspace: Workspace, id_or_prefix: str) -> Artifact:
    """Return the artifact, engine or artifact with a fitted decision whose id is, or begins with, the given text.

    Raises
    ------
    InputError
        None or several have such an id.
    """
    return open_artifact(workspace, workspace.get(id_or_prefix, EXECUTABLE))


def artifact_entry(workspace: Workspace, artifact: Artifact) -> Entry[ArtifactFacts]:
    """Return the entry of the artifact itself, also for an engine or a fitted decision."""
    entry: Entry[Any] = workspace.get(artifact.id, EXECUTABLE)
    while entry.kind != ARTIFACTS.name:
        entry = workspace.get(entry.manifest.inputs["artifact"], EXECUTABLE)
    return entry


def open_artifact(workspace: Workspace, entry: Entry[Any]) -> Artifact:
    """Open an artifact, an engine, or an artifact with a fitted decision."""
    facts = entry.facts
    if isinstance(facts, DecisionFacts):
        decides = artifact_named(workspace, entry.manifest.inputs["artifact"])
        return replace(decides, id=entry.id, decision=facts.rule)
    return Artifact(
        backend=facts.backend,
        scheme=facts.scheme,
        root=entry.path,
        files=facts.files,
        details=facts.details,
        id=entry.id,
        digest=entry.digest,
        sampler=facts.sampler,
        model_id=entry.manifest.inputs["model"],
        model_digest=facts.model_digest,
        batch=facts.batch,
        task=facts.task,
        reduced_range=bool(facts.choice.get("reduce_range", facts.scheme.reduce_range)),
    )


def model_of(workspace: Workspace, artifact: Artifact) -> ExportedModel:
    """Return the FP32 model that an artifact was made from."""
    return open_model(workspace, workspace.get(artifact.model_id, MODELS))


def subject_named(workspace: Workspace, name: str) -> Artifact:
    """Return an artifact by its id, or by the id of its predictions that were imported from another machine.

    Raises
    ------
    InputError
        None or several have such an id.
    """
    try:
        return artifact_named(workspace, name)
    except InputError as error:
        try:
            entry = workspace.get(name, PREDICTIONS)
        except InputError:
            raise error from None
        artifact = artifact_named(workspace, entry.manifest.inputs["artifact"])
        return replace(artifact, answers=entry.id)
