"""AUC against scikit-learn and against its own coverage, calibration error by hand, shifts by definition."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from fqbench.errors import InputError
from fqbench.fairness.scores import auc, expected_calibration_error, score_rows


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.integers(2, 60), st.booleans())
def test_auc_is_scikit_learns_ties_included(seed: int, n: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.4
    scores = rng.integers(0, 4, n).astype(float) if ties else rng.random(n)
    found = auc(truth, scores)
    if truth.all() or not truth.any():
        assert math.isnan(found.value)
        return
    assert found.value == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_a_perfect_auc_has_an_open_end() -> None:
    found = auc(np.array([True] * 5 + [False] * 5), np.arange(10.0)[::-1])
    assert found.value == 1.0
    assert 0.3 < found.low < 0.9


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 12), st.sampled_from([0.8, 0.95, 0.99]))
def test_the_interval_of_auc_is_delongs_by_plain_loops(seed: int, m: int, n: int, confidence: float) -> None:
    """Placements by comparing every pair; the variance of an image alone in its class is the largest possible one."""
    rng = np.random.default_rng(seed)
    positives, negatives = rng.integers(2, 8, m).astype(float), rng.integers(0, 6, n).astype(float)
    wins = np.array([[(x > y) + (x == y) / 2 for y in negatives] for x in positives])
    value = wins.mean()
    variances = [statistics.variance(each) if len(each) > 1 else 0.25 for each in (wins.mean(1), wins.mean(0))]
    variance = variances[0] / m + variances[1] / n
    z = statistics.NormalDist().inv_cdf(1 - (1 - confidence) / 2)
    if value in {0.0, 1.0} or variance == 0:
        slack = z**2 / (min(m, n) + z**2)
        expected = max(0.0, value - slack), min(1.0, value + slack)
    else:
        width = z * math.sqrt(variance) / (value * (1 - value))
        odds = [math.log(value / (1 - value)) + sign * width for sign in (-1, 1)]
        expected = tuple(0.5 + math.tanh(each / 2) / 2 for each in odds)
    order = rng.permutation(m + n)
    found = auc((np.arange(m + n) < m)[order], np.concatenate([positives, negatives])[order], confidence)
    assert (found.value, found.n) == (pytest.approx(value), m + n)
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-9)


@pytest.mark.slow
def test_the_interval_of_auc_covers() -> None:
    """Two normal distributions: the area is known, Phi(d / sqrt(2))."""
    rng, runs, d = np.random.default_rng(3), 2000, 1.2
    true = 0.5 * (1 + math.erf(d / 2))
    covered = 0
    for _ in range(runs):
        scores = np.concatenate([rng.normal(d, 1, 40), rng.normal(0, 1, 60)])
        found = auc(np.arange(100) < 40, scores)
        covered += found.low <= true <= found.high
    assert 0.93 <= covered / runs <= 0.97, binomtest(covered, runs, 0.95)


def test_calibration_error_by_hand() -> None:
    chances = np.array([[0.1, 0.9], [0.1, 0.9], [0.4, 0.6], [0.4, 0.6]])
    labels = np.array([1, 0, 1, 1])
    assert expected_calibration_error(labels, chances) == pytest.approx(abs(0.5 - 0.9) / 2 + abs(1 - 0.6) / 2)
    assert math.isnan(expected_calibration_error(labels[:0], chances[:0]))


def test_a_calibration_bin_holds_its_upper_end() -> None:
    """0.6 is the end of the ninth of 15 bins: it falls into the same bin as 0.55, and not into that of 0.65."""
    for other, expected in ((0.55, abs(0.6 - 1 + 0.55) / 2), (0.65, (0.4 + 0.65) / 2)):
        chances = np.array([[0.4, 0.6], [1 - other, other]])
        assert expected_calibration_error(np.array([1, 0]), chances) == pytest.approx(expected), other


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 80), st.integers(2, 4))
def test_calibration_error_by_plain_loops(seed: int, n: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    chances, labels = rng.dirichlet(np.full(classes, 0.5), n), rng.integers(0, classes, n)
    total = 0.0
    for number in range(15):
        inside = [row for row in range(n) if number / 15 < chances[row].max() <= (number + 1) / 15]
        right = sum(int(chances[row].argmax()) == labels[row] for row in inside)
        total += abs(right - sum(chances[row].max() for row in inside)) / n
    assert expected_calibration_error(labels, chances) == pytest.approx(total)


def test_rows_by_group_and_all() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1, (60, 2)).astype(np.float32)
    labels, groups = rng.integers(0, 2, 60), np.repeat(["a", "b", "c"], 20)
    moved = logits + np.where(groups == "b", 0.5, 0.0)[:, None].astype(np.float32)
    rows = score_rows(labels, moved, groups, positive=1, reference=logits)
    assert [row.group for row in rows] == ["a", "b", "c", "all"]
    assert [round(row.logit_shift, 6) for row in rows] == [0.0, 0.5, 0.0, pytest.approx(1 / 6, abs=1e-6)]
    assert rows[1].largest_logit_shift == pytest.approx(0.5, abs=1e-6)
    assert rows[0].margin == pytest.approx(np.abs(np.diff(logits[:20].astype(float), axis=1)).mean())
    order = rng.permutation(60)
    again = score_rows(labels[order], moved[order], groups[order], positive=1, reference=logits[order])
    assert [row.auc.value for row in again] == pytest.approx([row.auc.value for row in rows])


def test_one_class_in_a_group_is_undefined_not_half() -> None:
    logits = np.zeros((4, 2), np.float32)
    rows = score_rows(np.array([1, 1, 0, 1]), logits, np.array(["a", "a", "b", "b"]), positive=1)
    assert math.isnan(rows[0].auc.value)
    assert rows[1].auc.value == 0.5
    with pytest.raises(InputError, match="differ in length"):
        score_rows(np.array([1]), logits, np.array(["a"] * 4), positive=1)
