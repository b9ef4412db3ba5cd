"""Figures as data: fronts, distributions, and every value in the table of a figure."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fqbench.report.document import Document
from fqbench.report.figures import (
    Axis,
    Candidate,
    Dot,
    Heatmap,
    Quantity,
    distribution,
    figure_data,
    front,
)
from fqbench.report.page import Material

COST = Quantity("cost", Axis("ms"), less_is_better=True)
GOOD = Quantity("good", Axis("accuracy"), less_is_better=False)
NAN = math.nan


def candidate(cost: float, good: float) -> Candidate:
    return Candidate("one", {"cost": Dot(cost, NAN, NAN, ""), "good": Dot(good, NAN, NAN, "")}, hollow=False)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12))
def test_front_is_what_nothing_dominates(points: list[tuple[int, int]]) -> None:
    found = front([candidate(*point) for point in points], COST, GOOD)

    def beaten(cost: int, good: int) -> bool:
        return any(c <= cost and g >= good and (c < cost or g > good) for c, g in points)

    assert sorted(found) == [number for number, point in enumerate(points) if not beaten(*point)]
    assert [points[number][0] for number in found] == sorted(points[number][0] for number in found)


def test_front_leaves_out_what_was_not_measured() -> None:
    untimed = Candidate("untimed", {"good": Dot(1.0, NAN, NAN, "")}, hollow=True)
    assert front([untimed, candidate(2, 0.5), candidate(1, NAN)], COST, GOOD) == (1,)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300), st.integers(2, 50))
def test_distribution_is_the_share_at_or_below(values: list[float], points: int) -> None:
    xs, ys = distribution(values, points)
    assert len(xs) == len(ys) <= max(points, 1)
    assert (xs[0], xs[-1], ys[-1]) == (min(values), max(values), 1.0) or len(values) == 1
    for x, y in zip(xs, ys, strict=True):
        below, at_or_below = np.mean(np.array(values) < x), np.mean(np.array(values) <= x)
        assert below < y <= at_or_below + 1e-12


@pytest.mark.parametrize(("value", "step"), [(0.0, 0), (10.0, 7), (-10.0, -7), (99.0, 7), (-1.5, -1), (NAN, 0)])
def test_colour_of_a_heatmap(value: float, step: int) -> None:
    dot = Dot(value, NAN, NAN, "")
    heatmap = Heatmap("h", "", "", "", (), "g", ("r",), ("c",), ((dot,),), Axis("points"), limit=10.0)
    assert heatmap.step(dot) == step


def test_a_heatmap_of_many_columns_is_turned() -> None:
    cells = tuple(tuple(Dot(10.0 * row + column, NAN, NAN, "") for column in range(8)) for row in range(2))
    wide = Heatmap("h", "", "", "", (), "group", ("a", "b"), tuple("12345678"), cells, Axis("points"), limit=10.0)
    high = wide.upright
    assert (high.rows, high.columns) == (wide.columns, wide.rows)
    assert [dot.value for dot in high.cells[3]] == [3.0, 13.0]
    assert high.upright is high


def test_the_table_of_a_figure_has_every_value(document: Document, material: Material) -> None:
    (view,) = material.views
    data = figure_data(document.figure("change-per-group"))
    for subject, change in view.compared:
        for row in (*change.groups, change.overall):
            (found,) = [one for one in data.rows if one[:2] == (subject.name, row.group)]
            expected = [100 * row.accuracy.value, 100 * row.accuracy.low, 100 * row.accuracy.high, row.verdict.answer]
            assert list(found[2:]) == expected
    assert len(figure_data(document.figure("groups-and-artifacts")).rows) == 2 * 4
    trade_off = figure_data(document.figure("trade-offs"))
    assert len(trade_off.rows) == 3 * 4 + 2  # no latency of the one that is simulated
