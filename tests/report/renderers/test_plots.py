"""Figures as SVG and PDF."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

pytest.importorskip("matplotlib", reason="needs the extra report")


from fqbench.report.document import Document
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
