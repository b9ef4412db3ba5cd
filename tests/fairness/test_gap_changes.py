"""The change of a gap: what its interval holds, and how often, where noise decides which groups look extreme."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from scipy import stats

from fqbench.fairness import PairedCounts, change_report
from fqbench.fairness.gap_changes import _merged, _recentred, _tied
from fqbench.testing import strategies as ours
from fqbench.testing.sampling import sampled


@given(ours.paired_counts())
def test_the_interval_holds_the_change_as_seen(paired):
    for change in change_report(paired, replicates=40).gaps.values():
        if not np.isnan(change.low):
            assert change.low <= change.value <= change.high


def test_the_order_of_the_groups_does_not_matter():
    table = np.zeros((4, 2, 2, 2), dtype=int)
    table[:, 1, 1, 1], table[:, 1, 0, 0], table[:, 1, 1, 0] = (
        [800, 850, 900, 700],
        [150, 100, 60, 280],
        [50, 50, 40, 20],
    )
    first, second = (
        change_report(PairedCounts(names, ("0", "1"), cells), replicates=20_000).gaps["accuracy_gap"]
        for names, cells in ((tuple("abcd"), table), (tuple("dcba"), table[::-1]))
    )
    assert first.value == pytest.approx(second.value)
    np.testing.assert_allclose([first.low, first.high], [second.low, second.high], atol=0.004)


def test_groups_that_cannot_be_distinguished_share_a_rate_weighted_by_precision():
    rng = np.random.default_rng(0)
    seen, errors = np.array([0.50, 0.51, 0.90]), np.array([0.01, 0.02, 0.01])
    draws = seen + errors * rng.standard_normal((50_000, 3))
    merged = _merged(draws, seen, 2.0)
    np.testing.assert_array_equal(merged[:, 0], merged[:, 1])
    np.testing.assert_allclose(merged.mean(axis=0), [0.502, 0.502, 0.90], atol=5e-4)
    np.testing.assert_allclose(merged[:, 2], draws[:, 2])
    np.testing.assert_allclose(_merged(draws, seen, 0.1), draws)


def test_a_cluster_holds_what_cannot_be_distinguished_from_its_first_group():
    rng = np.random.default_rng(0)
    seen = np.array([0.53, 0.50, 0.515])  # each 1.06 standard errors from the next, the first from the last 2.1
    draws = seen + 0.01 * rng.standard_normal((20_000, 3))
    merged = _merged(draws, seen, 1.5)
    np.testing.assert_array_equal(merged[:, 1], merged[:, 2])
    np.testing.assert_allclose(merged[:, 0], draws[:, 0])


def test_groups_are_distinguished_at_the_level_of_all_their_pairs():
    seen = np.array([0.9, 0.50, 0.53, 0.50])
    for errors_apart, tied in ((2.2, True), (2.6, False)):  # three pairs: 1.96 for one is 2.39 for all
        error = 0.03 / errors_apart / np.sqrt(2)
        draws = seen + error * np.tile([1.0, -1.0], 500)[:, None]
        assert (np.ptp(_tied(draws, seen, best=True)[:, 1:], axis=1) < 1e-9).all() == tied


def test_the_best_or_the_worst_group_stays_where_it_is():
    rng = np.random.default_rng(0)
    seen = np.array([0.52, 0.50, 0.49, 0.51])
    draws = seen + 0.02 * rng.standard_normal((1_000, 4))
    best, worst = (_tied(draws, seen, best=flag) for flag in (True, False))
    np.testing.assert_array_equal(best[:, 0], draws[:, 0])
    np.testing.assert_array_equal(worst[:, 2], draws[:, 2])
    assert np.ptp(best[:, 1:], axis=1).max() == pytest.approx(0, abs=1e-12)
    assert np.ptp(worst[:, [0, 1, 3]], axis=1).max() == pytest.approx(0, abs=1e-12)


def test_replicates_are_the_rates_seen_with_the_noise_of_half_an_image_in_each_cell():
    table = np.zeros((1, 2, 2, 2), dtype=int)
    table[0, 1, 1, 1], table[0, 1, 0, 0] = 28, 12  # forty images, and none of them flips
    key = ("accuracy", -1)
    draws = _recentred(table, {key: np.array([[0.7], [0.7]])}, 40_000, np.random.default_rng(0))[key]
    assert draws.shape == (40_000, 2, 1)
    np.testing.assert_allclose(draws.mean(axis=0), 0.7, atol=0.002)
    # of 44 images, counting the halves, one is gained and one lost; forty are drawn
    assert (draws[:, 1] - draws[:, 0]).std() == pytest.approx(np.sqrt(40 * 2 / 44) / 40, rel=0.02)


def test_interval_and_p_values_of_two_groups_far_apart_are_those_of_a_normal_change():
    """Of the reference rates that the data allow there is only one, and the changes are too different to be merged."""
    n, losses, gains = 20_000, 150, 95
    table = np.zeros((2, 2, 2, 2), dtype=int)
    table[0, 1, 1, 1], table[0, 1, 0, 0] = 19_000, 1_000
    table[1, 1, 1, 1], table[1, 1, 0, 0], table[1, 1, 1, 0], table[1, 1, 0, 1] = 12_000, 7_755, losses, gains
    change, error = (losses - gains) / n, np.sqrt(losses + gains + 4) / n
    z = change / error  # 3.5
    paired = PairedCounts(("a", "b"), ("0", "1"), table)
    margins = {"accuracy_gap": change + 2 * error}
    got = change_report(paired, margins=margins, replicates=40_000).gaps["accuracy_gap"]
    assert got.value == pytest.approx(change)
    wide = stats.norm.ppf(1 - 0.025 / 2)
    pulled = np.sqrt((z - wide) ** 2 - 1)  # the noise is taken out of the difference's square
    np.testing.assert_allclose([got.low, got.high], [pulled * error, (z + wide) * error], atol=0.12 * error)
    assert got.verdict.p_equivalent == pytest.approx(2 * stats.norm.sf(2), rel=0.1)
    assert got.verdict.p_different == pytest.approx(4 * stats.norm.sf(z - 1), rel=0.2)


def test_noise_in_the_reference_does_not_hide_what_one_group_loses():
    # fourteen groups alike but for noise (gap 0.05); one of them, not the worst, then loses 5 points
    right = np.array([875, 880, 884, 888, 892, 895, 898, 902, 905, 908, 912, 916, 920, 925])
    table = np.zeros((14, 2, 2, 2), dtype=int)
    table[:, 1, 1, 1], table[:, 1, 0, 0] = right, 1_000 - right
    table[8, 1, 1, 1], table[8, 1, 1, 0] = right[8] - 50, 50
    change = change_report(PairedCounts(tuple("abcdefghijklmn"), ("0", "1"), table), replicates=2_000).gaps[
        "accuracy_gap"
    ]
    assert change.value == pytest.approx(0.02)
    assert change.high > 0.045


def simulate(gain, loss, error, *, n, simulations=300, replicates=400):
    """Reports on paired tables of positives only, with known probabilities per group."""
    rng, groups = np.random.default_rng(23), len(gain)
    p = np.stack([gain, loss, 1 - error - loss, error - gain], axis=1)
    for seed in range(simulations):
        draw = rng.multinomial(n, p)
        table = np.zeros((groups, 2, 2, 2), dtype=int)
        table[:, 1, 0, 1], table[:, 1, 1, 0], table[:, 1, 1, 1], table[:, 1, 0, 0] = draw.T
        paired = PairedCounts(tuple(map(str, range(groups))), ("0", "1"), table)
        yield change_report(paired, replicates=replicates, seed=seed)


@pytest.mark.slow
@pytest.mark.parametrize("groups", [2, 6])
def test_nothing_changed_is_called_different_at_most_at_the_level(groups):
    error = np.linspace(0.05, 0.15, groups)
    reports = list(simulate(np.full(groups, 0.01), np.full(groups, 0.01), error, n=400))
    for name in ("accuracy_gap", "worst_group_accuracy"):
        assert np.mean([each.gaps[name].verdict.answer == "different" for each in reports]) <= 0.08
    assert np.mean([any(row.verdict.answer == "different" for row in each.groups) for each in reports]) <= 0.08


@pytest.mark.slow
@pytest.mark.parametrize(("groups", "n"), [(2, 400), (6, 1_000)])
def test_the_change_of_a_gap_is_covered_where_one_group_loses(groups, n):
    gain, loss = np.full(groups, 0.002), np.full(groups, 0.005)
    loss[-1] = 0.05
    after = 0.9 + gain - loss
    reports = list(simulate(gain, loss, np.full(groups, 0.1), n=n))
    hits = [each.gaps["accuracy_gap"].low <= np.ptp(after) <= each.gaps["accuracy_gap"].high for each in reports]
    assert np.mean(hits) >= 0.92


@pytest.mark.slow
def test_a_change_on_the_margin_is_called_equivalent_at_most_at_the_level():
    error, gain, loss = np.array([0.05, 0.15]), np.array([0.004, 0.004]), np.array([0.004, 0.014])
    reports = list(simulate(gain, loss, error, n=5_000))
    for name in ("accuracy_gap", "worst_group_accuracy"):
        assert np.mean([each.gaps[name].verdict.answer == "equivalent" for each in reports]) <= 0.08
    assert np.mean([each.row("1").verdict.answer == "equivalent" for each in reports]) <= 0.08


SHAPES = {
    "alike": lambda k: np.full(k, 0.1),
    "in a line": lambda k: np.linspace(0.05, 0.15, k),
    "one ahead": lambda k: np.r_[np.full(k - 1, 0.1), 0.03],
    "one behind": lambda k: np.r_[np.full(k - 1, 0.1), 0.25],
}


MANY = list(product([(9, 1_000), (14, 300)], SHAPES, ["middle", "worst", "best"]))


@pytest.mark.slow
@pytest.mark.parametrize(("size", "shape", "loser"), sampled(MANY, 0.25))
def test_the_change_over_many_groups_is_covered(size, shape, loser):
    """The plain bootstrap, alone or with noise taken out of the variance, covers 58 to 80 % with one group ahead."""
    groups, n = size
    error = SHAPES[shape](groups)
    gain, loss = np.full(groups, 0.004), np.full(groups, 0.004)
    loss[{"middle": groups // 2, "worst": np.argmax(error), "best": np.argmin(error)}[loser]] += 0.05
    before, after = 1 - error, 1 - error + gain - loss
    truth = {"accuracy_gap": np.ptp(after) - np.ptp(before), "worst_group_accuracy": after.min() - before.min()}
    reports = list(simulate(gain, loss, error, n=n, simulations=200, replicates=300))
    for name, value in truth.items():
        hits = [each.gaps[name].low - 1e-9 <= value <= each.gaps[name].high + 1e-9 for each in reports]
        # 200 simulations: three standard errors below 95 % are 90.4 %; above it there is no harm
        assert np.mean(hits) >= 0.904
