"""Which artifacts a verb is about: those named, or all of the configured model."""

from __future__ import annotations

from collections.abc import Sequence

from fqbench import plugins
from fqbench.artifacts import Artifact
from fqbench.stages.quantize import artifacts, open_artifact, quantize, reference
from fqbench.stages.run import Run


def subjects(run: Run, ids: Sequence[str] | None, reference_id: str | None = None) -> list[Artifact]:
    """Return the artifacts to look at, the reference first.

    Parameters
    ----------
    run : Run
        The experiment.
    ids : sequence of str, optional
        Ids or beginnings of ids. Without any, the configured artifact is made where it is missing, and all artifacts
        of its model are taken.
    reference_id : str, optional
        The reference; by default the FP32 artifact of the same model and backend.
    """
    if ids:
        found = [open_artifact(run.workspace.get(name, "artifacts")) for name in ids]
        first = [one for one in artifacts(run.workspace, found[0].model_id) if one.scheme.label == "fp32"]
        first = [one for one in first if one.backend == found[0].backend and not one.details.get("decision")]
    else:
        first, configured = [reference(run)], quantize(run)
        found = [configured, *artifacts(run.workspace, configured.model_id)]
    if reference_id is not None:
        first = [open_artifact(run.workspace.get(reference_id, "artifacts"))]
    return list({artifact.id: artifact for artifact in (*first[:1], *found)}.values())


def _left_out(run: Run, artifact: Artifact) -> bool:
    available = plugins.backend(artifact.backend).availability()
    if not available.usable:
        run.reporter.say(f"{artifact.id} is left out: {available.reason}")
    return not available.usable
