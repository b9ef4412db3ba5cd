"""Figures as data: what is drawn, from which entries, and the same figures as a table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

MANY_COLUMNS = 6  # of a heatmap
MANY_POINTS = 400  # of one line; more are not visible
WITHOUT_A_FIGURE = "-"


@dataclass(frozen=True)
class Axis:
    """A quantity: its name with the unit, and how it is drawn."""

    label: str
    log: bool = False
    signed: bool = False
    percent: bool = False


@dataclass(frozen=True)
class Dot:
    """A value with its interval; all NaN where it is undefined.

    Attributes
    ----------
    value, low, high : float
        An end that is NaN or infinite is not drawn.
    text : str
        The same for people.
    answer : str
        Its verdict, drawn as the shape; empty where it has none.
    """

    value: float
    low: float
    high: float
    text: str
    answer: str = ""


@dataclass(frozen=True)
class Series:
    """Dots of one artifact, one per row of the figure."""

    name: str
    dots: tuple[Dot, ...]


@dataclass(frozen=True)
class FigureFacts:
    """What all figures have.

    Attributes
    ----------
    name : str
        File name without its ending, and anchor on a page; unique in a document.
    title : str
        One line above the figure.
    description : str
        What it shows, for readers who do not see it.
    caption : str
        How to read it.
    sources : tuple of str
        Ids of the entries that it was made of.
    """

    name: str
    title: str
    description: str
    caption: str
    sources: tuple[str, ...]


@dataclass(frozen=True)
class DotPlot(FigureFacts):
    """Values with intervals, a row per group and a colour per artifact.

    Attributes
    ----------
    rows : tuple of str
        Groups.
    axis : Axis
        Of the values.
    series : tuple of Series
        Artifacts.
    zero : float
        Where a line is drawn.
    band : tuple of two float, or None
        Ends of the region of equivalence.
    answers : tuple of str
        Verdicts that occur, in the order of the legend.
    total : bool
        Whether the last row is of all images.
    """

    rows: tuple[str, ...]
    axis: Axis
    series: tuple[Series, ...]
    zero: float = 0.0
    band: tuple[float, float] | None = None
    answers: tuple[str, ...] = ()
    total: bool = False


@dataclass(frozen=True)
class Quantity:
    """An axis that a reader can choose, and whether less of it is better."""

    key: str
    axis: Axis
    less_is_better: bool

    def cost(self, dot: Dot) -> float:
        """Return a value so that less of it is better."""
        return dot.value if self.less_is_better else -dot.value


@dataclass(frozen=True)
class Candidate:
    """A point of a trade-off.

    Attributes
    ----------
    name : str
        Of the artifact.
    dots : mapping
        A dot per quantity that is known of it.
    hollow : bool
        Whether it is simulated or emulated.
    """

    name: str
    dots: Mapping[str, Dot]
    hollow: bool


@dataclass(frozen=True)
class TradeOff(FigureFacts):
    """Two quantities of each artifact, and the artifacts that no other one beats in both.

    Attributes
    ----------
    across, up : tuple of Quantity
        What a reader can choose for the two axes; the first of each is shown first.
    candidates : tuple of Candidate
        Artifacts.
    fronts : mapping
        For ``across|up``: numbers of the candidates that no other one beats, from left to right.
    """

    across: tuple[Quantity, ...]
    up: tuple[Quantity, ...]
    candidates: tuple[Candidate, ...]
    fronts: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Cloud(FigureFacts):
    """Three quantities of each artifact, and the artifacts that no other one beats in all of them.

    Attributes
    ----------
    quantities : tuple of three Quantity
        To the right, to the back, and up.
    candidates : tuple of Candidate
        Artifacts of which all three are known.
    front : tuple of int
        Numbers of the candidates that no other one beats.
    """

    quantities: tuple[Quantity, Quantity, Quantity]
    candidates: tuple[Candidate, ...]
    front: tuple[int, ...]


@dataclass(frozen=True)
class Heatmap(FigureFacts):
    """A coloured table of values.

    Attributes
    ----------
    corner : str
        Name of the rows.
    rows, columns : tuple of str
        Names.
    cells : tuple of tuple of Dot
        A row of dots per row.
    axis : Axis
        Of the values.
    limit : float
        The absolute value at which the colour is fullest.
    """

    corner: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[Dot, ...], ...]
    axis: Axis
    limit: float

    @property
    def upright(self) -> Heatmap:
        """The same, turned if it has too many columns to read and fewer rows: a page is higher than wide."""
        if len(self.columns) <= max(len(self.rows), MANY_COLUMNS):
            return self
        cells = tuple(zip(*self.cells, strict=True))
        return replace(self, corner="artifact", rows=self.columns, columns=self.rows, cells=cells)

    def step(self, dot: Dot, steps: int = 7) -> int:
        """Return how full the colour of a cell is, from ``-steps`` to ``steps``; 0 where it is undefined."""
        if math.isnan(dot.value) or not self.limit:
            return 0
        return round(steps * max(-1.0, min(1.0, dot.value / self.limit)))


@dataclass(frozen=True)
class Line:
    """A line through points.

    Attributes
    ----------
    name : str
        What it is of.
    xs, ys : tuple of float
        Points from left to right.
    dashed : bool
        Whether it is of something simulated, or of secondary interest.
    colour : int
        Lines of the same number have the same colour.
    """

    name: str
    xs: tuple[float, ...]
    ys: tuple[float, ...]
    dashed: bool = False
    colour: int = 0


@dataclass(frozen=True)
class Lines(FigureFacts):
    """Lines in one pair of axes; ``steps`` draws a distribution function, ``points`` marks the values."""

    across: Axis
    up: Axis
    lines: tuple[Line, ...]
    steps: bool = False
    points: bool = False


Figure: TypeAlias = DotPlot | TradeOff | Cloud | Heatmap | Lines


@dataclass(frozen=True)
class FigureData:
    """A figure as a table."""

    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...] = field(repr=False)


def figure_data(figure: Figure) -> FigureData:
    """Return what a figure shows as a tidy table, unrounded."""
    if isinstance(figure, DotPlot):
        columns: tuple[str, ...] = ("artifact", "group", figure.axis.label, "low", "high", "verdict")
        rows = [
            (series.name, row, dot.value, dot.low, dot.high, dot.answer)
            for series in figure.series
            for row, dot in zip(figure.rows, series.dots, strict=True)
        ]
        return FigureData(columns, tuple(rows))
    if isinstance(figure, TradeOff):
        return FigureData(("artifact", "quantity", "value", "low", "high"), tuple(_trade_off_rows(figure)))
    if isinstance(figure, Cloud):
        columns = ("artifact", *(one.axis.label for one in figure.quantities), "beaten by none")
        points = [
            (one.name, *(one.dots[q.key].value for q in figure.quantities), "yes" if number in figure.front else "no")
            for number, one in enumerate(figure.candidates)
        ]
        return FigureData(columns, tuple(points))
    if isinstance(figure, Heatmap):
        columns = (figure.corner, "column", figure.axis.label, "low", "high")
        cells = zip(figure.rows, figure.cells, strict=True)
        return FigureData(
            columns,
            tuple(
                (row, column, dot.value, dot.low, dot.high)
                for row, dots in cells
                for column, dot in zip(figure.columns, dots, strict=True)
            ),
        )
    drawn = ((line.name, x, y) for line in figure.lines for x, y in zip(line.xs, line.ys, strict=True))
    return FigureData(("line", figure.across.label, figure.up.label), tuple(drawn))


def _trade_off_rows(figure: TradeOff) -> Iterator[tuple[object, ...]]:
    labels = {quantity.key: quantity.axis.label for quantity in (*figure.across, *figure.up)}
    for candidate in figure.candidates:
        for key, label in labels.items():
            if key in candidate.dots:
                dot = candidate.dots[key]
                yield candidate.name, label, dot.value, dot.low, dot.high


def front(candidates: Sequence[Candidate], across: Quantity, up: Quantity) -> tuple[int, ...]:
    """Return the numbers of the candidates that no other one beats in both quantities, from left to right.

    A candidate without one of the quantities is not compared. Of two that are equal in both, both are kept.
    """
    known = [
        (number, across.cost(one.dots[across.key]), up.cost(one.dots[up.key]))
        for number, one in enumerate(candidates)
        if all(key in one.dots and not math.isnan(one.dots[key].value) for key in (across.key, up.key))
    ]
    kept = [
        (number, x)
        for number, x, y in known
        if not any(other_x <= x and other_y <= y and (other_x, other_y) != (x, y) for _n, other_x, other_y in known)
    ]
    ordered = sorted(kept, key=lambda one: (one[1] if across.less_is_better else -one[1], one[0]))
    return tuple(number for number, _x in ordered)


def distribution(values: Sequence[float], points: int = MANY_POINTS) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return an empirical distribution function: values in order and the share of values at or below each.

    Of more than ``points`` values, evenly spaced ranks are kept, the smallest and the largest among them.
    """
    ordered = sorted(values)
    count = len(ordered)
    if count <= points:
        ranks = list(range(count))
    else:
        ranks = [round(step * (count - 1) / (points - 1)) for step in range(points)]
    return tuple(float(ordered[rank]) for rank in ranks), tuple((rank + 1) / count for rank in ranks)
