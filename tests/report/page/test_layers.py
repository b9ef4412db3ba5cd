"""The section on layers: a heatmap per diagnosed artifact, in the order of the graph."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from fqbench.fairness import Estimate
from fqbench.report.document import Document
from fqbench.report.figures import Heatmap
from fqbench.report.page import Material
from fqbench.report.page.layers import layer_section
from fqbench.search.diagnosed import LAST, DiagnosedLayer, Diagnosis, Joint, LayerEffect
from fqbench.search.effects import GroupEffect

GROUPS = ("<b>dark</b>", "light", "all")


def effects(*divergences: float) -> tuple[GroupEffect, ...]:
    def estimate(value: float) -> Estimate:
        return Estimate(value, value / 2, 2 * value, 100)

    return tuple(
        GroupEffect(group, 100, estimate(value), estimate(value), 1)
        for group, value in zip(GROUPS, divergences, strict=True)
    )


def layer(name: str, *divergences: float) -> DiagnosedLayer:
    found = (LayerEffect("both", LAST, effects(*divergences)),)
    return DiagnosedLayer(name, "Conv", (), 8, 8, 100, 10, 40, 30.0, {"light": 20.0}, found)


@pytest.fixture
def diagnosed(material: Material) -> Material:
    subject = material.views[0].subjects[1]
    assert subject.entry is not None
    layers = (layer("stem", 0.001, 0.002, 0.0015), layer("head", 0.004, math.nan, 0.003))
    joint = (Joint("both", effects(0.005, 0.002, 0.004), {}, dict.fromkeys(GROUPS, 0.0045)),)
    found = Diagnosis(subject.figures.id, "int8", "{}", "val", dict.fromkeys(GROUPS[:2], 100), layers, joint, (), 3)
    return replace(material, diagnoses=((subject.entry, found),))  # type: ignore[arg-type]  # any entry has an id


def test_layers_are_in_the_order_of_the_graph(diagnosed: Material) -> None:
    document = Document(tuple(layer_section(diagnosed)))
    (heatmap,) = document.figures
    assert isinstance(heatmap, Heatmap)
    assert heatmap.rows == ("stem", "head")
    assert heatmap.columns == GROUPS
    assert [dot.text for dot in heatmap.cells[1]] == ["4.00", "-", "3.00"]
    assert heatmap.limit == pytest.approx(4.0)
    assert heatmap.title.endswith("int8/balanced")
    assert heatmap.sources == (diagnosed.diagnoses[0][0].id,)


def test_without_a_diagnosis_there_is_no_section(material: Material) -> None:
    assert not material.diagnoses
    assert list(layer_section(material)) == []
