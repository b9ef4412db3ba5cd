from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from fqbench.fairness import gap_intervals as gi
from fqbench.fairness.intervals import wilson
from fqbench.fairness.metrics import GAPS
from fqbench.testing.sampling import sampled

DIFFERENCE, RATIO, WORST = (
    GAPS[name] for name in ("demographic_parity_difference", "demographic_parity_ratio", "worst_group_accuracy")
)


def rng(seed=0):
    return np.random.default_rng(seed)


def parts(successes, n, replicates=2_000, seed=0):
    return [gi.part(successes, n, rng(seed), replicates)]


@st.composite
def proportions(draw):
    n = draw(st.lists(st.integers(1, 200), min_size=2, max_size=6))
    return [draw(st.integers(0, each)) for each in n], n


@given(proportions())
def test_intervals_hold_the_gap_as_seen_and_stay_within_bounds(data):
    x, n = (np.asarray(each) for each in data)
    made = parts(x, n, replicates=200)
    rates = x / n
    for rule, value in ((DIFFERENCE, np.ptp(rates)), (WORST, rates.min())):
        low, high = gi.gap_interval(rule, made)
        assert 0 <= low <= value <= high <= 1
    if rates.max() > 0:
        low, high = gi.gap_interval(RATIO, made)
        assert 0 <= low <= rates.min() / rates.max() <= high <= 1


@given(proportions(), st.randoms(use_true_random=False))
def test_order_of_groups_does_not_matter_for_what_is_not_drawn(data, random):
    x, n = data
    order = list(range(len(n)))
    random.shuffle(order)
    first, second = parts(x, n, 10), parts([x[i] for i in order], [n[i] for i in order], 10)
    for rule in (DIFFERENCE, WORST):
        np.testing.assert_allclose(gi.debiased(rule, first), gi.debiased(rule, second), atol=1e-12)
    assert gi.gap_interval(WORST, first) == pytest.approx(gi.gap_interval(WORST, second))


def test_order_of_groups_matters_only_as_much_as_the_draw():
    x, n = [90, 40, 160, 75], [100, 60, 180, 90]
    first = gi.gap_interval(DIFFERENCE, parts(x, n, 40_000))
    second = gi.gap_interval(DIFFERENCE, parts(x[::-1], n[::-1], 40_000, seed=1))
    np.testing.assert_allclose(first, second, atol=0.004)


def test_groups_without_trials_are_left_out():
    with_, without = parts([5, 0, 8], [10, 0, 10], 50), parts([5, 8], [10, 10], 50)
    assert gi.gap_interval(DIFFERENCE, with_) == gi.gap_interval(DIFFERENCE, without)
    assert len(with_[0].n) == 2


def test_with_many_images_a_gap_of_two_groups_is_a_difference_of_proportions():
    x, n = np.array([6_000, 5_000]), np.array([10_000, 10_000])
    low, high = gi.gap_interval(DIFFERENCE, parts(x, n, 50_000))
    half = 1.959964 * np.sqrt(0.6 * 0.4 / 10_000 + 0.25 / 10_000)
    np.testing.assert_allclose([low, high], [0.1 - half, 0.1 + half], atol=3e-4)


def error_of_a_difference(x, n):
    """Distribution function of the error of two rates' difference: binomial, each spread evenly over its step 1/n."""
    smooth, both, apart = (x + 0.5) / (n + 1), (1 / n).sum() / 2, abs(1 / n[0] - 1 / n[1]) / 2
    chances = np.outer(*(stats.binom.pmf(np.arange(k + 1), k, p) for k, p in zip(n, smooth, strict=True)))
    centres = np.subtract.outer(*(np.arange(k + 1) / k - p for k, p in zip(n, smooth, strict=True)))

    def below(end):  # the difference of two even spreads is a trapezoid: its integral, around each centre
        outer, inner = (sum(np.maximum(end - centres + at, 0) ** 2 for at in (w, -w)) for w in (both, apart))
        return ((outer - inner) * chances).sum() * n.prod() / 2

    return below


@pytest.mark.parametrize(("x", "n", "nothing"), [([15, 6], [24, 20], True), ([14, 6], [20, 20], False)])
def test_an_interval_of_few_images_is_that_of_the_exact_distribution_with_half_a_step_allowed(x, n, nothing):
    x, n = np.array(x), np.array(n)
    below, gap, half = error_of_a_difference(x, n), np.ptp(x / n), (1 / n).sum() / 4

    def too_close(true):
        return 1 - below(gap - half - true) + below(half - gap - true) - 0.025

    def too_far(true):
        return below(gap + half - true) - below(-gap - half - true) - 0.025

    low = 0.0 if too_close(0.0) > 0 else optimize.brentq(too_close, 0.0, gap)
    assert (low == 0.0) == nothing
    expected = [low, optimize.brentq(too_far, gap, 2.0)]
    np.testing.assert_allclose(gi.gap_interval(DIFFERENCE, parts(x, n, 50_000)), expected, atol=0.008)


def test_five_right_of_five_are_not_certain():
    low, high = gi.gap_interval(DIFFERENCE, parts([5, 5], [5, 5]))
    assert low == 0.0
    assert high > 0.3
    low, high = gi.gap_interval(RATIO, parts([5, 5], [5, 5]))
    assert low < 0.7
    assert high == 1.0


def test_the_worst_group_is_bounded_by_wilson():
    x, n = np.array([90, 45, 10]), np.array([100, 60, 10])
    low, high = gi.gap_interval(WORST, parts(x, n, 10))
    assert low == wilson(x, n)[0].min()
    assert high == wilson(x, n, 1 - 0.05 / 3)[1].min()


def test_noise_floor_of_two_groups_is_that_of_a_normal_difference():
    n, p = 2_000, 0.3
    floor = gi.noise_floor(DIFFERENCE, parts([600, 600], [n, n], 50_000))
    sigma = np.sqrt(2 * p * (1 - p) / n)
    np.testing.assert_allclose(floor.mean, sigma * np.sqrt(2 / np.pi), rtol=0.02)
    np.testing.assert_allclose(floor.limit, 1.959964 * sigma, rtol=0.03)
    assert floor.chance == 1.0
    assert gi.noise_floor(DIFFERENCE, parts([600, 800], [n, n])).chance == pytest.approx(1 / 2_001)


def test_noise_floor_of_the_worst_group_is_below_the_pooled_rate():
    floor = gi.noise_floor(WORST, parts([80] * 10, [100] * 10, 5_000))
    assert floor.limit < floor.mean < 0.8
    assert floor.chance > 0.99


@pytest.mark.slow
def test_chance_is_uniform_when_there_is_no_difference():
    source = rng(4)
    chances = [
        gi.noise_floor(DIFFERENCE, parts(source.binomial(n, 0.3), n, 300, seed)).chance
        for seed, n in ((seed, np.array([400, 900, 1_500])) for seed in range(1_500))
    ]
    for level in (0.05, 0.2, 0.5):
        assert np.mean(np.asarray(chances) <= level) == pytest.approx(level, abs=3.5 * np.sqrt(level * 0.95 / 1_500))


def test_the_variance_of_rates_pulled_together_is_unbiased_where_the_naive_one_is_not():
    truth, n, source = np.array([0.5, 0.7, 0.9]), np.array([30, 50, 80]), rng(7)
    draws = source.binomial(n, truth, size=(10_000, 3))
    ours = np.mean([gi.part(x, n, rng(), 1).pulled_together().var(ddof=1) for x in draws])
    np.testing.assert_allclose(ours, truth.var(ddof=1), rtol=0.02)
    assert (draws / n).var(axis=1, ddof=1).mean() > 1.1 * truth.var(ddof=1)


def test_debiased_gap_of_two_groups_is_the_formula():
    x, n = np.array([60, 70]), np.array([90, 80])
    rates = x / n
    noise = (rates * (1 - rates) / (n - 1)).sum()
    expected = np.sqrt((rates[0] - rates[1]) ** 2 - noise)
    np.testing.assert_allclose(gi.debiased(DIFFERENCE, parts(x, n, 5)), expected, atol=1e-12)
    assert gi.debiased(DIFFERENCE, parts([50, 51], [100, 100], 5)) == 0.0
    assert gi.debiased(RATIO, parts([50, 51], [100, 100], 5)) == 1.0


def test_debiased_gap_is_nearer_the_truth():
    truth, n, source = np.full(14, 0.85), np.full(14, 100), rng(11)
    draws = source.binomial(n, truth, size=(400, 14))
    naive = np.mean(np.ptp(draws / n, axis=1))
    ours = np.mean([gi.debiased(DIFFERENCE, parts(x, n, 2)) for x in draws])
    assert naive > 0.11
    assert ours < naive / 2


TRUTHS = {
    "equal": lambda k: np.full(k, 0.85),
    "close": lambda k: np.linspace(0.83, 0.87, k),
    "line": lambda k: np.linspace(0.7, 0.95, k),
    "one apart": lambda k: np.r_[np.full(k - 1, 0.9), 0.75],
    "one ahead": lambda k: np.r_[np.full(k - 1, 0.9), 0.97],
}


def coverage(rule, truth, n, *, simulations=500, replicates=600):
    source, hits = rng(17), 0
    value = {"difference": np.ptp(truth), "ratio": truth.min() / truth.max(), "minimum": truth.min()}[rule.how]
    for seed in range(simulations):
        low, high = gi.gap_interval(rule, parts(source.binomial(n, truth), np.full(len(truth), n), replicates, seed))
        hits += low - 1e-9 <= value <= high + 1e-9
    return hits / simulations


SIZES = [(2, 300), (4, 30), (8, 1_000), (9, 1_000), (14, 100), (14, 1_000)]


@pytest.mark.slow
@pytest.mark.parametrize(("size", "shape"), sampled(list(product(SIZES, TRUTHS)), 0.25))
def test_intervals_of_gaps_cover(size, shape):
    groups, n = size
    truth = TRUTHS[shape](groups)
    for rule in (DIFFERENCE, RATIO, WORST):
        # 500 simulations: three standard errors below 95 % are 92 %; above it there is no harm
        assert coverage(rule, truth, n) >= (0.88 if (shape, groups) == ("one ahead", 8) else 0.92)


def test_over_many_groups_the_level_is_halved(monkeypatch):
    made = parts(np.array([900] * 8 + [970]), np.full(9, 1_000))
    ours = {rule.name: gi.gap_interval(rule, made, 0.95) for rule in (DIFFERENCE, RATIO, WORST)}
    monkeypatch.setattr(gi, "MANY_GROUPS", 9)
    for rule, confidence in ((DIFFERENCE, 0.975), (RATIO, 0.975), (WORST, 0.95)):
        assert ours[rule.name] == gi.gap_interval(rule, made, confidence)
