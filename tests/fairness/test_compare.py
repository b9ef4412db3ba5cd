from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from fqbench.errors import InputError
from fqbench.fairness import PairedCounts, change_report, compare, count_paired, gap
from fqbench.fairness.comparison import accuracy_p_values
from fqbench.fairness.metrics import RATES
from fqbench.testing import strategies as ours

FEW = {"replicates": 50}


def data(n=2_000, seed=0):
    rng = np.random.default_rng(seed)
    groups, y_true = rng.choice(["a", "b", "c"], n), rng.integers(0, 2, n)
    first = np.where(rng.random(n) < 0.1, 1 - y_true, y_true)
    second = np.where(rng.random(n) < np.where(groups == "c", 0.1, 0.01), 1 - first, first)
    return y_true, first, second, groups


def paired_table(cells):
    """From (gain, loss, same) of positives per group; no negatives."""
    table = np.zeros((len(cells), 2, 2, 2), dtype=int)
    for i, (gain, loss, same) in enumerate(cells):
        table[i, 1, 0, 1], table[i, 1, 1, 0], table[i, 1, 1, 1] = gain, loss, same
    return PairedCounts(tuple("abcdefghijklmn"[: len(cells)]), ("0", "1"), table)


def test_changes_are_those_of_the_arrays():
    y_true, first, second, groups = data()
    got = compare(y_true, first, second, sensitive_features=groups, **FEW)
    p = []
    for row in got.groups:
        rows = groups == row.group
        before, after = first[rows] == y_true[rows], second[rows] == y_true[rows]
        assert row.accuracy.value == pytest.approx(after.mean() - before.mean(), abs=1e-12)
        assert (row.flips, row.negative_flips) == ((first != second)[rows].sum(), (before & ~after).sum())
        assert row.positive_flips == (~before & after).sum()
        assert (row.accuracy.gains, row.accuracy.losses) == (row.positive_flips, row.negative_flips)
        positives = rows & (y_true == 1)
        assert row.tpr.n == positives.sum()
        assert row.tpr.value == pytest.approx(second[positives].mean() - first[positives].mean(), abs=1e-12)
        negatives = rows & (y_true == 0)
        assert row.fpr.value == pytest.approx(second[negatives].mean() - first[negatives].mean(), abs=1e-12)
        assert row.selection_rate.value == pytest.approx(second[rows].mean() - first[rows].mean(), abs=1e-12)
        p.append(mcnemar([[0, row.positive_flips], [row.negative_flips, 0]], exact=True).pvalue)
    np.testing.assert_allclose([row.mcnemar_p for row in got.groups], p, rtol=1e-9)
    holm = multipletests(p, method="holm")[1]
    np.testing.assert_allclose([row.mcnemar_p_adjusted for row in got.groups], holm, rtol=1e-9)
    assert got.row("c").verdict.answer == "different"
    assert got.overall.n == 2_000
    assert got.correction == "holm"


def test_no_correction_and_benjamini_hochberg():
    arrays = data()
    plain = compare(*arrays[:3], sensitive_features=arrays[3], correction="none", **FEW)
    assert [row.mcnemar_p for row in plain.groups] == [row.mcnemar_p_adjusted for row in plain.groups]
    fdr = compare(*arrays[:3], sensitive_features=arrays[3], correction="benjamini-hochberg", **FEW)
    expected = multipletests([row.mcnemar_p for row in plain.groups], method="fdr_bh")[1]
    np.testing.assert_allclose([row.mcnemar_p_adjusted for row in fdr.groups], expected)


@given(ours.paired_counts())
def test_any_pair_gives_a_report_without_significance_from_nothing(paired):
    got = change_report(paired, **FEW)
    json.dumps(got.to_dict(), allow_nan=False)
    for i, row in enumerate(got.groups):
        before, after = (RATES["accuracy"](side.table)[i] for side in (paired.reference, paired.candidate))
        np.testing.assert_allclose(row.accuracy.value, after - before, atol=1e-12)
        np.testing.assert_allclose(row.accuracy.candidate, after, atol=1e-12)
        assert row.n == paired.n[i]
        if row.n == 0:
            assert np.isnan([row.mcnemar_p, row.mcnemar_p_adjusted, row.accuracy.low]).all()
            assert row.verdict.answer == "undecided"
        else:
            assert row.accuracy.low <= row.accuracy.value <= row.accuracy.high
        if row.tpr.n == 0:
            assert np.isnan([row.tpr.value, row.tpr.low, row.tpr.high]).all()
    odds = [got.gaps[f"equal{end}"] for end in ("ized_odds_difference", "_opportunity_difference")]
    odds.append(got.gaps["predictive_equality_difference"])
    assert set(odds[0].undefined) == set(odds[1].undefined) | set(odds[2].undefined)
    for side in ("reference", "candidate"):
        first, *others = (getattr(each, side) for each in odds)
        np.testing.assert_array_equal(first, np.maximum(*others))
    for name, each in got.gaps.items():
        if name.startswith("equalized_odds"):  # each of its two rates is over its own groups
            continue
        kept = [group for group in paired.groups if group not in each.undefined]
        sides = [gap(name, side.select(kept)).value for side in (paired.reference, paired.candidate)]
        np.testing.assert_allclose([each.reference, each.candidate], sides, atol=1e-12)
        if np.isnan(each.value):
            assert each.verdict.answer == "undecided"
            assert np.isnan([each.low, each.high]).all()


@given(ours.paired_counts(classes=3))
def test_several_classes(paired):
    got = change_report(paired, replicates=20)
    assert got.positive is None
    assert all(np.isnan(row.tpr.value) for row in got.groups)
    chosen = change_report(paired, positive="1", replicates=20)
    for i, row in enumerate(chosen.groups):
        sides = [RATES["true_positive_rate"](s.binary("1").table)[i] for s in (paired.reference, paired.candidate)]
        np.testing.assert_allclose(row.tpr.value, sides[1] - sides[0], atol=1e-12)
        assert row.flips == paired.n[i] - np.einsum("lpp->", paired.table[i])


def test_the_same_predictions_are_no_change_but_few_images_are_no_proof():
    few = change_report(paired_table([(0, 0, 40), (0, 0, 30)]), replicates=500)
    many = change_report(paired_table([(0, 0, 40_000), (0, 0, 30_000)]), replicates=500)
    for name in ("accuracy_gap", "equal_opportunity_difference", "worst_group_accuracy"):
        assert few.gaps[name].verdict.answer == "undecided"
        assert few.gaps[name].low <= 0 <= few.gaps[name].high
        assert few.gaps[name].high > few.gaps[name].low
        assert many.gaps[name].verdict.answer == "equivalent"
    assert {row.verdict.answer for row in few.groups} == {"undecided"}
    assert {row.verdict.answer for row in many.groups} == {"equivalent"}
    assert few.row("a").verdict.images_needed > 100
    assert np.isnan(many.row("a").verdict.images_needed)
    assert np.isnan(few.gaps["predictive_equality_difference"].value)
    assert np.isnan(few.flip_ratio)


def test_margins_are_the_users():
    paired = paired_table([(2, 2, 1_000), (2, 2, 1_000)])
    strict, lax = (change_report(paired, margins={"accuracy": m}, **FEW) for m in (0.001, 0.05))
    assert strict.row("a").verdict.answer == "undecided"
    assert lax.row("a").verdict.answer == "equivalent"
    assert lax.row("a").verdict.margin == 0.05
    assert lax.gaps["accuracy_gap"].verdict.margin == 0.01
    with pytest.raises(InputError, match="no margin for 'acuracy': did you mean 'accuracy'"):
        change_report(paired, margins={"acuracy": 0.1})
    with pytest.raises(InputError, match="between 0 and 1"):
        change_report(paired, margins={"accuracy": 1.0})


def test_flip_ratio_is_worst_over_best():
    got = change_report(paired_table([(0, 30, 970), (5, 10, 985)]), **FEW)
    assert got.flip_ratio == pytest.approx(3.0)


def test_a_group_undefined_in_one_model_is_left_out_of_both():
    y_true, first, second = [0, 1] * 3, [0, 1] * 3, [0, 1, 0, 1, 0, 0]
    paired = count_paired(y_true, first, second, ["a", "a", "b", "b", "c", "c"])
    got = change_report(paired, **FEW).gaps["predictive_parity_difference"]
    assert got.undefined == ("c",)
    assert got.reference == got.candidate == 0.0


def test_paired_replicates_are_narrower_than_unpaired_ones():
    y_true, first, _, groups = data(6_000)
    rng = np.random.default_rng(1)
    second = np.where(rng.random(6_000) < 0.01, 1 - first, first)
    apart = np.where(rng.random(6_000) < 0.1, 1 - y_true, y_true)
    near, far = (compare(y_true, first, each, sensitive_features=groups, replicates=500) for each in (second, apart))
    for name in ("worst_group_accuracy", "demographic_parity_difference"):
        assert near.gaps[name].high - near.gaps[name].low < 0.6 * (far.gaps[name].high - far.gaps[name].low)
    assert near.row("a").accuracy.high - near.row("a").accuracy.low < 0.02


def test_the_same_seed_gives_the_same_report():
    arrays = data()
    first, again = (compare(*arrays[:3], sensitive_features=arrays[3], seed=3, **FEW) for _ in range(2))
    assert first.to_dict() == again.to_dict()


def test_the_correction_is_over_all_artifacts_of_a_comparison() -> None:
    """Holm over two groups of each of two artifacts is statsmodels' over all four p-values."""
    rng = np.random.default_rng(5)
    truth, groups = rng.integers(0, 2, 400), np.repeat(["a", "b"], 200)
    reference = np.where(rng.random(400) < 0.9, truth, 1 - truth)
    paired = []
    for rate in (0.03, 0.08):
        worse = np.where(rng.random(400) < rate, 1 - truth, reference)
        paired.append(count_paired(truth, reference, worse, groups))
    own, other = (accuracy_p_values(table) for table in paired)
    made = change_report(paired[0], family=other.tolist(), replicates=50)
    expected = multipletests([*own, *other], method="holm")[1][:2]
    assert [row.mcnemar_p_adjusted for row in made.groups] == pytest.approx(expected)
    assert [row.mcnemar_p for row in made.groups] == pytest.approx(own)


def test_accuracy_before_and_after_and_no_rates_without_a_positive_class():
    got = compare([0, 1, 2, 2], [0, 1, 1, 2], [0, 2, 1, 1], sensitive_features=["a"] * 4, replicates=100)
    (row,) = got.groups
    assert (row.accuracy.reference, row.accuracy.candidate, row.accuracy.value) == (0.75, 0.25, -0.5)
    assert (row.accuracy.n, row.accuracy.gains, row.accuracy.losses) == (4, 0, 2)
    for rate in (row.selection_rate, row.tpr, row.fpr):
        assert np.isnan([rate.reference, rate.candidate, rate.value, rate.low, rate.high]).all()
        assert (rate.n, rate.gains, rate.losses) == (0, 0, 0)
