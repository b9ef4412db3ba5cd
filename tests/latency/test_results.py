"""Intervals of latency figures: against scipy, against theory, and their coverage in simulation."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from fqbench.latency.interval import Interval
from fqbench.latency.statistics import quantile_estimate, resampled_rounds, round_figures

times = st.lists(st.integers(1, 10**9), min_size=5, max_size=80).map(lambda values: np.array(values, np.int64))


def ratio_of(values: NDArray[np.int64], *, replicates: int = 500, seed: int = 0) -> Interval:
    figures = round_figures(values, batch=1, reference=0, confidence=0.95, replicates=replicates, seed=seed)
    ratio = figures[1][1]
    assert ratio is not None
    return ratio


def simulated(rounds: int, generator: np.random.Generator, *, disturbed: bool) -> NDArray[np.int64]:
    """Two subjects with medians 2 ms and 1 ms; disturbances last several rounds and hit both."""
    noise = np.exp(0.1 * generator.standard_normal((2, rounds)))
    disturbance = np.ones(rounds)
    if disturbed:
        state = stats.norm.cdf(np.convolve(generator.standard_normal(rounds + 9), np.ones(10) / math.sqrt(10), "valid"))
        disturbance = 1 + 0.5 * (state > 0.8)
    return (np.array([[2e6], [1e6]]) * noise * disturbance).astype(np.int64)


def test_the_interval_of_a_median_begins_with_six_values() -> None:
    """Of 6 values the extremes hold the median with 96.9 %, of 5 with 93.8 % only (the sign test's tables)."""
    assert quantile_estimate(np.arange(1, 7), 0.5, 0.95) == Interval(3.5, 1.0, 6.0)
    assert quantile_estimate(np.arange(1, 6), 0.5, 0.95) == Interval(3.0, 0.0, math.inf)


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("n", [50, 400, 2001])
def test_quantile_interval_is_scipys(quantile: float, n: int) -> None:
    values = (np.random.default_rng(n).gamma(2, 1e6, n)).astype(np.int64)
    ours = quantile_estimate(values, quantile, 0.95)
    theirs = stats.quantile_test(values, p=quantile).confidence_interval(0.95)
    assert ours.value == pytest.approx(np.quantile(values, quantile))
    for own, foreign, unbounded in ((ours.low, theirs.low, 0.0), (ours.high, theirs.high, math.inf)):
        assert own == (unbounded if math.isnan(foreign) else foreign)


@given(times, st.sampled_from([0.5, 0.9, 0.99]))
def test_quantile_lies_in_its_interval(values: NDArray[np.int64], quantile: float) -> None:
    estimate = quantile_estimate(values, quantile, 0.95)
    assert estimate.low <= estimate.value <= estimate.high


@given(times, st.integers(2, 1000))
def test_slower_clock_changes_neither_ratio_nor_order(values: NDArray[np.int64], factor: int) -> None:
    pair = np.stack([values, values[::-1]])
    one, scaled = ratio_of(pair, replicates=50), ratio_of(pair * factor, replicates=50)
    assert (scaled.value, scaled.low, scaled.high) == pytest.approx((one.value, one.low, one.high))


@given(times)
def test_subjects_that_take_the_same_time_have_ratio_one(values: NDArray[np.int64]) -> None:
    ratio = ratio_of(np.stack([values, values]), replicates=50)
    assert (ratio.low, ratio.value, ratio.high) == (1.0, 1.0, 1.0)


def test_ratio_interval_is_near_scipys_paired_bootstrap() -> None:
    values = simulated(500, np.random.default_rng(1), disturbed=False)

    def ratio(reference: NDArray[np.int64], subject: NDArray[np.int64], axis: int) -> NDArray[np.float64]:
        return np.median(subject, axis=axis) / np.median(reference, axis=axis)

    generator = "rng" if "rng" in inspect.signature(stats.bootstrap).parameters else "random_state"  # before scipy 1.15
    theirs = stats.bootstrap(
        (values[0], values[1]),
        ratio,
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=4000,
        **{generator: np.random.default_rng(2)},
    ).confidence_interval
    ours = ratio_of(values, replicates=4000)
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.15 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.15 * width)


def test_pairing_by_round_keeps_shared_disturbances_out() -> None:
    """Were each subject resampled on its own, the disturbances would widen the interval."""
    generator = np.random.default_rng(3)
    shared = 1 + 5 * (np.arange(400) % 40 > 20)
    exact = np.array([[2e6], [1e6]]) * shared * np.exp(1e-4 * generator.standard_normal((2, 400)))
    paired = ratio_of(exact.astype(np.int64))
    assert paired.high - paired.low < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("disturbed", [False, True], ids=["independent", "disturbed"])
def test_ratio_interval_holds_the_truth(disturbed: bool) -> None:
    generator = np.random.default_rng(20261123)
    trials = 600
    held = 0
    for trial in range(trials):
        ratio = ratio_of(simulated(300, generator, disturbed=disturbed), replicates=300, seed=trial)
        held += ratio.low <= 0.5 <= ratio.high
    assert stats.binomtest(held, trials, 0.92, alternative="less").pvalue > 1e-3, f"coverage {held / trials:.3f}"


@pytest.mark.parametrize("quantile", [0.5, 0.9])
def test_quantile_interval_holds_the_truth(quantile: float) -> None:
    generator = np.random.default_rng(5)
    truth = 1e6 * stats.gamma(2).ppf(quantile)
    trials = 1000
    estimates = [
        quantile_estimate(generator.gamma(2, 1e6, 200).astype(np.int64), quantile, 0.95) for _ in range(trials)
    ]
    held = sum(estimate.low <= truth <= estimate.high for estimate in estimates)
    assert stats.binomtest(held, trials, 0.95, alternative="less").pvalue > 1e-3


def test_throughput_interval_holds_the_truth() -> None:
    generator = np.random.default_rng(6)
    held = 0
    for trial in range(300):
        values = generator.gamma(4, 1e6 / 4, (1, 200)).astype(np.int64)
        ((throughput, _),) = round_figures(values, batch=8, reference=None, confidence=0.95, replicates=300, seed=trial)
        held += throughput.low <= 8000 <= throughput.high
    assert stats.binomtest(held, 300, 0.92, alternative="less").pvalue > 1e-3


@pytest.mark.parametrize("rounds", [1, 5, 27, 1000])
def test_blocks_are_neighbours_and_replicates_complete(rounds: int) -> None:
    drawn = np.concatenate(list(resampled_rounds(rounds, 120, seed=0)))
    assert drawn.shape == (120, rounds)
    assert drawn.min() >= 0
    assert drawn.max() < rounds
    if rounds == 1000:
        follows = (drawn[:, 1:] - drawn[:, :-1]) % rounds == 1
        assert follows.mean() > 0.85, "blocks are ten rounds long"


def test_replicates_do_not_depend_on_how_many_are_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    values = simulated(100, np.random.default_rng(7), disturbed=False)
    at_once = ratio_of(values)
    monkeypatch.setattr("fqbench.latency.statistics.RESAMPLED_AT_ONCE", 700)
    assert ratio_of(values) == at_once


def test_inverse_swaps_the_ends() -> None:
    inverse = Interval(0.5, 0.25, math.inf).inverse()
    assert (inverse.value, inverse.low, inverse.high) == (2.0, 0.0, 4.0)
