"""Evaluate: predictions, and those of the FP32 reference, become figures per group with error bars."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.artifacts import Artifact
from fqbench.data.samples import group_labels
from fqbench.errors import DataError, InputError, did_you_mean
from fqbench.fairness import change_report, count, count_paired, report
from fqbench.stages.predict import Answered, predict_split
from fqbench.stages.read import read
from fqbench.stages.run import Run
from fqbench.workspace import Recipe

if TYPE_CHECKING:
    from fqbench.fairness import ChangeReport, GroupReport

STAGE_VERSION = 1
REPORT = "fairness.json"


@dataclass(frozen=True)
class EvaluatedArtifact:
    """The figures of one artifact, and the ids of what they came from.

    Attributes
    ----------
    id, label : str
        The artifact's id and its name in tables.
    predictions_id : str
        Entry of the predictions that were counted.
    runtime : str
        Backend, its version and the device.
    report : GroupReport
        Rates and gaps.
    change : ChangeReport or None
        What changed from the reference; None for the reference itself.
    """

    id: str
    label: str
    predictions_id: str
    runtime: str
    report: GroupReport
    change: ChangeReport | None


@dataclass(frozen=True)
class Evaluation:
    """All artifacts on the same images.

    Attributes
    ----------
    artifacts : tuple of EvaluatedArtifact
        The reference first.
    data, split : str
        Which images.
    by : tuple of str
        Sensitive features whose intersections are the groups.
    positive : str or None
        The class that counts as positive.
    notice : str
        What has to be said of these data.
    """

    artifacts: tuple[EvaluatedArtifact, ...]
    data: str
    split: str
    by: tuple[str, ...]
    positive: str | None
    notice: str

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "data": self.data,
            "notice": self.notice,
            "split": self.split,
            "by": list(self.by),
            "positive": self.positive,
            "artifacts": [
                {
                    "id": artifact.id,
                    "label": artifact.label,
                    "predictions_id": artifact.predictions_id,
                    "runtime": artifact.runtime,
                    "report": artifact.report.to_dict(),
                    "change": artifact.change.to_dict() if artifact.change is not None else None,
                }
                for artifact in self.artifacts
            ],
        }


def evaluate(run: Run, artifacts: Sequence[Artifact]) -> Evaluation:
    """Evaluate artifacts on the configured split; the first is the reference of all changes.

    Parameters
    ----------
    run : Run
        The experiment.
    artifacts : sequence of Artifact
        At least one; FP32 first, so that changes are those that quantization made.

    Raises
    ------
    DataError
        A group has no image in the split.
    InputError
        No artifacts, or an unknown feature or class.
    """
    if not artifacts:
        raise InputError("there is nothing to evaluate; make an artifact with `fqbench quantize` first.")
    asked, samples = run.config.eval, read(run)
    by = samples.features(asked.by)
    samples.require_groups(asked.split, by)
    if asked.positive is not None and asked.positive not in samples.classes:
        hint = did_you_mean(asked.positive, samples.classes)
        raise InputError(f"{samples.name} has no class {asked.positive!r} for --positive: {hint}")
    answered = [predict_split(run, artifact) for artifact in artifacts]
    _same_images(answered)
    positive = asked.positive if asked.positive or len(samples.classes) > 2 else samples.classes[-1]
    figures = [_figures(run, answer, answered[0], by, positive) for answer in answered]
    evaluation = Evaluation(tuple(figures), samples.name, asked.split, by, positive, samples.notice)
    _keep(run, evaluation, answered)
    return evaluation


def _figures(
    run: Run, answer: Answered, reference: Answered, by: Sequence[str], positive: str | None
) -> EvaluatedArtifact:
    asked, classes = run.config.eval, read(run).classes
    options: dict[str, Any] = {
        "positive": positive,
        "replicates": asked.replicates,
        "confidence": asked.confidence,
        "seed": asked.seed,
    }
    labels = answer.frame["label"].to_numpy(dtype=np.int64)
    groups = group_labels(answer.frame, by)
    counts = count(labels, answer.predictions.labels, groups, classes=classes)
    change = None
    if answer is not reference:
        paired = count_paired(labels, reference.predictions.labels, answer.predictions.labels, groups, classes=classes)
        change = change_report(paired, **options)
    facts = answer.entry.manifest.determined_by
    return EvaluatedArtifact(
        id=answer.artifact.id,
        label=answer.artifact.label,
        predictions_id=answer.entry.id,
        runtime=f"{facts['backend']} {facts['runtime']} on {facts['device']}",
        report=report(counts, **options),
        change=change,
    )


def _same_images(answered: Sequence[Answered]) -> None:
    first = answered[0].predictions.sample_ids
    for answer in answered[1:]:
        if not np.array_equal(answer.predictions.sample_ids, first):
            raise DataError(
                f"{answer.artifact.label} was run on other images than {answered[0].artifact.label}; "
                "evaluate artifacts of one data set together."
            )


def _keep(run: Run, evaluation: Evaluation, answered: Sequence[Answered]) -> None:
    recipe = Recipe(
        kind="evaluations",
        slug=f"{len(answered)}-artifacts-{evaluation.split}",
        version=STAGE_VERSION,
        determined_by={
            "predictions": [answer.entry.digest for answer in answered],
            "by": list(evaluation.by),
            "positive": evaluation.positive,
            "options": run.config.eval.model_dump(mode="json", include={"replicates", "confidence", "seed", "split"}),
        },
        inputs={f"predictions{index}": answer.entry.id for index, answer in enumerate(answered)},
    )

    def build(out: Path) -> Mapping[str, object]:
        text = json.dumps(evaluation.to_dict(), indent=1, allow_nan=False)
        (out / REPORT).write_text(text + "\n", encoding="utf-8")
        return {"artifacts": [artifact.id for artifact in evaluation.artifacts], "notice": evaluation.notice}

    run.produce(recipe, build, f"evaluating {len(answered)} artifact(s) by {', '.join(evaluation.by) or 'nothing'}")
