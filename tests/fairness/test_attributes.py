"""Several attributes side by side: each row's figures are those of its own attribute and artifact."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from fqbench.fairness import PairedCounts, change_report, group_report
from fqbench.fairness.attributes import attribute_rows
from fqbench.fairness.evaluated import EvaluatedArtifact, Evaluation

GROUPS = ("none", "a", "b")  # the first has no images
# losses and gains of the positives of groups a and b, by attribute and artifact; 400 positives and 100 negatives each
FLIPS = {
    ("young", "int8"): ((4, 2), (9, 3)),
    ("young", "int4"): ((30, 2), (12, 3)),
    ("bright", "int8"): ((1, 9), (2, 8)),
    ("bright", "int4"): ((5, 5), (80, 1)),
}


def paired(attribute: str, artifact: str) -> PairedCounts:
    table = np.zeros((3, 2, 2, 2), dtype=int)
    for group, (losses, gains) in enumerate(FLIPS[attribute, artifact], start=1):
        wrong = 40 if attribute == "young" else 20 * group
        table[group, 1, 1, 0], table[group, 1, 0, 1] = losses, gains
        table[group, 1, 0, 0], table[group, 1, 1, 1] = wrong - gains, 400 - wrong - losses
        table[group, 0, 0, 0] = 100
    return PairedCounts(GROUPS, ("no", "yes"), table)


def evaluation(attribute: str) -> Evaluation:
    artifacts = []
    for name in ("fp32", "int8", "int4"):
        counts = paired(attribute, "int8" if name == "fp32" else name)
        side = counts.reference if name == "fp32" else counts.candidate
        change = None if name == "fp32" else change_report(counts, replicates=200)
        report = group_report(side, replicates=50)
        artifacts.append(EvaluatedArtifact(f"{name}-id", name, f"{name}-predictions", "told", report, change))
    return Evaluation(tuple(artifacts), "faces", "test", ("tone",), "yes", "", attribute=attribute)


def test_each_row_is_of_its_attribute_and_artifact() -> None:
    found = [evaluation("young"), evaluation("bright")]
    rows = attribute_rows(found)
    assert [(row.attribute, row.label) for row in rows] == list(FLIPS)
    assert [(row.artifact_id, row.predictions_id) for row in rows[:2]] == [
        ("int8-id", "int8-predictions"),
        ("int4-id", "int4-predictions"),
    ]
    both = [np.sum(flips, axis=0) for flips in FLIPS.values()]
    own = [mcnemar([[0, won], [lost, 0]], exact=True).pvalue for lost, won in both]
    assert [row.p for row in rows] == pytest.approx(own)
    assert [row.p_adjusted for row in rows] == pytest.approx(multipletests(own, method="holm")[1])
    for row, ((lost, won), (other_lost, other_won)) in zip(rows, FLIPS.values(), strict=True):
        assert row.n == 1_000
        assert row.accuracy.value == pytest.approx((won + other_won - lost - other_lost) / 1_000)
        changes = {"a": (won - lost) / 500, "b": (other_won - other_lost) / 500}
        assert row.worst_group == min(changes, key=changes.__getitem__)
        assert row.worst_accuracy is not None
        assert row.worst_accuracy.value == pytest.approx(min(changes.values()))
        before = 0.0 if row.attribute == "young" else 20 / 400
        moved = [(won - lost) / 400, (other_won - other_lost) / 400 - before]
        assert row.gap_reference == pytest.approx(before)
        assert row.gap == pytest.approx(abs(moved[0] - moved[1]))
        assert row.gap_change == pytest.approx(row.gap - row.gap_reference)
        assert row.gap_low < row.gap_change < row.gap_high
        assert row.equivalent + row.different + row.undecided == 3
        assert row.undecided >= 1, "nothing is claimed of the group without images"
    changes = [artifact.change for one in found for artifact in one.artifacts if artifact.change]
    for row, change in zip(rows, changes, strict=True):
        assert row.worst_p_adjusted == change.row(row.worst_group).mcnemar_p_adjusted
        answers = [each.verdict.answer for each in change.groups]
        assert (row.equivalent, row.different) == (answers.count("equivalent"), answers.count("different"))


def test_the_reference_alone_has_no_row() -> None:
    alone = evaluation("young")
    assert attribute_rows([Evaluation(alone.artifacts[:1], "faces", "test", (), "yes", "")]) == ()
