"""Figures of real predictions, against fairlearn on the same predictions."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fqbench.data.samples import group_labels
from fqbench.errors import InputError
from fqbench.run import Run
from fqbench.stages.bench import bench
from fqbench.stages.evaluate import evaluate, open_evaluations
from fqbench.stages.predict import predict_split
from fqbench.stages.quantize import quantize, reference
from fqbench.workspace.kinds import EVALUATIONS
from tests.conftest import write_photos

MakeRun = Callable[..., Run]


def test_the_report_agrees_with_fairlearn(make_run: MakeRun) -> None:
    from fairlearn.metrics import MetricFrame, selection_rate
    from sklearn.metrics import accuracy_score

    run = make_run()
    artifacts = [reference(run), quantize(run)]
    evaluation = evaluate(run, artifacts)
    for artifact, figures in zip(artifacts, evaluation.artifacts, strict=True):
        answer = predict_split(run, artifact)
        labels, answers = answer.frame["label"].to_numpy(), answer.predictions.labels
        groups = group_labels(answer.frame, ("tone", "age"))
        frame = MetricFrame(
            metrics={"accuracy": accuracy_score, "selection_rate": selection_rate},
            y_true=labels,
            y_pred=answers,
            sensitive_features=groups,
        )
        for row in figures.report.groups:
            assert row.accuracy.value == pytest.approx(frame.by_group.loc[row.group, "accuracy"], abs=1e-12)
            assert row.selection_rate.value == pytest.approx(frame.by_group.loc[row.group, "selection_rate"], abs=1e-12)
        assert figures.report.overall.accuracy.value == pytest.approx(np.mean(labels == answers), abs=1e-12)


def test_what_is_stored_is_what_is_printed(make_run: MakeRun) -> None:
    run = make_run()
    evaluation = evaluate(run, [reference(run), quantize(run)])
    (entry,) = run.workspace.entries(EVALUATIONS)
    (stored,) = open_evaluations(entry)
    assert repr(stored) == repr(evaluation)
    assert entry.facts.artifacts == tuple(artifact.id for artifact in evaluation.artifacts)
    (first, second) = evaluation.artifacts
    assert first.change is None
    assert second.change is not None
    assert {artifact.predictions_id for artifact in evaluation.artifacts} == {
        found.id for found in run.workspace.entries("predictions")
    }


def test_an_undefined_rate_is_named_and_never_zero(make_run: MakeRun, tmp_path: Path) -> None:
    """Without positives among dark faces their TPR is undefined; fairlearn would call it 0."""
    root = write_photos(tmp_path / "photos", 120)
    table = (root / "metadata.csv").read_text().splitlines()
    kept = [row for row in table if not (",test," in row and ",yes,dark," in row)]
    (root / "metadata.csv").write_text("\n".join(kept) + "\n")
    run = make_run(root=root, by=("tone",))
    report = evaluate(run, [reference(run)]).artifacts[0].report
    assert math.isnan(report.row("dark").tpr.value)
    gap = report.gaps["equal_opportunity_difference"]
    assert math.isnan(gap.value)
    assert gap.undefined == ("dark",)
    assert gap.fairlearn_value == report.row("light").tpr.value
    assert any("dark" in warning for warning in report.warnings)


def test_an_unknown_class_is_refused(make_run: MakeRun) -> None:
    run = make_run(positive="maybe")
    with pytest.raises(InputError, match="has no class 'maybe' for --positive"):
        evaluate(run, [reference(run)])


def test_predictions_carry_runtime_and_cpu_features(make_run: MakeRun) -> None:
    run = make_run()
    answer = predict_split(run, reference(run))
    determined_by = answer.entry.manifest.determined_by
    assert determined_by["runtime"]
    assert "cpu_features" in determined_by
    assert answer.entry.facts.machine.cpu


def test_a_dynamic_scheme_is_predicted_one_image_at_a_time(make_run: MakeRun) -> None:
    run = make_run(method="ptq_dynamic")
    answer = predict_split(run, quantize(run))
    assert answer.entry.manifest.determined_by["batch_size"] == 1


def test_a_measurement_is_kept_and_made_again_on_request(make_run: MakeRun) -> None:
    run = make_run(rounds=5)
    artifacts = [reference(run), quantize(run)]
    first = bench(run, artifacts)
    assert bench(run, artifacts) == first
    assert bench(run, artifacts, again=True) != first
    assert len(run.workspace.entries("benches")) == 2
    assert all(subject.answers is not None and subject.answers.same for subject in first.subjects)
    assert first[artifacts[1].id].arithmetic.integer_share == 1.0
