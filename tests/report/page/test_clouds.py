"""Three quantities at once: which points are shown, and which no other one beats."""

from __future__ import annotations

import math
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from fqbench.report.document import Heading
from fqbench.report.figures import Candidate, Cloud, Dot, TradeOff, figure_data
from fqbench.report.page import Material
from fqbench.report.page.clouds import cloud, cloud_sections, with_losses
from fqbench.report.page.costs import trade_off_section
from fqbench.report.page.quantities import LOSS, OVERALL, SIZE

NAN = math.nan
POINTS = {  # MB, accuracy, points lost
    "small": (1.0, 0.7, -3.0),
    "good": (4.0, 0.9, -0.1),
    "beaten & <b>": (4.0, 0.9, -0.2),
    "middle": (2.0, 0.8, -1.0),
}


def candidate(name: str, values: tuple[float, float, float], *, hollow: bool = False) -> Candidate:
    keys = (SIZE.key, OVERALL.key, LOSS.key)
    return Candidate(name, {key: Dot(one, NAN, NAN, str(one)) for key, one in zip(keys, values, strict=True)}, hollow)


def drawn() -> Cloud:
    figure = cloud("c", ("id",), (SIZE, OVERALL, LOSS), [candidate(name, one) for name, one in POINTS.items()])
    assert figure is not None
    return figure


def test_the_front_is_what_no_other_one_beats_in_all_three() -> None:
    assert [drawn().candidates[number].name for number in drawn().front] == ["small", "good", "middle"]
    rows = figure_data(drawn()).rows
    assert rows[2] == ("beaten & <b>", 4.0, 0.9, -0.2, "no")
    assert [row[-1] for row in rows] == ["yes", "yes", "no", "yes"]


def test_what_lacks_a_quantity_is_left_out_and_few_points_are_not_drawn() -> None:
    known = [candidate(name, one) for name, one in POINTS.items()]
    unknown = candidate("unknown", (1.0, NAN, 0.0))
    figure = cloud("c", (), (SIZE, OVERALL, LOSS), [unknown, *known])
    assert figure is not None
    assert [one.name for one in figure.candidates] == list(POINTS)
    assert cloud("c", (), (SIZE, OVERALL, LOSS), [unknown, *known[1:]]) is None
    assert list(cloud_sections([None])) == []
    heading, *_figures = cloud_sections([None, figure])
    assert heading == Heading("In three dimensions", level=3, folded=True)


def test_three_artifacts_have_no_cloud_and_losses_are_joined_in_their_order(material: Material) -> None:
    heading, figure = trade_off_section(material)
    assert heading == Heading("Trade-offs")
    assert isinstance(figure, TradeOff)
    four = replace(figure, across=(SIZE,), candidates=tuple(candidate(name, one) for name, one in POINTS.items()))
    losses = [Dot(-float(number), NAN, NAN, "") for number in range(3)]
    found = with_losses(four, [*losses, None], "c")
    assert found is not None
    assert [one.dots[LOSS.key].value for one in found.candidates] == [0.0, -1.0, -2.0, -1.0]


def test_it_is_drawn_with_the_names_of_the_front() -> None:
    pytest.importorskip("matplotlib", reason="needs the extra report")
    from fqbench.report.renderers.plots import plot

    first, again = plot(drawn()), plot(drawn())
    assert first["svg"] == again["svg"]
    words = "".join(ET.fromstring(first["svg"]).itertext())
    assert "middle" in words
    assert "beaten" not in words
    assert LOSS.axis.label in words
