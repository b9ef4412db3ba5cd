from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, special, stats
from statsmodels.stats.proportion import proportion_confint

from fqbench.fairness import intervals as iv
from fqbench.fairness import metrics as m

CONFIDENCE = st.sampled_from([0.8, 0.95, 0.99])


def rng(seed=0):
    return np.random.default_rng(seed)


@given(st.integers(1, 10**6), st.floats(0, 1), CONFIDENCE)
def test_wilson_is_statsmodels(n, share, confidence):
    x = round(n * share)
    low, high = iv.wilson(x, n, confidence)
    expected = proportion_confint(x, n, alpha=1 - confidence, method="wilson")
    np.testing.assert_allclose([low, high], expected, rtol=1e-9, atol=1e-12)


def test_wilson_takes_arrays_and_leaves_no_trials_undefined():
    low, high = iv.wilson([[0, 5, 5]], [[0], [5]])
    assert low.shape == (2, 3)
    assert np.isnan(low[0]).all()
    assert np.isnan(high[0]).all()
    assert low[1, 0] == 0.0
    assert high[1, 1] == 1.0
    assert 0 < high[1, 0] < 1  # none of five is not none ever


def coverage_of_wilson(p, n, confidence=0.95):
    x = np.arange(n + 1)
    low, high = iv.wilson(x, n, confidence)
    return float(stats.binom.pmf(x, n, p)[(low <= p) & (p <= high)].sum())


@pytest.mark.parametrize("n", [30, 100, 300, 1_000, 3_000])
def test_wilson_covers_at_its_level_on_average_over_rates(n):
    grid = np.linspace(0.02, 0.98, 97)
    assert 0.94 <= np.mean([coverage_of_wilson(p, n) for p in grid]) <= 0.965


def test_resampling_keeps_the_size_of_every_group_and_leaves_empty_cells_empty():
    table = np.array([[[3, 0], [2, 5]], [[0, 0], [0, 0]], [[0, 7], [0, 0]]])
    draws = np.concatenate(list(iv.resample(table, 500, rng())))
    assert draws.shape == (500, 3, 2, 2)
    assert (draws.sum(axis=(2, 3)) == [10, 0, 7]).all()
    assert (draws[:, 0, 0, 1] == 0).all()
    assert (draws[:, 2] == table[2]).all()
    assert draws[:, 0, 1, 1].std() > 0.5


def test_resampling_has_the_moments_of_a_multinomial():
    table = np.array([[[30, 20], [10, 40]], [[5, 5], [0, 90]]])
    draws = np.concatenate(list(iv.resample(table, 20_000, rng()))).reshape(20_000, 2, 4)
    p = table.reshape(2, 4) / 100
    np.testing.assert_allclose(draws.mean(axis=0), 100 * p, atol=0.15)
    for group in range(2):
        covariance = 100 * (np.diag(p[group]) - np.outer(p[group], p[group]))
        np.testing.assert_allclose(np.cov(draws[:, group].T), covariance, atol=0.8)


def test_standard_error_of_an_accuracy_is_that_of_a_proportion():
    table = np.array([[[400, 60], [40, 500]]])
    draws = np.concatenate(list(iv.resample(table, 20_000, rng())))
    np.testing.assert_allclose(m.accuracy(draws).std(), np.sqrt(0.9 * 0.1 / 1_000), rtol=0.03)


def test_chunks_give_the_replicates_of_one_draw(monkeypatch):
    table = np.array([[[30, 20], [10, 40]], [[5, 5], [0, 90]]])
    whole = list(iv.resample(table, 100, rng(3)))
    monkeypatch.setattr(iv, "CHUNK_BYTES", table.size * 8 * 7)
    parts = list(iv.resample(table, 100, rng(3)))
    assert len(whole) == 1
    assert [len(part) for part in parts] == [7] * 14 + [2]
    assert np.array_equal(np.concatenate(parts), whole[0])


def test_pseudo_counts_let_empty_cells_fill_but_draw_no_more_images():
    table = np.array([[[10, 0], [0, 10]]])
    draws = np.concatenate(list(iv.resample(table, 2_000, rng(), pseudo_count=0.5)))
    assert (draws.sum(axis=(1, 2, 3)) == 20).all()
    np.testing.assert_allclose(draws[:, 0, 0, 1].mean(), 20 * 0.5 / 22, atol=0.08)


def test_a_percentile_interval_holds_the_middle_of_the_replicates():
    assert iv.percentile(np.linspace(-1, 1, 1_001), 0.9) == pytest.approx((-0.9, 0.9))


@pytest.mark.parametrize("values", [np.array([]), np.array([0.1, np.nan])])
def test_no_interval_from_undefined_replicates(values):
    assert np.isnan(iv.percentile(values)).all()


def test_tangos_interval_is_the_published_one():
    # Bentur et al. (2009), airway hyper-responsiveness before and after transplantation, in Fagerland, Lydersen and
    # Laake (2014), table 5; R: contingencytables::Tango_asymptotic_score_CI_paired_2x2(bentur_2009)
    low, high = iv.paired_difference(1, 7, 21)
    assert (round(float(low), 3), round(float(high), 3)) == (-0.517, -0.026)
    # R: PropCIs::scoreci.mp(25, 28, 618, conf.level = 0.9), whose estimate is (second - first) / n
    low, high = iv.paired_difference(28, 25, 618, 0.9)
    assert (round(float(low), 4), round(float(high), 4)) == (-0.0148, 0.0247)


def restricted_score(b, c, n, difference):
    """The score statistic with the constrained estimate found by a general optimiser."""

    def minus_log_likelihood(q):
        gain, same = q + difference, 1 - 2 * q - difference
        return -(special.xlogy(b, gain) + special.xlogy(c, q) + special.xlogy(n - b - c, same))

    lowest, highest = max(0, -difference), (1 - difference) / 2
    q = optimize.minimize_scalar(minus_log_likelihood, bounds=(lowest, highest), options={"xatol": 1e-12}).x
    return (b - c - n * difference) / np.sqrt(n * (2 * q + difference - difference**2))


@pytest.mark.parametrize(("b", "c", "n"), [(5, 27, 1_000), (3, 3, 40), (0, 4, 50), (12, 1, 30)])
def test_tangos_score_is_that_of_the_restricted_likelihood(b, c, n):
    for difference in (-0.2, -0.03, 0.02, 0.3):
        expected = restricted_score(b, c, n, difference)
        np.testing.assert_allclose(iv.paired_score(b, c, n, difference), expected, rtol=1e-4)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 400), CONFIDENCE)
def test_tangos_limits_solve_the_score_equation(b, c, same, confidence):
    n = b + c + same
    low, high = iv.paired_difference(b, c, n, confidence)
    if n == 0:
        assert np.isnan([low, high]).all()
        return
    z = stats.norm.ppf(0.5 + confidence / 2)
    if low > -1 + 1e-9:
        np.testing.assert_allclose(iv.paired_score(b, c, n, low), z, rtol=1e-5)
    if high < 1 - 1e-9:
        np.testing.assert_allclose(iv.paired_score(b, c, n, high), -z, rtol=1e-5)
    assert low <= (b - c) / n <= high
    mirrored = iv.paired_difference(c, b, n, confidence)
    np.testing.assert_allclose([-mirrored[1], -mirrored[0]], [low, high], atol=1e-12)


def test_no_flips_among_thirty_images_do_not_prove_that_there_are_none():
    low, high = iv.paired_difference(0, 0, 30)
    assert high == pytest.approx(stats.norm.ppf(0.975) ** 2 / (30 + stats.norm.ppf(0.975) ** 2))
    assert low == pytest.approx(-high)


@pytest.mark.parametrize(("n", "gain", "loss"), [(30, 0.15, 0.3), (300, 0.02, 0.06), (3_000, 0.001, 0.004)])
def test_tangos_interval_covers(n, gain, loss):
    draws = rng(n).multinomial(n, [gain, loss, 1 - gain - loss], size=20_000)
    low, high = iv.paired_difference(draws[:, 0], draws[:, 1], n)
    covered = np.mean((low <= gain - loss) & (gain - loss <= high))
    assert 0.93 <= covered <= 0.97
