"""The model of the schedule keeps to the bounds that every schedule has."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fqbench.study.schedule import StudyStep, simulate

durations = st.lists(st.floats(0.1, 100), min_size=1, max_size=30)


@given(durations, st.integers(1, 40))
def test_greedy_is_within_graham_s_bound(seconds: list[float], workers: int) -> None:
    found = simulate([StudyStep("one", tuple(seconds))], workers)
    least = max([*seconds, sum(seconds) / workers])
    assert least - 1e-9 <= found.seconds <= sum(seconds) / workers + (1 - 1 / workers) * max(seconds) + 1e-9
    assert 0 < found.efficiency <= 1 + 1e-9


@given(durations, durations)
def test_one_worker_takes_the_sum_and_steps_follow_each_other(first: list[float], second: list[float]) -> None:
    steps = [StudyStep("one", tuple(first)), StudyStep("two", tuple(second), alone=True)]
    assert simulate(steps, 1).seconds == pytest.approx(sum(first) + sum(second))
    assert simulate(steps, 1000, workers_per_node=1000).seconds == pytest.approx(max(first) + sum(second))


def test_what_bounds_is_named() -> None:
    steps = [StudyStep("methods", (10.0,) * 100)]
    assert simulate(steps, 10).bound == "work of methods"
    assert simulate(steps, 1000).bound == "longest task of methods"
    assert simulate(steps, 1000, driver_seconds=1.0).bound == "driver of methods"
