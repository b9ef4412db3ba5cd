from __future__ import annotations

import fairlearn.metrics as reference
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, precision_score

from fqbench.errors import InputError
from fqbench.fairness import metrics as m
from fqbench.fairness.counts import Counts
from fqbench.testing import strategies as ours

EXACT = {"rtol": 0, "atol": 1e-12}
REFERENCES = {
    "demographic_parity_difference": reference.demographic_parity_difference,
    "demographic_parity_ratio": reference.demographic_parity_ratio,
    "equalized_odds_difference": reference.equalized_odds_difference,
    "equalized_odds_ratio": reference.equalized_odds_ratio,
    "equal_opportunity_difference": reference.equal_opportunity_difference,
}


def frame(metric, y_true, y_pred, groups):
    return reference.MetricFrame(metrics=metric, y_true=y_true, y_pred=y_pred, sensitive_features=groups)


def precision(y_true, y_pred):
    return precision_score(y_true, y_pred, zero_division=0.0)


def accuracy(y_true, y_pred):
    return float(np.mean(np.asarray(y_true) == np.asarray(y_pred)))


REFERENCES |= {
    "predictive_equality_difference": lambda t, p, sensitive_features: frame(
        reference.false_positive_rate, t, p, sensitive_features
    ).difference(),
    "predictive_parity_difference": lambda t, p, sensitive_features: frame(
        precision, t, p, sensitive_features
    ).difference(),
    "accuracy_gap": lambda t, p, sensitive_features: frame(accuracy, t, p, sensitive_features).difference(),
    "worst_group_accuracy": lambda t, p, sensitive_features: frame(accuracy, t, p, sensitive_features).group_min(),
}


def test_every_gap_has_a_foreign_reference():
    assert set(REFERENCES) == set(m.GAPS)


@pytest.mark.parametrize("name", list(m.GAPS))
@given(counts=ours.full_counts())
def test_gaps_equal_fairlearn_where_all_rates_are_defined(name, counts):
    y_true, y_pred, groups = ours.expand(counts)
    expected = REFERENCES[name](y_true, y_pred, sensitive_features=groups)
    got = m.gap(name, counts)
    np.testing.assert_allclose(got.value, expected, **EXACT)
    assert got.undefined == ()
    np.testing.assert_allclose(m.fairlearn_value(name, counts), expected, **EXACT)


@pytest.mark.parametrize("name", list(m.GAPS))
@given(counts=ours.counts())
def test_fairlearns_value_is_what_fairlearn_says_also_of_empty_cells(name, counts):
    y_true, y_pred, groups = ours.expand(counts)
    if len(groups) < 2:  # fairlearn takes a single row for a scalar
        return
    expected = REFERENCES[name](y_true, y_pred, sensitive_features=groups)
    np.testing.assert_allclose(m.fairlearn_value(name, counts), expected, **EXACT)


RATE_REFERENCES = {
    "selection_rate": lambda t, p: float(np.mean(p)),
    "true_positive_rate": lambda t, p: p[t == 1].mean(),
    "false_positive_rate": lambda t, p: p[t == 0].mean(),
    "false_negative_rate": lambda t, p: 1 - p[t == 1].mean(),
    "precision": lambda t, p: t[p == 1].mean(),
    "accuracy": lambda t, p: (t == p).mean(),
    "balanced_accuracy": lambda t, p: (p[t == 1].mean() + 1 - p[t == 0].mean()) / 2,
}


@pytest.mark.parametrize("name", list(m.RATES))
@given(counts=ours.counts())
def test_rates_are_those_of_the_arrays_and_nan_exactly_where_the_arrays_have_none(name, counts):
    y_true, y_pred, groups = ours.expand(counts)
    rates = m.RATES[name](counts.table)
    assert rates.shape == (len(counts.groups),)
    for group, rate in zip(counts.groups, rates, strict=True):
        rows = groups == group
        with pytest.warns(RuntimeWarning) if np.isnan(rate) else np.errstate(all="raise"):
            expected = RATE_REFERENCES[name](y_true[rows], y_pred[rows])
        np.testing.assert_allclose(rate, expected, **EXACT)


@given(tables=st.lists(ours.tables(groups=3), min_size=1, max_size=4))
def test_many_tables_at_once_are_each_table_alone(tables):
    stacked = np.stack(tables)
    got = m.gap_values(stacked[None])
    assert set(got) == set(m.GAPS)
    for name, values in got.items():
        alone = [m.gap(name, Counts(("a", "b", "c"), ("0", "1"), table)).value for table in tables]
        np.testing.assert_array_equal(values, [alone])


@given(ours.counts(classes=4), st.integers(0, 3))
def test_one_against_rest_on_arrays_is_that_of_counts(counts, index):
    stacked = np.stack([counts.table, counts.table * 2])
    np.testing.assert_array_equal(m.one_vs_rest(stacked, index)[1], 2 * counts.binary(str(index)).table)


def test_a_group_without_positives_is_undefined_and_named_where_fairlearn_says_zero():
    table = np.array([[[5, 1], [2, 8]], [[5, 1], [3, 7]], [[9, 1], [0, 0]]])
    counts = Counts(("a", "b", "c"), ("0", "1"), table)
    gap = m.gap("equal_opportunity_difference", counts)
    np.testing.assert_allclose(gap.value, 0.1, **EXACT)
    assert gap.pair == ("a", "b")
    assert gap.undefined == ("c",)
    y_true, y_pred, groups = ours.expand(counts)
    fairlearn = reference.equal_opportunity_difference(y_true, y_pred, sensitive_features=groups)
    np.testing.assert_allclose(fairlearn, 0.8, **EXACT)
    np.testing.assert_allclose(m.fairlearn_value("equal_opportunity_difference", counts), 0.8, **EXACT)
    odds = m.gap("equalized_odds_difference", counts)
    assert odds.undefined == ("c",)
    np.testing.assert_allclose(odds.value, 0.1, **EXACT)
    assert m.gap("demographic_parity_difference", counts).undefined == ()


def test_an_empty_group_sets_no_gap():
    table = np.array([[[4, 4], [4, 4]], [[0, 0], [0, 0]], [[4, 4], [2, 6]]])
    counts = Counts(("a", "empty", "c"), ("0", "1"), table)
    for name in m.GAPS:
        got = m.gap(name, counts)
        assert got.undefined == ("empty",)
        np.testing.assert_allclose(got.value, m.gap(name, counts.select(["a", "c"])).value, **EXACT)


@pytest.mark.parametrize("name", list(m.GAPS))
def test_one_group_has_no_gap_but_a_worst_accuracy(name):
    got = m.gap(name, Counts(("a",), ("0", "1"), np.array([[[3, 1], [1, 3]]])))
    assert got.pair is None
    if name == "worst_group_accuracy":
        assert got.value == 0.75
    else:
        assert np.isnan(got.value)


def test_odds_are_undefined_if_one_of_the_two_rates_has_no_gap():
    table = np.array([[[4, 4], [4, 4]], [[4, 2], [0, 0]]])
    counts = Counts(("a", "b"), ("0", "1"), table)
    assert np.isnan(m.gap("equalized_odds_difference", counts).value)
    assert m.gap("equalized_odds_difference", counts).undefined == ("b",)
    assert not np.isnan(m.gap("predictive_equality_difference", counts).value)


def test_all_right_all_wrong_and_nobody_selected():
    right = Counts(("a", "b"), ("0", "1"), np.array([[[5, 0], [0, 5]], [[1, 0], [0, 1]]]))
    wrong = Counts(("a", "b"), ("0", "1"), np.array([[[0, 5], [5, 0]], [[0, 1], [1, 0]]]))
    nobody = Counts(("a", "b"), ("0", "1"), np.array([[[5, 0], [5, 0]], [[1, 0], [1, 0]]]))
    for counts, accuracy_ in ((right, 1.0), (wrong, 0.0)):
        assert m.gap("equalized_odds_difference", counts) == m.Gap(0.0, None, (), "true_positive_rate", "1")
        assert m.gap("demographic_parity_ratio", counts).value == 1.0
        assert m.gap("worst_group_accuracy", counts).value == accuracy_
    assert np.isnan(m.gap("demographic_parity_ratio", nobody).value)
    assert m.gap("demographic_parity_difference", nobody).value == 0.0
    assert m.gap("predictive_parity_difference", nobody).undefined == ("a", "b")


def test_the_pair_is_highest_first():
    counts = Counts(("low", "high"), ("0", "1"), np.array([[[9, 1], [0, 0]], [[1, 9], [0, 0]]]))
    assert m.gap("demographic_parity_difference", counts).pair == ("high", "low")
    assert m.gap("demographic_parity_ratio", counts).pair == ("high", "low")


def test_odds_name_the_rate_that_sets_them():
    counts = Counts(("a", "b"), ("0", "1"), np.array([[[5, 5], [5, 5]], [[5, 5], [2, 8]]]))
    assert m.gap("equalized_odds_difference", counts).rate == "true_positive_rate"
    assert m.gap("equalized_odds_difference", counts, "0").rate == "false_positive_rate"


@given(ours.full_counts(classes=3))
def test_of_several_classes_the_worst_counts(counts):
    for name, rule in m.GAPS.items():
        got = m.gap(name, counts)
        if not rule.per_class:
            continue
        each = [m.gap(name, counts, positive).value for positive in counts.classes]
        worst = max(each) if rule.how == "difference" else min(each)
        assert got.value == worst
        assert m.gap(name, counts, got.positive).value == worst
        np.testing.assert_allclose(m.fairlearn_value(name, counts), worst, **EXACT)


@given(ours.full_counts(classes=3))
def test_accuracy_is_over_all_classes(counts):
    y_true, y_pred, groups = ours.expand(counts)
    expected = [np.trace(confusion_matrix(y_true[groups == g], y_pred[groups == g])) for g in counts.groups] / counts.n
    np.testing.assert_allclose(m.accuracy(counts.table), expected, **EXACT)


@given(ours.counts(), st.randoms(use_true_random=False))
def test_names_and_order_of_groups_do_not_matter(counts, random):
    order = list(range(len(counts.groups)))
    random.shuffle(order)
    renamed = Counts(tuple(f"new{i}" for i in order), counts.classes, counts.table[order])
    for name in m.GAPS:
        before, after = m.gap(name, counts), m.gap(name, renamed)
        np.testing.assert_array_equal(after.value, before.value)
        assert {g.removeprefix("new") for g in after.undefined} == {g.removeprefix("g") for g in before.undefined}


@given(ours.counts())
def test_twice_the_same_images_change_no_gap(counts):
    for name in m.GAPS:
        np.testing.assert_allclose(m.gap(name, counts.merge(counts)).value, m.gap(name, counts).value, **EXACT)


def test_an_unknown_gap_gets_a_hint():
    with pytest.raises(InputError, match="did you mean 'accuracy_gap'"):
        m.gap("acuracy_gap", Counts(("a",), ("0", "1"), np.zeros((1, 2, 2))))
