"""From the rows of a study's table to one figure per trained model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fqbench.fairness.intervals import quantile_of_normal
from fqbench.study.hypotheses.effect import Unit
from fqbench.study.table import ALL

if TYPE_CHECKING:
    import pandas as pd

PLACE = ("data", "model", "seed", "backend", "method", "bits", "sampler", "policy", "mitigation")


@dataclass(frozen=True)
class Figure:
    """One figure of one cell, with the standard error that its interval means."""

    value: float
    error: float
    n: int


@dataclass(frozen=True)
class CellFigures:
    """All figures of one cell that are about all images, by measure, and where the cell is.

    The id of a difference of two cells is both ids with a space between them.
    """

    cell: str
    place: Mapping[str, Any]
    figures: Mapping[str, Figure]

    def get(self, measure: str) -> Figure | None:
        """Return a figure; None where the cell has none, or it is undefined."""
        found = self.figures.get(measure)
        return None if found is None or math.isnan(found.value) else found


Pick = Callable[[CellFigures], bool]


def cells_in(table: pd.DataFrame) -> list[CellFigures]:
    """Return the cells of a table."""
    whole = table[table["group"] == ALL]
    found = []
    for cell, rows in whole.groupby("cell", sort=False):
        records = rows.to_dict("records")
        place = {name: records[0][name] for name in PLACE}
        figures = {row["measure"]: Figure(float(row["value"]), _error(row), int(row["n"])) for row in records}
        found.append(CellFigures(str(cell), place, figures))
    return found


def _error(row: Mapping[Any, Any]) -> float:
    """Half the interval in units of the normal quantile; 0 without an interval."""
    width, confidence = row["high"] - row["low"], row["confidence"]
    if math.isnan(width) or math.isnan(confidence):
        return 0.0
    return float(width / (2 * quantile_of_normal(0.5 + confidence / 2)))


def units_of(figures: Iterable[tuple[CellFigures, Figure]]) -> list[Unit]:
    """Return one unit per trained model: the mean of its cells, whose images are the same."""
    members: dict[tuple[str, str, int], list[tuple[CellFigures, Figure]]] = {}
    for cell, figure in figures:
        place = cell.place
        members.setdefault((place["data"], place["model"], int(place["seed"])), []).append((cell, figure))
    return [
        Unit(
            data=data,
            model=model,
            seed=seed,
            value=sum(figure.value for _cell, figure in found) / len(found),
            error=sum(figure.error for _cell, figure in found) / len(found),
            images=min(figure.n for _cell, figure in found),
            cells=tuple(one for cell, _figure in found for one in cell.cell.split()),
        )
        for (data, model, seed), found in members.items()
    ]


def differences(
    cells: Iterable[CellFigures], first: Pick, second: Pick, measure: str, *, apart: Iterable[str]
) -> list[tuple[CellFigures, Figure]]:
    """Return first minus second, for each pair of cells that differ in the coordinates ``apart`` alone.

    The errors are added as if independent; both refer to the same FP32 answers, so that the true error is smaller.
    """
    same = [name for name in PLACE if name not in set(apart)]
    known = list(cells)
    others = {tuple(cell.place[name] for name in same): cell for cell in known if second(cell) and cell.get(measure)}
    found = []
    for cell in known:
        other = others.get(tuple(cell.place[name] for name in same))
        a, b = cell.get(measure), other.get(measure) if other is not None else None
        if first(cell) and other is not None and a is not None and b is not None:
            both = CellFigures(f"{cell.cell} {other.cell}", cell.place, {})
            found.append((both, Figure(a.value - b.value, math.hypot(a.error, b.error), min(a.n, b.n))))
    return found
