"""Which artifacts a verb is about: those named, or all of the configured model."""

from __future__ import annotations

from collections.abc import Sequence

from fqbench.artifacts import Artifact
from fqbench.stages.quantize import artifacts, open_artifact, quantize, reference
from fqbench.stages.run import Run


def subjects(run: Run, ids: Sequence[str] | None) -> list[Artifact]:
    """Return the artifacts to look at, the FP32 one of the same model and backend first.

    Parameters
    ----------
    run : Run
        The experiment.
    ids : sequence of str, optional
        Ids or beginnings of ids. Without any, the configured artifact is made where it is missing, and all artifacts
        of its model are taken.
    """
    if ids:
        named = [open_artifact(run.workspace.get(name, "artifacts")) for name in ids]
        others = [
            artifact for artifact in artifacts(run.workspace, named[0].model_id) if artifact.scheme.label == "fp32"
        ]
        first = [artifact for artifact in others if artifact.backend == named[0].backend]
        return list({artifact.id: artifact for artifact in (*first, *named)}.values())
    baseline = reference(run)
    configured = quantize(run)
    found = [
        artifact
        for artifact in artifacts(run.workspace, configured.model_id)
        if artifact.id not in {baseline.id, configured.id}
    ]
    return list({artifact.id: artifact for artifact in (baseline, configured, *found)}.values())
