"""The front by its definition, and what is not known."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from fqbench.report.pareto import pareto_front

points = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)), max_size=12)


@given(points)
def test_exactly_those_off_the_front_are_beaten_by_one_on_it(
    costs: list[tuple[int, int, int]],
) -> None:
    front = pareto_front(costs)
    kept = [point for point, on in zip(costs, front, strict=True) if on]
    for point, on in zip(costs, front, strict=True):
        beaten = any(other != point and all(a <= b for a, b in zip(other, point, strict=True)) for other in kept)
        assert beaten is not on


def test_equal_points_are_both_on_it_and_what_is_not_known_is_never_better() -> None:
    assert pareto_front([(1, 1), (1, 1), (2, 0), (2, 2)]) == (True, True, True, False)
    assert pareto_front([(1.0, 1.0), (1.0, math.nan)]) == (True, False)
    assert pareto_front([]) == ()
