"""A document on a terminal: lines that keep to its width, each with a style."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import dropwhile
from typing import TYPE_CHECKING

from fqbench.report.document import Document, Heading, Note, Section, Sheet
from fqbench.report.layout import GAP, Column, paragraph, parts, rows

if TYPE_CHECKING:
    from rich.console import Console

BAR = 10
WIDEST_SENTENCE = 120
BOLD, WARNING, DIM, PLAIN = "bold", "yellow", "dim", ""


def lines(document: Document, width: int) -> Iterator[tuple[str, str]]:
    """Yield every line with its style; none breaks a word, and none is wider than ``width`` unless a word is.

    Parameters
    ----------
    document : Document
        What to show.
    width : int
        Columns of the terminal.
    """
    found = (line for section in document.sections for line in _section(section, width))
    yield from dropwhile(lambda line: not line[0], found)


def show(document: Document, out: Console) -> None:
    """Print a document on a console."""
    for line, style in lines(document, out.width):
        out.print(line, style=style, highlight=False, markup=False, soft_wrap=True)


def _section(section: Section, width: int) -> Iterator[tuple[str, str]]:
    if isinstance(section, Heading):
        yield "", PLAIN
        for line in paragraph(section.text, width):
            yield line, BOLD
    elif isinstance(section, Note):
        for line in paragraph(f"! {section.whole}" if section.warning else section.whole, min(width, WIDEST_SENTENCE)):
            yield line, WARNING if section.warning else PLAIN
    elif isinstance(section, Sheet):
        yield from _sheet(section, width)
    else:
        for line in paragraph(f"[figure {section.name}] {section.description}", min(width, WIDEST_SENTENCE)):
            yield line, DIM


def _sheet(sheet: Sheet, width: int) -> Iterator[tuple[str, str]]:
    yield "", PLAIN
    if sheet.title:
        for line in paragraph(sheet.title, width):
            yield line, BOLD
    for number, part in enumerate(parts(_columns(sheet, width), width)):
        if number:
            yield "", PLAIN
        for index, row in enumerate(rows(part)):
            for line in row:
                yield line, BOLD if sheet.total and index == len(sheet.rows) else PLAIN
            if index == 0:
                yield "─" * (sum(room for _column, room in part) + GAP * (len(part) - 1)), DIM
    for note in sheet.notes:
        for line, style in _section(note, width):
            yield line, style if note.warning else DIM


def _columns(sheet: Sheet, width: int) -> list[Column]:
    cells = list(zip(*sheet.rows, strict=True)) or [()] * len(sheet.columns)
    columns = [
        Column(name, tuple(column), right) for name, column, right in zip(sheet.names, cells, sheet.right, strict=True)
    ]
    if sheet.bars is None:
        return columns
    drawn = Column("", tuple(map(_bar, sheet.bars.shares)), right=False)
    with_bars = [*columns[: sheet.bars.column], drawn, *columns[sheet.bars.column :]]
    return with_bars if len(list(parts(with_bars, width))) == 1 else columns


def _bar(share: float) -> str:
    if math.isnan(share):
        return ""
    whole, rest = divmod(round(share * BAR * 8), 8)
    return "█" * whole + (" ▏▎▍▌▋▊▉"[rest] if rest else "")
