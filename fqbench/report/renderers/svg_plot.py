"""Curve plots as SVG text: a row of panels, each with axes, ticks, lines or steps, and one legend below."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

# Okabe and Ito's colours, told apart by most colour-blind readers; dashes tell those of a second round apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("", "6 3", "2 2")
WIDTH, HEIGHT = 460, 320  # of a panel
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 32, 46
LINE = 18  # height of a line of the legend
TICKS = 5
MARKED = 12  # most points of a line that are drawn as dots, too


@dataclass(frozen=True)
class Curve:
    """One line of a panel.

    Attributes
    ----------
    name : str
        In the legend; lines of one name in several panels have one colour.
    xs, ys : tuple of float
        Points, in order; those that are not finite are left out.
    steps : bool
        Go to the next x first and then to its y, as an empirical distribution does.
    """

    name: str
    xs: tuple[float, ...]
    ys: tuple[float, ...]
    steps: bool = False


@dataclass(frozen=True)
class Panel:
    """One plot: title, axes and curves; a logarithmic axis needs positive values."""

    title: str
    x_label: str
    y_label: str
    curves: tuple[Curve, ...]
    log_x: bool = False
    log_y: bool = False


def svg(panels: Sequence[Panel]) -> str:
    """Return panels side by side as one SVG document, the same text for the same values."""
    names = list(dict.fromkeys(line.name for panel in panels for line in panel.curves))
    width, height = WIDTH * max(1, len(panels)), HEIGHT + LINE * len(names) + 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for number, panel in enumerate(panels):
        parts += [f'<g transform="translate({number * WIDTH} 0)">', *_panel(panel, names), "</g>"]
    for number, name in enumerate(names):
        y = HEIGHT + LINE * number + 8
        parts.append(f'<line x1="{LEFT}" y1="{y}" x2="{LEFT + 28}" y2="{y}" {_stroke(number)}/>')
        parts.append(f'<text x="{LEFT + 36}" y="{y + 4}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(panel: Panel, names: Sequence[str]) -> Iterator[str]:
    lines = [_finite(line, panel) for line in panel.curves]
    across = _Axis.of([x for line in lines for x in line.xs], LEFT, WIDTH - RIGHT, log=panel.log_x)
    up = _Axis.of([y for line in lines for y in line.ys], HEIGHT - BOTTOM, TOP, log=panel.log_y)
    yield f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.1f}" y="18" text-anchor="middle">{escape(panel.title)}</text>'
    for value in across.ticks():
        x = across.place(value)
        yield f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{HEIGHT - BOTTOM}" stroke="#ddd"/>'
        yield f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{value:g}</text>'
    for value in up.ticks():
        y = up.place(value)
        yield f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#ddd"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
    centre, middle = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    yield f'<text x="{centre:.1f}" y="{HEIGHT - 10}" text-anchor="middle">{escape(panel.x_label)}</text>'
    yield (
        f'<text x="14" y="{middle:.1f}" text-anchor="middle" transform="rotate(-90 14 {middle:.1f})">'
        f"{escape(panel.y_label)}</text>"
    )
    for line in lines:
        points = list(_points(line, across, up))
        text = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        number = names.index(line.name)
        yield f'<polyline points="{text}" fill="none" {_stroke(number)}/>'
        if not line.steps and len(points) <= MARKED:
            colour = COLOURS[number % len(COLOURS)]
            yield from (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points)


def _finite(line: Curve, panel: Panel) -> Curve:
    kept = [
        (x, y)
        for x, y in zip(line.xs, line.ys, strict=True)
        if math.isfinite(x) and math.isfinite(y) and (x > 0 or not panel.log_x) and (y > 0 or not panel.log_y)
    ]
    return Curve(line.name, tuple(x for x, _ in kept), tuple(y for _, y in kept), line.steps)


def _points(line: Curve, across: _Axis, up: _Axis) -> Iterator[tuple[float, float]]:
    before = None
    for x, y in zip(line.xs, line.ys, strict=True):
        place = across.place(x), up.place(y)
        if line.steps and before is not None:
            yield place[0], before[1]
        yield place
        before = place


def _stroke(number: int) -> str:
    dash = DASHES[number // len(COLOURS) % len(DASHES)]
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return f'stroke="{COLOURS[number % len(COLOURS)]}" stroke-width="1.8"{dashed}'


@dataclass(frozen=True)
class _Axis:
    """From values to places on the page."""

    low: float
    high: float
    start: float
    end: float
    log: bool

    @classmethod
    def of(cls, values: Sequence[float], start: float, end: float, *, log: bool) -> _Axis:
        low, high = (min(values), max(values)) if values else (1.0, 10.0)
        if low == high:
            low, high = (low / 2, high * 2) if log else (low - 0.5, high + 0.5)
        return cls(low, high, start, end, log)

    def place(self, value: float) -> float:
        low, high, value = (math.log10(each) if self.log else each for each in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round values within the axis: multiples of 1, 2 or 5 times a power of ten, or 1, 2, 5 in each decade."""
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            found = [float(f"{step}e{decade}") for decade in decades for step in (1, 2, 5)]
            inside = [value for value in found if self.low <= value <= self.high]
            return inside or [self.low, self.high]
        rough = (self.high - self.low) / TICKS
        power = 10 ** math.floor(math.log10(rough))
        step = next(step * power for step in (1, 2, 5, 10) if step * power >= rough)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [float(f"{number * step:.10g}") for number in range(first, last + 1)]
