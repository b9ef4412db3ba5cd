"""Figures as SVG and PDF, for papers and slides."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from typing import Any

from fqbench.optional import require
from fqbench.report.figures import Axis, Cloud, Dot, DotPlot, Figure, Heatmap, Lines, Quantity, TradeOff

EXTRA = "report"
# Okabe and Ito's palette (2008), black and the faint ones last.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GAIN, LOSS = "#0072B2", "#D55E00"
FULL = 0.52  # how much of the full colour a heatmap's darkest cell has, so that black text can be read on it
FACES = {"equivalent": "o", "different": "D", "undecided": "o"}
FEW_COLUMNS = 6  # of a heatmap; the names of more are turned further
SHORT, LONGEST = 24, 48  # letters of a name that need not be turned much, and that are shown at most
LETTER, KEY, LINE = 0.065, 0.5, 0.16  # inches of a letter, of the mark before a name, and of a line in a legend
MOST_NAMED = 16  # points of a trade-off that a legend names; of more, only those that nothing beats are named
WIDTH = 7.0  # inches: a page of text
SETTINGS = {
    "font.size": 8,
    "svg.fonttype": "none",
    "svg.hashsalt": "fqbench",
    "pdf.fonttype": 42,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def plot(figure: Figure) -> dict[str, bytes]:
    """Return a figure as SVG and PDF, by the ending of the file; the same figure gives the same bytes.

    Raises
    ------
    UnavailableError
        matplotlib is not installed.
    """
    matplotlib = require("matplotlib", extra=EXTRA)
    with matplotlib.rc_context(SETTINGS), warnings.catch_warnings():
        # A letter that matplotlib's own font lacks is a box in the PDF; the SVG has it as text.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        drawn = _drawn(figure)
        drawn.draw_without_rendering()
        drawn.set_layout_engine("none")  # the layout is done: neither file needs it again
        return {"svg": _saved(drawn, "svg", {"Date": None}), "pdf": _saved(drawn, "pdf", {"CreationDate": None})}


def _saved(drawn: Any, form: str, metadata: dict[str, None]) -> bytes:
    out = io.BytesIO()
    drawn.savefig(out, format=form, metadata=metadata)
    return out.getvalue()


def _drawn(figure: Figure) -> Any:
    if isinstance(figure, DotPlot):
        return _dots(figure)
    if isinstance(figure, TradeOff):
        return _trade_off(figure)
    if isinstance(figure, Cloud):
        return _cloud(figure)
    return _heatmap(figure) if isinstance(figure, Heatmap) else _lines(figure)


def _canvas(height: float, rows: int = 1, columns: int = 1) -> tuple[Any, Any]:
    figures = require("matplotlib.figure", extra=EXTRA)
    canvas = figures.Figure(figsize=(WIDTH, height), layout="constrained")
    return canvas, canvas.subplots(rows, columns, squeeze=False)


def _plain(text: str) -> str:
    """Text as it is: a dollar would begin a formula."""
    return text.replace("$", r"\$")


def _cut(name: str) -> str:
    """A name as long as there is room for next to a panel; the figure's table has the whole."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def _formatted(axis: Any, quantity: Axis) -> None:
    ticker = require("matplotlib.ticker", extra=EXTRA)
    if quantity.percent:
        axis.set_major_formatter(ticker.PercentFormatter(xmax=1.0))
    elif quantity.log:
        axis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        axis.set_minor_formatter(ticker.NullFormatter())
        axis.set_major_locator(ticker.LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))


def _reach(dot: Dot) -> list[list[float]]:
    """Lengths of an interval, as matplotlib takes them; an end that is unknown has none."""
    low, high = dot.value - dot.low, dot.high - dot.value
    return [[max(0.0, end)] if math.isfinite(end) else [0.0] for end in (low, high)]


def _legend(canvas: Any, axes: Any) -> None:
    """A legend above the panels, in as many columns as its longest name leaves room for."""
    handles, labels = axes.get_legend_handles_labels()
    widest = max(map(len, labels), default=0) * LETTER + KEY
    columns = max(1, int(WIDTH / widest))
    canvas.set_figheight(canvas.get_figheight() + LINE * math.ceil(len(labels) / columns))
    canvas.legend(handles, labels, loc="outside upper left", ncols=columns, frameon=False)


def _dots(figure: DotPlot) -> Any:
    count = len(figure.series)
    canvas, ((axes,),) = _canvas(1.0 + len(figure.rows) * max(0.22, 0.11 * count + 0.08))
    if figure.band is not None:
        axes.axvspan(*figure.band, color="0.9", zorder=0)
    axes.axvline(figure.zero, color="0.4", linewidth=0.8, zorder=1)
    for order, series in enumerate(figure.series):
        colour = COLOURS[order % len(COLOURS)]
        for row, dot in enumerate(series.dots):
            if math.isnan(dot.value):
                continue
            y = row + (order - (count - 1) / 2) * 0.7 / max(count, 1)
            axes.errorbar(
                [dot.value], [y], xerr=_reach(dot), color=colour, linewidth=1.1, marker=FACES.get(dot.answer, "o"),
                markersize=4, markerfacecolor="white" if dot.answer == "undecided" else colour,
            )  # fmt: skip
        axes.plot([], [], color=colour, marker="o", markersize=4, label=_plain(series.name))
    for answer in figure.answers:
        face = "white" if answer == "undecided" else "black"
        axes.plot([], [], "black", linestyle="", marker=FACES[answer], markersize=4, markerfacecolor=face, label=answer)
    axes.set_yticks(range(len(figure.rows)), [_plain(_cut(row)) for row in figure.rows])
    axes.set_ylim(len(figure.rows) - 0.5, -0.5)
    axes.set_xlabel(_plain(figure.axis.label))
    _formatted(axes.xaxis, figure.axis)
    _legend(canvas, axes)
    return canvas


def _trade_off(figure: TradeOff) -> Any:
    canvas, panels = _canvas(2.3 * len(figure.up), len(figure.up), len(figure.across))
    for row, up in zip(panels, figure.up, strict=True):
        for axes, across in zip(row, figure.across, strict=True):
            _panel(axes, figure, across, up)
    if len(figure.candidates) <= MOST_NAMED:
        _legend(canvas, panels[0][0])
    return canvas


def _panel(axes: Any, figure: TradeOff, across: Quantity, up: Quantity) -> None:
    best = [figure.candidates[number].dots for number in figure.fronts[f"{across.key}|{up.key}"]]
    xs, ys = [one[across.key].value for one in best], [one[up.key].value for one in best]
    axes.step(xs, ys, where="post", color="0.5", linestyle=":", linewidth=1)
    for order, one in enumerate(figure.candidates):
        colour = COLOURS[order % len(COLOURS)]
        face = "white" if one.hollow else colour
        axes.plot([], [], color=colour, linestyle="", marker="o", markerfacecolor=face, label=_plain(one.name))
        if across.key not in one.dots or up.key not in one.dots:
            continue
        x, y = one.dots[across.key], one.dots[up.key]
        axes.errorbar(
            [x.value], [y.value], xerr=_reach(x), yerr=_reach(y), color=colour, marker="o", markersize=5,
            markerfacecolor=face, linewidth=1,
        )  # fmt: skip
    if len(figure.candidates) > MOST_NAMED:
        for number, at in zip(figure.fronts[f"{across.key}|{up.key}"], zip(xs, ys, strict=True), strict=True):
            name = _plain(figure.candidates[number].name)
            axes.annotate(name, at, (4, 4), textcoords="offset points", fontsize=6)
    axes.set_xlabel(_plain(across.axis.label))
    axes.set_ylabel(_plain(up.axis.label))
    _formatted(axes.xaxis, across.axis)
    _formatted(axes.yaxis, up.axis)
    axes.grid(color="0.92", zorder=0)


def _cloud(figure: Cloud) -> Any:
    figures = require("matplotlib.figure", extra=EXTRA)
    canvas = figures.Figure(figsize=(WIDTH, 5.0), layout="constrained")
    axes = canvas.add_subplot(projection="3d")
    points = [[one.dots[quantity.key].value for quantity in figure.quantities] for one in figure.candidates]
    floor = min(point[2] for point in points)
    for order, (one, (x, y, z)) in enumerate(zip(figure.candidates, points, strict=True)):
        colour, best = COLOURS[order % len(COLOURS)], order in figure.front
        axes.plot(
            [x], [y], [z], color=colour, linestyle="", marker="o", markersize=6 if best else 3,
            markerfacecolor="white" if one.hollow else colour,
        )  # fmt: skip
        if best:
            axes.plot([x, x], [y, y], [floor, z], color=colour, linewidth=0.8)
            axes.text(x, y, z, "  " + _plain(one.name), fontsize=6)
    for quantity, axis, label in zip(
        figure.quantities,
        (axes.xaxis, axes.yaxis, axes.zaxis),
        (axes.set_xlabel, axes.set_ylabel, axes.set_zlabel),
        strict=True,
    ):
        label(_plain(quantity.axis.label))
        _formatted(axis, quantity.axis)
    return canvas


def _heatmap(figure: Heatmap) -> Any:
    turn = 20 if len(figure.columns) <= FEW_COLUMNS and max(map(len, figure.columns), default=0) <= SHORT else 60
    names = [_cut(name) for name in figure.columns]
    # The names below the columns need room of their own, or the cells would get none.
    below = max(map(len, names), default=0) * LETTER * math.sin(math.radians(turn))
    canvas, ((axes,),) = _canvas(0.7 + below + 0.24 * len(figure.rows))
    shares = [[_share(figure, dot) for dot in row] for row in figure.cells]
    axes.imshow([[_blend(share) for share in row] for row in shares], aspect="auto")
    for number, row in enumerate(figure.cells):
        for column, dot in enumerate(row):
            axes.text(column, number, _plain(dot.text), ha="center", va="center", fontsize=7)
    axes.set_xticks(range(len(names)), [_plain(name) for name in names], rotation=turn, ha="right")
    axes.set_yticks(range(len(figure.rows)), [_plain(_cut(name)) for name in figure.rows])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(_plain(f"{figure.title}"), loc="left", fontsize=8)
    return canvas


def _share(figure: Heatmap, dot: Dot) -> float:
    return 0.0 if math.isnan(dot.value) or not figure.limit else max(-1.0, min(1.0, dot.value / figure.limit))


def _blend(share: float) -> Sequence[float]:
    colors = require("matplotlib.colors", extra=EXTRA)
    full = colors.to_rgb(GAIN if share >= 0 else LOSS)
    weight = FULL * abs(share)
    return [1 - weight + weight * channel for channel in full]


def _lines(figure: Lines) -> Any:
    canvas, ((axes,),) = _canvas(3.0)
    for line in figure.lines:
        axes.plot(
            line.xs, line.ys, color=COLOURS[line.colour % len(COLOURS)], linestyle="--" if line.dashed else "-",
            linewidth=1.2, drawstyle="steps-post" if figure.steps else "default", marker="o" if figure.points else "",
            markersize=3, label=_plain(line.name),
        )  # fmt: skip
    if figure.across.log and any(line.xs for line in figure.lines):
        axes.set_xscale("log")
    axes.set_xlabel(_plain(figure.across.label))
    axes.set_ylabel(_plain(figure.up.label))
    _formatted(axes.xaxis, figure.across)
    _formatted(axes.yaxis, figure.up)
    axes.grid(color="0.92")
    _legend(canvas, axes)
    return canvas
