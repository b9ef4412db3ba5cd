"""A heatmap as SVG, written without a plotting library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from fqbench.errors import InputError
from fqbench.storage import write_whole

CELL, ROW, CHARACTER = 92, 22, 6.6
# From nearly white to dark red; dark enough for white figures at the end only.
PALE, DARK = (255, 247, 236), (153, 0, 13)
UNDEFINED_COLOUR = "#dddddd"


@dataclass(frozen=True)
class LayerMap:
    """Values by row and column.

    Attributes
    ----------
    title, legend : str
        Above and below the cells.
    rows, columns : sequence of str
        Names.
    values : sequence of sequence of float
        0 or more; NaN is grey. A value below 0 is drawn as 0.
    """

    title: str
    legend: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float]]

    def svg(self) -> str:
        """Return the picture; colours are on the scale of the square root, so that small values can be told apart."""
        left = 20 + int(CHARACTER * max(map(len, self.rows), default=0))
        slant = 20 + int(CHARACTER * max(map(len, self.columns), default=0) * 0.72)
        top = 40 + slant
        width = max(left + CELL * len(self.columns) + slant, 20 + int(CHARACTER * 1.1 * len(self.title)))
        height = top + ROW * len(self.rows) + 36
        largest = max((v for row in self.values for v in row if math.isfinite(v)), default=0.0)
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            'font-family="sans-serif" font-size="12">',
            f'<rect width="{width}" height="{height}" fill="white"/>',
            f'<text x="10" y="22" font-size="14" font-weight="bold">{escape(self.title)}</text>',
        ]
        for place, name in enumerate(self.columns):
            x, y = left + CELL * place + CELL // 2, top - 8
            parts.append(f'<text x="{x}" y="{y}" transform="rotate(-45 {x} {y})">{escape(name)}</text>')
        for number, (name, values) in enumerate(zip(self.rows, self.values, strict=True)):
            y = top + ROW * number
            parts.append(f'<text x="{left - 8}" y="{y + 15}" text-anchor="end">{escape(name)}</text>')
            parts += [_cell(left + CELL * place, y, value, largest) for place, value in enumerate(values)]
        parts.append(f'<text x="10" y="{height - 12}" fill="#444444">{escape(self.legend)}</text>')
        return "\n".join([*parts, "</svg>"]) + "\n"

    def save(self, file: Path) -> None:
        """Write the picture.

        Raises
        ------
        InputError
            The file cannot be written, or is not named as an SVG.
        """
        if file.suffix != ".svg":
            raise InputError(f"--plot writes SVG, and {file} has another ending; name a file.svg.")
        try:
            write_whole(file, self.svg())
        except OSError as error:
            raise InputError(f"{file} cannot be written ({error.strerror}); check --plot.") from error


def _cell(x: int, y: int, value: float, largest: float) -> str:
    share = math.sqrt(max(value, 0.0) / largest) if largest > 0 and math.isfinite(value) else 0.0
    colour = UNDEFINED_COLOUR
    if math.isfinite(value):
        mixed = (round(a + (b - a) * share) for a, b in zip(PALE, DARK, strict=True))
        colour = "#" + "".join(f"{part:02x}" for part in mixed)
    ink = "white" if share > 0.6 else "#222222"
    text = f"{value:.3g}" if math.isfinite(value) else "-"
    return (
        f'<rect x="{x}" y="{y}" width="{CELL - 2}" height="{ROW - 2}" fill="{colour}"/>'
        f'<text x="{x + CELL // 2}" y="{y + 14}" text-anchor="middle" fill="{ink}">{text}</text>'
    )
