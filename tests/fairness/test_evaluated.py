"""What is printed of an evaluation is what is stored, field by field."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from fqbench.contracts.runtime import Level
from fqbench.fairness import change_report, count_paired, group_report
from fqbench.fairness.evaluated import EvaluatedArtifact, Evaluation
from fqbench.fairness.measures import measures
from fqbench.fairness.paired_scores import paired_score_rows
from fqbench.fairness.scores import score_rows


def undefined_as_none(value: Any) -> Any:
    """On disk an undefined number is a text; for other programs it is null."""
    if isinstance(value, dict):
        return {key: undefined_as_none(item) for key, item in value.items()}
    if isinstance(value, list):
        return [undefined_as_none(item) for item in value]
    return None if value in ("NaN", "Infinity", "-Infinity") else value


def test_printed_json_has_every_field() -> None:
    rng = np.random.default_rng(0)
    labels, groups = rng.integers(0, 2, 80), rng.choice(["a", "b"], 80)
    first, second = rng.normal(size=(2, 80, 2)).astype(np.float32)
    paired = count_paired(labels, first.argmax(axis=1), second.argmax(axis=1), groups)
    artifact = EvaluatedArtifact(
        id="int8-id",
        label="int8",
        predictions_id="predictions",
        runtime="told 1.0 on cpu",
        report=group_report(paired.candidate, replicates=20),
        change=change_report(paired, replicates=20),
        scores=score_rows(labels, second, groups, positive=1, reference=first),
        measures=measures(paired, labels, groups, positive="1", logits_reference=first, logits=second),
        paired_scores=paired_score_rows(first, second, labels, groups),
        level=Level.SIMULATED,
    )
    alone = EvaluatedArtifact("fp32-id", "fp32", "others", "told", group_report(paired.reference, replicates=20), None)
    evaluation = Evaluation(
        artifacts=(alone, artifact),
        data="faces",
        split="test",
        by=("tone", "age"),
        positive="1",
        notice="drawn",
        subset="tone=dark",
        notes=("another size",),
        attribute="young",
    )
    printed = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    assert printed == undefined_as_none(json.loads(evaluation.to_json()))
