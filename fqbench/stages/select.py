"""Select the artifacts of a verb: those named, or all of the configured model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fqbench import plugins
from fqbench.contracts.artifacts import Artifact
from fqbench.errors import InputError
from fqbench.run import Run
from fqbench.stages.quantize import artifact_named, artifacts, quantize, reference
from fqbench.workspace.kinds import PREDICTIONS


def subjects(
    run: Run, ids: Sequence[str] | None, reference_id: str | None = None, *, runnable: bool = False
) -> list[Artifact]:
    """Return the selected artifacts, the reference first.

    Parameters
    ----------
    run : Run
        The experiment.
    ids : sequence of str, optional
        Ids or beginnings of ids, of artifacts or of predictions brought in from another machine. Without any,
        of its model are taken.
    reference_id : str, optional
        The reference; by default the FP32 artifact of the same model and backend.
    runnable : bool
        Without ids, leave out those artifacts, the configured one excepted, whose runtime is not available here.
    """
    if ids:
        found = [_named(run, name) for name in ids]
        first = [one for one in artifacts(run.workspace, found[0].model_id) if one.scheme.label == "fp32"]
        first = [one for one in first if one.backend == found[0].backend and not one.decision]
    else:
        first, configured = [reference(run)], quantize(run)
        others = artifacts(run.workspace, configured.model_id)
        found = [configured, *(one for one in others if not (runnable and _left_out(run, one)))]
    if reference_id is not None:
        first = [artifact_named(run.workspace, reference_id)]
    return list({(artifact.id, artifact.answers): artifact for artifact in (*first[:1], *found)}.values())


def _named(run: Run, name: str) -> Artifact:
    try:
        return artifact_named(run.workspace, name)
    except InputError as error:
        try:
            entry = run.workspace.get(name, PREDICTIONS)
        except InputError:
            raise error from None
        artifact = artifact_named(run.workspace, entry.manifest.inputs["artifact"])
        return replace(artifact, answers=entry.id)


def _left_out(run: Run, artifact: Artifact) -> bool:
    available = plugins.backend(artifact.backend).availability()
    if not available.can_run:
        run.reporter.say(f"{artifact.id} is left out: {available.reason}")
    return not available.can_run
