"""Change of cross-entropy and KL divergence per group: values, intervals, degenerate answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from fqbench.errors import DataError, InputError
from fqbench.fairness.hypothesis_tests import mcnemar
from fqbench.fairness.paired_scores import _untransformed, mean_estimate, paired_score_rows


def logits(n, seed=0, classes=3):
    return np.random.default_rng(seed).normal(0, 2, (n, classes)).astype(np.float32)


def test_values_are_those_of_scipy():
    before, after, labels = logits(40), logits(40, 1), np.arange(40) % 3
    groups = np.where(np.arange(40) < 15, "b", "a")
    rows = paired_score_rows(before, after, labels, groups)
    assert [(row.group, row.n) for row in rows] == [("a", 25), ("b", 15), ("all", 40)]
    p, q = (special.softmax(each.astype(np.float64), axis=1) for each in (before, after))
    for row, mask in zip(rows, (groups == "a", groups == "b", groups != ""), strict=True):
        divergence = stats.entropy(p[mask], q[mask], axis=1)
        assert row.kl_divergence.value == pytest.approx(divergence.mean())
        change = np.log(p / q)[mask][np.arange(mask.sum()), labels[mask]]
        assert row.cross_entropy_change.value == pytest.approx(change.mean())
        expected = stats.ttest_1samp(change, 0).confidence_interval(0.95)
        estimate = row.cross_entropy_change
        assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high))
        assert 0 <= row.kl_divergence.low <= row.kl_divergence.value <= row.kl_divergence.high


def test_a_loss_of_confidence_in_the_true_class_is_above_zero_and_the_confidence_level_counts():
    before = np.array([[0.0, 2.0], [2.0, 0.0], [0.0, 1.0]])
    (row, _) = paired_score_rows(before, before / 2, [1, 0, 1], ["a"] * 3)
    assert row.cross_entropy_change.value > 0
    (wide, _) = paired_score_rows(before, before / 2, [1, 0, 1], ["a"] * 3, confidence=0.99)
    assert wide.cross_entropy_change.high > row.cross_entropy_change.high
    assert wide.kl_divergence.high > row.kl_divergence.high


def test_groups_without_images_with_one_image_and_with_identical_answers():
    before, after = logits(3), logits(3)
    after[0] += [1, 0, 0]
    rows = paired_score_rows(before, after, [0, 1, 2], ["one", "same", "same"], known_groups=["none", "one", "same"])
    none, one, same, whole = rows
    for estimate in (none.cross_entropy_change, none.kl_divergence):
        assert estimate.n == 0
        assert math.isnan(estimate.value)
    assert one.cross_entropy_change.value < 0 < one.kl_divergence.value
    assert math.isnan(one.kl_divergence.low)
    assert math.isnan(one.cross_entropy_change.high)
    assert [(each.value, each.low, each.high) for each in (same.kl_divergence, same.cross_entropy_change)] == [
        (0.0, 0.0, 0.0)
    ] * 2
    assert whole.n == 3
    (empty,) = paired_score_rows(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0, int), [])
    assert (empty.group, empty.n) == ("all", 0)


def test_saturated_probabilities_are_finite_and_exact():
    before = np.array([[0.0, 1e4], [0.0, 3e38]], dtype=np.float32)
    after = np.array([[1e4, 0.0], [0.0, 3e38]], dtype=np.float32)
    *_, whole = paired_score_rows(before, after, [1, 1], ["a", "b"])
    assert whole.kl_divergence.value == pytest.approx(1e4 / 2)
    assert whole.cross_entropy_change.value == pytest.approx(1e4 / 2)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_logits_that_are_not_finite_are_refused(bad):
    broken = logits(4)
    broken[2, 1] = bad
    for pair in ((broken, logits(4)), (logits(4), broken)):
        with pytest.raises(DataError, match="not finite"):
            paired_score_rows(*pair, [0, 1, 2, 0], ["a"] * 4)


def test_shapes_and_labels_are_checked():
    with pytest.raises(InputError, match="logits"):
        paired_score_rows(logits(4), logits(5), [0] * 4, ["a"] * 4)
    with pytest.raises(InputError, match="4 rows of logits, 3 labels and 4 groups"):
        paired_score_rows(logits(4), logits(4), [0] * 3, ["a"] * 4)
    with pytest.raises(InputError, match="4 rows of logits, 4 labels and 5 groups"):
        paired_score_rows(logits(4), logits(4), [0] * 4, ["a"] * 5)
    for label in (-1, 3):
        with pytest.raises(InputError, match="classes from 0 to 2"):
            paired_score_rows(logits(4), logits(4), [0, 1, 2, label], ["a"] * 4)


@given(st.floats(-20, 20), st.floats(-4, 4), st.integers(2, 1000))
def test_the_inverse_of_halls_transformation_solves_it(x, skewness, n):
    g = skewness
    quantile = x + g * x**2 / 3 + g**2 * x**3 / 27 + g / (6 * n)
    assert _untransformed(quantile, g, n) == pytest.approx(x, abs=1e-4, rel=1e-6)


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=50), st.booleans())
def test_an_interval_holds_its_mean(values, skewed):
    estimate = mean_estimate(np.array(values), skewed=skewed)
    assert estimate.low <= estimate.value <= estimate.high
    assert estimate.n == len(values)


def test_without_skewness_halls_interval_is_students():
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    plain, hall = (mean_estimate(values, skewed=flag) for flag in (False, True))
    assert (plain.low, plain.high) == pytest.approx((hall.low, hall.high))


def quantized(rng, n, noise=0.3):
    """Logits of two classes, right for nine of ten, and the same with rounding noise of a size that varies by image."""
    labels = rng.integers(0, 2, n)
    margin = rng.normal(2.5, 2, n) * np.where(labels, 1, -1)
    before = np.stack([-margin / 2, margin / 2], axis=1)
    return labels, before, before + rng.normal(0, noise, (n, 2))


@pytest.mark.slow
@pytest.mark.parametrize("n", [30, 100, 300])
def test_intervals_cover(n):
    rng = np.random.default_rng(3)
    labels, before, after = quantized(rng, 300_000)
    truth = paired_score_rows(before, after, labels, np.full(len(labels), "a"))[-1]
    hits = np.zeros(2)
    for _ in range(1_000):
        rows = rng.integers(0, len(labels), n)
        *_, row = paired_score_rows(before[rows], after[rows], labels[rows], np.full(n, "a"))
        for i, name in enumerate(("cross_entropy_change", "kl_divergence")):
            estimate = getattr(row, name)
            hits[i] += estimate.low <= getattr(truth, name).value <= estimate.high
    # 1,000 simulations: two points are three standard errors
    assert ((hits / 1_000 >= 0.92) & (hits / 1_000 <= 0.98)).all()


def test_they_show_a_change_with_far_fewer_images_than_flips_do():
    """The logits shrink by a tenth: with 300 images the change of cross-entropy is significant, flips say nothing."""
    labels, before, _ = quantized(np.random.default_rng(1), 300)
    after = 0.9 * before
    *_, row = paired_score_rows(before, after, labels, np.full(300, "a"))
    right = [logits.argmax(axis=1) == labels for logits in (before, after)]
    assert mcnemar((right[1] & ~right[0]).sum(), (right[0] & ~right[1]).sum()) == 1.0
    assert row.cross_entropy_change.low > 0 or row.cross_entropy_change.high < 0
    assert row.kl_divergence.low > 0
