"""Gate: check artifacts against limits, with an evaluation and, if a limit needs it, a latency measurement."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from fqbench.data.samples import group_labels
from fqbench.gate import GateReport, check_limits, group_confidence, read_gate
from fqbench.run import Run
from fqbench.stages.bench import bench
from fqbench.stages.evaluate import evaluate_views
from fqbench.stages.quantize import subjects
from fqbench.stages.read import read
from fqbench.storage import text_digest
from fqbench.workspace import Derivation, Entry
from fqbench.workspace.kinds import GATES, GateFacts

REPORT = "gate.json"


def gate(run: Run, limits: Path, ids: Sequence[str] | None = None, reference_id: str | None = None) -> GateReport:
    """Check artifacts against the limits of a YAML file.

    Parameters
    ----------
    run : Run
        The experiment.
    limits : Path
        The YAML file.
    ids, reference_id
        As `fqbench.stages.quantize.subjects` takes them.

    Raises
    ------
    InputError
        The limits cannot be read, or there is nothing to check.
    """
    return GateReport.open(gate_entry(run, limits, ids, reference_id).file(REPORT))


def gate_entry(
    run: Run, limits: Path, ids: Sequence[str] | None = None, reference_id: str | None = None
) -> Entry[GateFacts]:
    """Check artifacts as `gate`, and return the entry of the checks."""
    options = read_gate(limits)
    run = run.with_options("eval", intersect=True, control=None)
    artifacts = subjects(run, ids, reference_id)
    samples, asked = read(run), run.config.eval
    groups = len(set(group_labels(samples.split(asked.split), samples.features(asked.by))))
    joint = (groups if options.limits.max_group_drop is not None else 1) * max(1, len(samples.attributes))
    evaluations = evaluate_views(run, artifacts, confidence=group_confidence(options.confidence, joint))
    latency = bench(run, artifacts) if options.limits.needs_latency else None
    derivation = Derivation(
        kind=GATES,
        slug=f"{len(artifacts)}-artifacts-{asked.split}",
        determined_by={
            "limits": options.model_dump(mode="json"),
            "evaluation": text_digest("".join(evaluation.to_json() for evaluation in evaluations)),
            "latency": None if latency is None else text_digest(json.dumps(latency.to_dict())),
        },
        inputs={f"artifact{index}": artifact.id for index, artifact in enumerate(artifacts)},
    )

    def build(out: Path) -> GateFacts:
        report = check_limits(options, evaluations, latency)
        report.save(out / REPORT)
        ids = tuple(artifact.id for artifact in artifacts)
        return GateFacts(artifacts=ids, passed=report.passed, checks=len(report.checks))

    return run.produce(derivation, build, f"checking the limits of {limits}")
