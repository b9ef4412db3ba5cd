"""Effects over seeds and images: known formulas, and coverage and error rates in simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fqbench.study.hypotheses.claims import Claim, answer_claims, needed_to_decide
from fqbench.study.hypotheses.effect import Unit, mean_effect, slope_effect

values = st.floats(-10, 10)


def units(table: list[list[float]], error: float = 0.0, images: int = 0) -> list[Unit]:
    return [
        Unit("d", f"m{model}", seed, value, error, images, (f"{model}-{seed}",))
        for model, row in enumerate(table)
        for seed, value in enumerate(row)
    ]


@given(st.lists(values, min_size=2, max_size=8))
def test_one_model_without_images_is_students_t(row: list[float]) -> None:
    found = mean_effect(units([row]))
    assert found.value == pytest.approx(np.mean(row), abs=1e-12)
    assert found.error == pytest.approx(stats.sem(row), abs=1e-12)
    if found.error > 1e-6:
        low, high = stats.t.interval(0.95, len(row) - 1, np.mean(row), stats.sem(row))
        assert found.interval() == pytest.approx((low, high), rel=1e-6, abs=1e-9)
        expected = stats.ttest_1samp(row, 1.0, alternative="less").pvalue
        assert found.p_below(1.0) == pytest.approx(expected, rel=1e-6, abs=1e-9)
        assert found.p_above(1.0) == pytest.approx(1 - expected, rel=1e-6, abs=1e-9)


@given(st.lists(st.lists(values, min_size=2, max_size=4), min_size=2, max_size=4), values, st.floats(0.1, 10))
def test_it_moves_and_scales_with_the_figures(table: list[list[float]], shift: float, factor: float) -> None:
    first = mean_effect(units(table, 0.1))
    moved = mean_effect(units([[factor * value + shift for value in row] for row in table], 0.1 * factor))
    assert moved.value == pytest.approx(factor * first.value + shift, abs=1e-9)
    assert moved.error == pytest.approx(factor * first.error, rel=1e-6)


@given(st.lists(values, min_size=3, max_size=6))
def test_the_slope_is_that_of_least_squares(row: list[float]) -> None:
    sizes = {f"m{i}": float(i) for i in range(len(row))}
    found = slope_effect(units([[value, value] for value in row]), sizes)
    assert found.value == pytest.approx(np.polyfit(np.arange(len(row)), row, 1)[0], abs=1e-9)
    assert math.isnan(slope_effect(units([[1.0, 2.0]]), {"m0": 3.0}).value)


def test_images_count_once_for_a_mean_and_apart_for_a_slope() -> None:
    row = [[1.0, 1.0]] * 4
    assert mean_effect(units(row, 0.5)).error == pytest.approx(0.5)  # as if all models erred alike
    sizes = {f"m{i}": float(i) for i in range(4)}
    assert slope_effect(units(row, 0.5), sizes).error == pytest.approx(0.5 / math.sqrt(5))


def test_one_seed_leaves_the_error_unknown() -> None:
    found = mean_effect(units([[1.0], [2.0]], 0.1))
    assert math.isnan(found.error)
    assert found.interval() == (-math.inf, math.inf)
    assert math.isnan(found.p_below(0.0))


@pytest.mark.parametrize("shared", [0.0, 0.5, 1.0])
def test_intervals_cover_whatever_the_images_share(shared: float) -> None:
    rng, hits = np.random.default_rng(1), 0
    for _ in range(1500):
        common = rng.normal(0, 1)
        noise = math.sqrt(shared) * common + math.sqrt(1 - shared) * rng.normal(0, 1, (3, 4))
        low, high = mean_effect(units((rng.normal(0, 1, (3, 4)) + noise).tolist(), 1.0, 100)).interval()
        hits += low <= 0 <= high
    assert hits / 1500 >= 0.94


CLAIM = Claim("H", "c", "m", "u", low=1.0, high=2.0, margin=0.5)


@pytest.mark.parametrize("truth", [0.5, 2.5])  # on the bound, with the margin
def test_false_answers_on_the_bound_are_rare(truth: float) -> None:
    rng, wrong = np.random.default_rng(2), 0
    for _ in range(1500):
        noise = rng.normal(0, 0.2, (3, 4)) + rng.normal(0, 0.1)
        (found,) = answer_claims([(CLAIM, mean_effect(units((truth + noise).tolist(), 0.1, 100)), "")])
        wrong += found.answer != "undecided"
    assert wrong / 1500 <= 0.06


@given(st.floats(-3, 6))
def test_an_effect_is_never_both_supported_and_refuted(value: float) -> None:
    (found,) = answer_claims([(CLAIM, mean_effect(units([[value - 0.01, value + 0.01]], 0.01, 100)), "")])
    assert not (found.p_supported <= 0.05 and found.p_refuted <= 0.05)
    if 0.8 < value < 2.2:
        assert found.answer == "supported"
    if value < 0.0 or value > 3.0:
        assert found.answer == "refuted"


def test_more_claims_make_each_harder() -> None:
    effect = mean_effect(units([[1.3, 1.5, 1.7]], 0.1, 100))
    alone = answer_claims([(CLAIM, effect, "")])[0]
    together = answer_claims([(CLAIM, effect, "")] * 8)[0]
    assert together.p_supported > alone.p_supported
    excused = answer_claims([(CLAIM, effect, ""), (CLAIM, effect, "no such thing")])[1]
    assert (excused.answer, excused.reason) == ("undecided", "no such thing")


def test_more_of_one_alone_may_never_decide() -> None:
    effect = mean_effect(units([[1.9, 2.5, 2.7]], 0.0, 0))
    seeds, images = needed_to_decide(CLAIM, effect, alpha=0.05)
    assert seeds > 3
    assert math.isnan(images)
    noisy = mean_effect(units([[2.4, 2.41, 2.42]], 0.5, 100))
    seeds, images = needed_to_decide(CLAIM, noisy, alpha=0.05)
    assert math.isinf(seeds)
    assert images > 100
