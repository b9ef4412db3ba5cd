from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests

from fqbench.errors import InputError
from fqbench.fairness import hypothesis_tests as ht
from fqbench.fairness.intervals import paired_difference

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_statsmodels(b, c):
    expected = statsmodels_mcnemar([[5, b], [c, 5]], exact=True).pvalue if b + c else 1.0
    np.testing.assert_allclose(ht.mcnemar(b, c), expected, rtol=1e-9)


@pytest.mark.parametrize(("ours", "theirs"), [("holm", "holm"), ("benjamini-hochberg", "fdr_bh")])
@given(p=P_VALUES)
def test_corrections_are_statsmodels(ours, theirs, p):
    np.testing.assert_allclose(ht.adjust(p, ours), multipletests(p, method=theirs)[1], rtol=1e-12, atol=1e-300)


@given(P_VALUES)
def test_an_undefined_rate_is_no_test(p):
    for correction in ("holm", "benjamini-hochberg", "none"):
        got = ht.adjust([float("nan"), *p, float("nan")], correction)
        assert np.isnan(got[[0, -1]]).all()
        np.testing.assert_array_equal(got[1:-1], ht.adjust(p, correction))


def test_an_unknown_correction_is_named():
    with pytest.raises(InputError, match="no correction 'bonferroni'"):
        ht.adjust([0.1], "bonferroni")


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 2_000), st.floats(0.005, 0.3))
def test_equivalence_is_the_ninety_percent_interval_within_the_margin(b, c, same, margin):
    n = b + c + same
    p = ht.equivalence(b, c, n, margin)
    if n == 0:
        assert np.isnan(p)
        return
    low, high = paired_difference(b, c, n, 0.9)
    distance = min(abs(-margin - low), abs(high - margin))
    if distance > 1e-9:
        assert (p <= 0.05) == (-margin < low and high < margin)


@pytest.mark.parametrize("margin", [0, 1, -0.1])
def test_a_margin_is_between_zero_and_one(margin):
    with pytest.raises(InputError, match="margin of equivalence"):
        ht.equivalence(1, 1, 10, margin)


def decide(b, c, n, margin=0.01):
    change = (b - c) / n
    variance = (b + c + 2) / (n + 2) - change**2
    p = float(ht.equivalence(b, c, n, margin)), float(ht.mcnemar(b, c))
    return ht.verdict(*p, margin=margin, change=change, variance=variance)


def test_verdicts():
    assert decide(10, 10, 10_000).answer == "equivalent"
    assert decide(2, 60, 1_000).answer == "different"
    assert decide(60, 2, 1_000).answer == "different"
    real_but_harmless = decide(10, 50, 20_000)
    assert real_but_harmless.p_different < 0.001
    assert real_but_harmless.answer == "equivalent"
    few = decide(0, 0, 30)
    assert few.answer == "undecided"
    assert few.images_needed > 200


@pytest.mark.parametrize(
    ("p_equivalent", "p_different", "answer"),
    [(0.05, 0.001, "equivalent"), (0.051, 0.05, "different"), (0.051, 0.051, "undecided")],
)
def test_a_verdict_is_given_at_the_level(p_equivalent, p_different, answer):
    got = ht.verdict(p_equivalent, p_different, margin=0.01, change=0.0, variance=0.02)
    assert got.answer == answer
    assert np.isnan(got.images_needed) == (answer != "undecided")


def test_an_undefined_change_is_undecided_and_needs_no_number():
    nan = float("nan")
    got = ht.verdict(nan, nan, margin=0.01, change=nan, variance=nan)
    assert got.answer == "undecided"
    assert np.isnan(got.images_needed)


def answers(gain, loss, n, *, simulations=4_000, margin=0.01, seed=0):
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(n, [gain, loss, 1 - gain - loss], size=simulations)
    b, c = draws[:, 0], draws[:, 1]
    equivalent = ht.equivalence(b, c, n, margin) <= 0.05
    return equivalent, ~equivalent & (ht.mcnemar(b, c) <= 0.05)


@pytest.mark.parametrize("n", [30, 300, 3_000, 30_000])
def test_nothing_changed_is_called_different_at_most_at_the_level(n):
    _, different = answers(0.02, 0.02, n)
    assert stats.binomtest(int(different.sum()), len(different), 0.05, alternative="greater").pvalue > 1e-3


@pytest.mark.parametrize("n", [30, 300, 3_000, 30_000])
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_change_on_the_margin_is_called_equivalent_at_most_at_the_level(n, sign):
    gain, loss = (0.03, 0.02) if sign > 0 else (0.02, 0.03)
    equivalent, _ = answers(gain, loss, n)
    assert stats.binomtest(int(equivalent.sum()), len(equivalent), 0.05, alternative="greater").pvalue > 1e-3


@pytest.mark.parametrize(("gain", "loss"), [(0.01, 0.01), (0.01, 0.013), (0.01, 0.05), (0.01, 0.022)])
def test_as_many_images_as_said_decide_at_eighty_percent(gain, loss):
    change, flips = gain - loss, gain + loss
    on_margin = ht.variance_on_the_margin(gain, loss, 0.01)
    n = int(ht.images_to_decide(change, flips - change**2, 0.01, margin_variance=on_margin))
    equivalent, different = answers(gain, loss, n)
    assert np.mean(equivalent | different) == pytest.approx(0.8, abs=0.06)
    equivalent, different = answers(gain, loss, n // 2)
    assert np.mean(equivalent | different) < 0.7


def test_variance_on_the_margin_is_that_of_the_score():
    n, gain, loss = 1_000_000, 0.012, 0.01
    score = ht.paired_score(n * gain, n * loss, n, 0.01)
    expected = (n * (gain - loss - 0.01) / score) ** 2 / n
    assert ht.variance_on_the_margin(gain, loss, 0.01) >= expected * (1 - 1e-9)
    assert ht.variance_on_the_margin(0.01, 0.01, 1e-6) == pytest.approx(0.02, rel=1e-3)


def test_more_noise_or_a_smaller_margin_need_more_images():
    base = ht.images_to_decide(0.0, 0.02, 0.01)
    assert ht.images_to_decide(0.0, 0.04, 0.01) == pytest.approx(2 * base, rel=0.02)
    assert ht.images_to_decide(0.0, 0.02, 0.005) == pytest.approx(4 * base, rel=0.02)
    assert ht.images_to_decide(0.0, 0.02, 0.01, power=0.9) > base
