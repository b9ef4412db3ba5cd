"""Figures as SVG and PDF."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

pytest.importorskip("matplotlib", reason="needs the extra report")


from fqbench.report.document import Document
from fqbench.report.figures import Axis, Dot, Heatmap
from fqbench.report.renderers.plots import plot


@pytest.mark.parametrize("name", ["change-per-group", "trade-offs", "groups-and-artifacts", "latency-distributions"])
def test_is_drawn_with_its_names_the_same_each_time(document: Document, name: str) -> None:
    drawn = plot(document.figure(name))
    assert drawn["pdf"].startswith(b"%PDF-")
    words = "".join(ET.fromstring(drawn["svg"]).itertext())
    assert "int8/balanced" in words
    assert "(simulated)" in words
    if name in {"change-per-group", "groups-and-artifacts"}:
        assert "<script>boom()</script>×a|b_$1" in words
    assert plot(document.figure(name))["svg"] == drawn["svg"]


def test_long_names_leave_the_cells_their_room() -> None:
    """matplotlib warns where no room is left, and a warning is an error here."""
    names = tuple(f"{number} 100 % & more $x_1$ {{a}}^b שלום " + 80 * "x" for number in range(4))
    dot = Dot(1.0, 0.5, 1.5, "+1.0")
    figure = Heatmap("h", "t", "d", "c", (), "row", names[:2], names, ((dot,) * 4,) * 2, Axis("points"), 1.0)
    words = "".join(ET.fromstring(plot(figure)["svg"]).itertext())
    assert "0 100 % & more $x_1$ {a}^b שלום xxx" in words
    assert "…" in words
