"""The importance of layers for groups as a document: which are kept for which group, and the costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fqbench.models.importance import FEWEST
from fqbench.report.document import Document, Records, Sheet, notes

if TYPE_CHECKING:
    from fqbench.stages.importance import ImportantLayers

COLUMNS = ("layer", "kept for", ">largest", "of group", ">all groups", ">MACs", ">weights")
RECORDS = ("layer", "group", "images", "importance", "kept_for")


def importance_document(found: ImportantLayers, file: Path) -> Document:
    """Return a row per layer, those that are kept first, then by the largest importance for a group.

    Parameters
    ----------
    found : ImportantLayers
        What the stage returns.
    file : Path
        The recipe that was written.
    """
    importance, values = found.importance, found.importance.values[found.by]
    kept_for = {one.layer: one.group for one in found.kept}
    decided = values[:, importance.decisive]
    names = [g for g, decisive in zip(importance.groups, importance.decisive, strict=True) if decisive]
    chosen = [importance.layers.index(one.layer) for one in found.kept]
    others = [int(place) for place in np.argsort(-decided.max(axis=1), kind="stable") if place not in chosen]
    costs = {layer.path: layer for layer in found.layers if layer.path}
    macs, weights = (sum(getattr(layer, what) for layer in found.layers) or 1 for what in ("macs", "parameters"))
    rows = tuple(
        (
            importance.layers[place],
            kept_for.get(importance.layers[place], "-"),
            f"{decided[place].max():.2e}",
            names[int(decided[place].argmax())],
            f"{decided[place].mean():.2e}",
            f"{costs[importance.layers[place]].macs / macs:.1%}",
            f"{costs[importance.layers[place]].parameters / weights:.1%}",
        )
        for place in (*chosen, *others)
    )
    records = Records(
        RECORDS,
        [
            (layer, group, int(images), None if np.isnan(value) else float(value), kept_for.get(layer))
            for layer, line in zip(importance.layers, values, strict=True)
            for group, images, value in zip(importance.groups, importance.images, line, strict=True)
        ],
    )
    unit = "expected rise of the loss, nats" if found.by == "fisher" else "squared first-order change of the loss"
    few = [group for group in importance.groups if group not in names]
    lines = [
        f"{unit}, by rounding this layer; largest: of a group, all groups: mean over those of {FEWEST} or more.",
        *([f"! left out, with fewer than {FEWEST} validation images: {', '.join(few)}"] if few else []),
        f"written to {file}; quantize with `fqbench quantize --recipe {file}`.",
    ]
    value = {
        "file": str(file),
        "importance": found.by,
        "kept": [{"layer": one.layer, "group": one.group} for one in found.kept],
        "recipe": found.scheme.model_dump(mode="json"),
        "values": [dict(zip(RECORDS, row, strict=True)) for row in records.rows],
    }
    title = f"importance ({found.by}) of layers for groups, {int(importance.images.sum())} validation images"
    return Document((Sheet(title, COLUMNS, rows, notes(*lines)),), value, records)
