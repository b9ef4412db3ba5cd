"""The section on layers: which one changes the answers for which group."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fqbench.report.diagnosis import MILLI, diagnosis_document
from fqbench.report.document import Heading, Note, Section, notes
from fqbench.report.figures import Axis, Dot, Heatmap

if TYPE_CHECKING:
    from fqbench.report.page.material import Material
    from fqbench.search.diagnosed import Diagnosis
    from fqbench.search.effects import GroupEffect

TENS = 10  # from here on, decimals say nothing
DIVERGENCE = Axis("KL divergence from FP32, 0.001 nats")


def layer_section(material: Material) -> Iterator[Section]:
    """A heatmap of layers and groups per artifact that was diagnosed, and the table below it, folded."""
    if not material.diagnoses:
        return
    yield Heading("Layers and groups")
    yield from notes("Which layer changes the answers for which group, as fqbench diagnose measured it.")
    for entry, diagnosis in material.diagnoses:
        name = material.names.get(diagnosis.artifact_id, diagnosis.label)
        yield _heatmap(name, entry.id, diagnosis)
        title, *sections = diagnosis_document(diagnosis).sections
        yield Heading(f"Table of {name}", level=3, folded=True)
        yield Note(title.text if isinstance(title, Heading) else "", sources=(entry.id,))
        yield from sections


def _heatmap(name: str, identity: str, diagnosis: Diagnosis) -> Heatmap:
    cells = tuple(tuple(map(_cell, layer.decisive)) for layer in diagnosis.layers)
    values = [dot.value for row in cells for dot in row if not math.isnan(dot.value)]
    worst = diagnosis.ranked[0]
    return Heatmap(
        name=f"layers-{identity}",
        title=f"Change of the answers by layer and group: {name}",
        description=f"{worst.name} changes {worst.worst.group} most.",
        caption=(
            "KL divergence of the answers from FP32's on validation images, 0.001 nats; layers are in the order of the "
            "graph."
        ),
        sources=(identity,),
        corner="layer",
        rows=tuple(layer.name for layer in diagnosis.layers),
        columns=tuple(effect.group for effect in diagnosis.layers[0].decisive),
        cells=cells,
        axis=DIVERGENCE,
        limit=max(values, default=0.0),
    )


def _cell(effect: GroupEffect) -> Dot:
    one = effect.kl_divergence
    value, low, high = (MILLI * end for end in (one.value, one.low, one.high))
    return Dot(value, low, high, _text(value))


def _text(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.2f}" if value < TENS else f"{value:.0f}"
