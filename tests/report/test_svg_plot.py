"""Plots are well-formed SVG, show what they are given, and are the same for the same values."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from fqbench.report.renderers.svg_plot import HEIGHT, WIDTH, Curve, Panel, svg

SPACE = "{http://www.w3.org/2000/svg}"
numbers = st.floats(-1e9, 1e9, allow_subnormal=False) | st.sampled_from([math.nan, math.inf])
lines = st.lists(st.tuples(numbers, numbers), max_size=6).map(
    lambda points: Curve(
        "<a & b>", tuple(x for x, _ in points), tuple(y for _, y in points), steps=len(points) % 2 == 0
    )
)


def polylines(text: str) -> list[list[tuple[float, float]]]:
    found = ElementTree.fromstring(text).iter(f"{SPACE}polyline")
    return [[tuple(map(float, pair.split(","))) for pair in one.attrib["points"].split()] for one in found]  # type: ignore[misc]


@given(st.lists(lines, max_size=3), st.booleans(), st.booleans())
def test_any_values_give_a_document_with_all_points_inside(given_lines: list[Curve], log_x: bool, log_y: bool) -> None:
    text = svg([Panel("t", "x", "y", tuple(given_lines), log_x, log_y)])
    assert text == svg([Panel("t", "x", "y", tuple(given_lines), log_x, log_y)])
    for line in polylines(text):
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in line)


def test_points_stand_where_their_values_are() -> None:
    (line,) = polylines(svg([Panel("t", "x", "y", (Curve("a", (1.0, 10.0, 100.0), (0.0, 5.0, 10.0)),), log_x=True)]))
    (x0, y0), (x1, y1), (x2, y2) = line
    assert math.isclose(x1 - x0, x2 - x1, abs_tol=0.11), "a factor of ten is the same distance everywhere"
    assert math.isclose(y0 - y1, y1 - y2, abs_tol=0.11)
    assert y2 < y0, "larger is higher"


def test_steps_go_along_x_first() -> None:
    (line,) = polylines(svg([Panel("t", "x", "y", (Curve("a", (1.0, 2.0), (0.0, 1.0), steps=True),))]))
    assert line[0][1] == line[1][1]
    assert line[1][0] == line[2][0]


def test_the_legend_names_each_line_once_and_one_name_has_one_colour() -> None:
    panel = Panel("t", "x", "y", (Curve("first", (1.0, 2.0), (1.0, 2.0)), Curve("second", (1.0,), (1.0,))))
    text = svg([panel, panel])
    assert text.count(">first<") == text.count(">second<") == 1
    strokes = re.findall(r'<polyline[^>]*stroke="(#\w+)"', text)
    assert strokes[:2] == strokes[2:]
    assert len(set(strokes)) == 2
