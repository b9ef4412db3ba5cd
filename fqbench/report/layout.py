"""Fit a table into a terminal: text wraps between words, and columns that do not fit go below."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

GAP = 2
NARROWEST_TEXT = 20  # a column of text is wrapped down to this before the table is split


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    name : str
        May be wrapped between words.
    cells : tuple of str
        Figures (``right``) stay in one line, text may be wrapped between words.
    right : bool
        Whether it is aligned to the right.
    """

    name: str
    cells: tuple[str, ...]
    right: bool

    @property
    def full(self) -> int:
        """Width at which no cell wraps."""
        return max([widest_word(self.name), *map(cell_width, self.cells)])

    @property
    def narrowest(self) -> int:
        """Width below which a word would have to break."""
        words = [widest_word(self.name), *map(widest_word, self.cells)]
        return self.full if self.right else min(self.full, max(NARROWEST_TEXT, *words))


def parts(columns: Sequence[Column], width: int) -> Iterator[list[tuple[Column, int]]]:
    """Split columns into parts that fit, the first column in each; yield each part's columns with their widths.

    Parameters
    ----------
    columns : sequence of Column
        All columns; the first names the rows.
    width : int
        Of the terminal. It is exceeded only where the first and one other column do not fit it without breaking a word.
    """
    if not columns:
        return
    key, rest = columns[0], list(columns[1:])
    while True:
        taken = [key]
        while rest and _narrowest([*taken, rest[0]]) <= width:
            taken.append(rest.pop(0))
        if rest and len(taken) == 1:
            taken.append(rest.pop(0))
        yield list(zip(taken, _widths(taken, width), strict=True))
        if not rest:
            return


def wrapped(text: str, width: int) -> list[str]:
    """Wrap between words; an empty text is one empty line."""
    lines: list[str] = []
    for word in text.split():
        if lines and cell_width(lines[-1]) + 1 + cell_width(word) <= width:
            lines[-1] += " " + word
        else:
            lines.append(word)
    return lines or [""]


def paragraph(text: str, width: int) -> list[str]:
    """Wrap a sentence between words, its indentation repeated."""
    indent = text[: len(text) - len(text.lstrip())]
    return textwrap.wrap(
        text, width, subsequent_indent=indent + "  " * bool(indent), break_long_words=False, break_on_hyphens=False
    ) or [""]


def rows(part: Sequence[tuple[Column, int]]) -> Iterator[list[str]]:
    """Yield the lines of each row of a part, the names of the columns first."""
    yield _lines([(wrapped(column.name, width), column, width) for column, width in part], bottom=True)
    for index in range(len(part[0][0].cells)):
        cells = [(column.cells[index], column, width) for column, width in part]
        yield _lines(
            [([cell] if column.right else wrapped(cell, width), column, width) for cell, column, width in cells]
        )


@cache
def cell_width(text: str) -> int:
    """Width on a terminal: a wide character takes two columns."""
    from rich.cells import cell_len

    return len(text) if text.isascii() else cell_len(text)


def widest_word(text: str) -> int:
    """Width of the widest word."""
    return max(map(cell_width, text.split()), default=0)


def _narrowest(columns: Sequence[Column]) -> int:
    return sum(column.narrowest for column in columns) + GAP * (len(columns) - 1)


def _widths(columns: Sequence[Column], width: int) -> list[int]:
    """Give each column its full width as far as there is room, the text that gains most lines first to shrink."""
    widths = [column.full for column in columns]
    excess = sum(widths) + GAP * (len(columns) - 1) - width
    while excess > 0:
        slack = [have - column.narrowest for have, column in zip(widths, columns, strict=True)]
        if max(slack) == 0:
            break
        shrunk = max((index for index in range(len(widths)) if slack[index]), key=widths.__getitem__)
        widths[shrunk] -= 1
        excess -= 1
    return _unwrap_names(columns, widths, -excess)


def _unwrap_names(columns: Sequence[Column], widths: list[int], spare: int) -> list[int]:
    """Widen columns whose name is wrapped while there is room."""
    for index, column in enumerate(columns):
        missing = cell_width(column.name) - widths[index]
        if 0 < missing <= spare:
            widths[index] += missing
            spare -= missing
    return widths


def _lines(cells: Sequence[tuple[list[str], Column, int]], *, bottom: bool = False) -> list[str]:
    height = max(len(lines) for lines, _column, _width in cells)
    out = []
    for index in range(height):
        line = []
        for lines, column, width in cells:
            at = index - (height - len(lines) if bottom else 0)
            text = lines[at] if 0 <= at < len(lines) else ""
            pad = " " * (width - cell_width(text))
            line.append(pad + text if column.right else text + pad)
        out.append((" " * GAP).join(line).rstrip())
    return out
