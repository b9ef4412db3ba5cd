"""When warm-up values have settled: every criterion alone can say no."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fqbench.latency.steadiness import FEWEST_WARMUPS, is_steady

# Twenty values with quartiles 990 and 1010, as a window of a settled series.
WINDOW = [
    980,
    990,
    990,
    990,
    990,
    990,
    1000,
    1000,
    1000,
    1000,
    1000,
    1000,
    1000,
    1000,
    1010,
    1010,
    1010,
    1010,
    1010,
    1020,
]


def series(earlier: list[int], later: list[int]) -> list[int]:
    return [5000, *earlier, *later]


def spread(factor: float) -> list[int]:
    return [int(1000 + factor * (value - 1000)) for value in WINDOW]


def test_windows_that_agree_are_steady_whatever_the_first_value() -> None:
    assert is_steady(series(WINDOW, WINDOW))


def test_only_the_last_two_windows_count() -> None:
    assert is_steady([*range(9000, 5000, -100), *series(WINDOW, WINDOW)])


@pytest.mark.parametrize("count", [0, 1, FEWEST_WARMUPS - 1])
def test_fewer_than_two_windows_are_not_enough(count: int) -> None:
    assert not is_steady([1000] * count)


def test_equal_values_are_steady() -> None:
    assert is_steady([1000] * FEWEST_WARMUPS)
    assert is_steady([0] * FEWEST_WARMUPS)


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        pytest.param([1100, *WINDOW[1:]], WINDOW, id="oldest value is an outlier"),
        pytest.param([*WINDOW[:-1], 5000], WINDOW, id="mean has fallen"),
        pytest.param(WINDOW, [*WINDOW[:-1], 20000], id="mean has risen by more than half"),
        pytest.param([1000] * 14 + [1070] * 6, [1000] * 20, id="third quartile differs"),
        pytest.param([1000] * 14 + [930] * 6, [1000] * 20, id="first quartile differs"),
        pytest.param(spread(1.0), spread(3.0), id="spread differs"),
    ],
)
def test_each_criterion_alone_says_no(earlier: list[int], later: list[int]) -> None:
    assert not is_steady(series(earlier, later))


def test_later_disturbance_is_noise_and_not_warm_up() -> None:
    assert is_steady(series(WINDOW, [*WINDOW[:-1], 5000]))


def test_small_spreads_need_not_agree() -> None:
    """One tick of the timer more or less is a large relative change of a tiny deviation."""
    assert is_steady(series([1000, 1001] * 10, [1000, 1003] * 10))


@given(st.lists(st.integers(1, 10**6), min_size=41, max_size=60), st.sampled_from([2, 8, 1024]))
def test_unit_does_not_matter(values: list[int], factor: int) -> None:
    assert is_steady(values) == is_steady([factor * value for value in values])


def test_stationary_noise_settles_soon() -> None:
    generator = np.random.default_rng(0)
    needed = []
    for _ in range(50):
        values = (1e6 * np.exp(0.05 * generator.standard_normal(300))).astype(int).tolist()
        needed.append(next((n for n in range(41, 301) if is_steady(values[:n])), 301))
    assert np.median(needed) < 100
    assert max(needed) <= 300
