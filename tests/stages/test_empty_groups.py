"""A group without an image in the split does not stop an evaluation: it is named, and nothing is claimed of it."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from fqbench.fairness.evaluated import Evaluation
from fqbench.gate import Outcome
from fqbench.report.document import Format
from fqbench.report.evaluation import evaluation_document
from fqbench.report.renderers import render
from fqbench.report.replication import replication_document
from fqbench.run import Run
from fqbench.stages.evaluate import evaluate, evaluate_views
from fqbench.stages.gate import gate
from fqbench.stages.quantize import quantize, reference
from fqbench.stages.replicate import replicate
from fqbench.stages.threshold import calibrate_threshold
from tests.conftest import write_photos

MakeRun = Callable[..., Run]
EMPTY = "dark×old"
GROUPS = ["dark×old", "dark×young", "light×old", "light×young"]


@pytest.fixture
def without_test_images(tmp_path: Path) -> Path:
    """Photos of four groups, of which one has no image in the test split."""
    root = write_photos(tmp_path / "photos", 120)
    rows = (root / "metadata.csv").read_text().splitlines()
    kept = [row for row in rows if not (",test," in row and row.endswith(",dark,old"))]
    (root / "metadata.csv").write_text("\n".join(kept) + "\n")
    return root


@pytest.fixture
def evaluation(make_run: MakeRun, without_test_images: Path) -> Evaluation:
    run = make_run(root=without_test_images)
    return evaluate(run, [reference(run), quantize(run)])


def test_it_is_shown_with_no_images_and_left_out_of_gaps_by_name(evaluation: Evaluation) -> None:
    for artifact in evaluation.artifacts:
        assert [row.group for row in artifact.report.groups] == GROUPS
        row = artifact.report.row(EMPTY)
        assert row.n == 0
        assert math.isnan(row.accuracy.value)
        assert all(EMPTY in gap.undefined for gap in artifact.report.gaps.values())
        assert artifact.report.gaps["accuracy_gap"].value >= 0
        warning = artifact.report.warnings[0]
        assert warning.startswith(f"no images of {EMPTY}: n = 0")
        assert [score.group for score in artifact.scores] == [*GROUPS, "all"]
        assert math.isnan(artifact.scores[0].calibration_error)
    change, measures = evaluation.artifacts[1].change, evaluation.artifacts[1].measures
    assert change is not None
    assert measures is not None
    row = change.row(EMPTY)
    assert (row.n, row.flips, row.verdict.answer) == (0, 0, "undecided")
    assert math.isnan(row.mcnemar_p_adjusted)
    assert EMPTY in change.gaps["accuracy_gap"].undefined
    assert list(measures.excess_loss) == list(measures.kl_divergence) == GROUPS
    assert math.isnan(measures.excess_loss[EMPTY])
    assert measures.excess_loss_gap >= 0
    scores = evaluation.artifacts[1].paired_scores
    assert [(row.group, row.n == 0) for row in scores] == [
        *((group, group == EMPTY) for group in GROUPS),
        ("all", False),
    ]
    assert math.isnan(scores[0].kl_divergence.value)
    assert scores[1].cross_entropy_change.value == pytest.approx(measures.excess_loss[GROUPS[1]])
    assert evaluation.artifacts[0].paired_scores == ()


def test_it_is_in_json_in_csv_and_in_every_table(evaluation: Evaluation) -> None:
    values = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    row = next(row for row in values["artifacts"][1]["report"]["groups"] if row["group"] == EMPTY)
    assert (row["n"], row["accuracy"]["value"]) == (0, None)
    rows = list(csv.DictReader(render(evaluation_document(evaluation), Format.CSV).splitlines()))
    found = [row for row in rows if row["group"] == EMPTY]
    assert {row["n"] for row in found} == {"0"}
    assert {row["value"] for row in found if row["figure"] in {"accuracy", "kl_divergence"}} == {""}
    text = render(evaluation_document(evaluation), Format.MARKDOWN)
    assert f"| {EMPTY} | 0 | undefined |" in text
    assert "nan" not in text
    assert f"| {EMPTY} | 0 | undefined | undefined |" in text.partition("probabilities of ")[2]
    assert f"{EMPTY} (small)" not in text
    assert "1 of them without images" in text
    assert f"no images of {EMPTY}: n = 0" in text.partition("gaps between groups")[2]


def test_groups_of_each_feature_and_within_a_control(make_run: MakeRun, without_test_images: Path) -> None:
    run = make_run(root=without_test_images, control="tone")
    views = evaluate_views(run, [reference(run)])
    sizes = {view.subset: {row.group: row.n for row in view.artifacts[0].report.groups} for view in views}
    assert sizes["tone=dark"]["old"] == 0
    assert sizes["tone=light"]["old"] > 0


def test_the_gate_leaves_it_undecided(make_run: MakeRun, without_test_images: Path, tmp_path: Path) -> None:
    limits = tmp_path / "limits.yaml"
    limits.write_text("limits: {max_group_drop: 0.99, max_dp_difference: 1.0, min_worst_group_accuracy: 0.0}\n")
    report = gate(make_run(root=without_test_images), limits)
    checks = {check.limit: check for check in report.checks}
    outcomes = {limit: check.outcome for limit, check in checks.items()}
    assert outcomes == {
        f"max_group_drop {EMPTY}": Outcome.UNDECIDED,
        "max_group_drop dark×young": Outcome.PASSED,
        "max_group_drop light×old": Outcome.PASSED,
        "max_group_drop light×young": Outcome.PASSED,
        "max_dp_difference": Outcome.PASSED,
        "min_worst_group_accuracy": Outcome.UNDECIDED,
    }
    assert "no images" in checks[f"max_group_drop {EMPTY}"].evidence
    assert f"without {EMPTY}, undefined there" in checks["max_dp_difference"].evidence
    assert checks["max_dp_difference"].left_out == (EMPTY,)
    assert not report.passed


def test_replicate_and_thresholds_go_on(make_run: MakeRun, without_test_images: Path) -> None:
    run = make_run(root=without_test_images, replicates=100)
    replication = replicate(run, (), (0, 1))
    assert [(row.group, row.n == 0) for row in replication.groups[:2]] == [(EMPTY, True), ("dark×young", False)]
    assert math.isnan(replication.groups[0].accuracy.value)
    gap = replication.gaps["demographic_parity_difference"]
    assert gap.low <= gap.high
    text = render(replication_document(replication), Format.MARKDOWN)
    assert f"no images of {EMPTY}" in text
    assert "nan" not in text
    for constraint in (None, "demographic_parity"):
        fitted = calibrate_threshold(run, None, constraint).artifacts[-1]
        assert fitted.report.row(EMPTY).n == 0
