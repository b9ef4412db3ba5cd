"""Documents: the sheets and notes that a verb shows, as data, written by a renderer in one of five formats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

UNDEFINED = "undefined"  # a figure that no image gives: never 0, and never significant


class Format(StrEnum):
    """How a document is written."""

    TEXT = "text"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"
    LATEX = "latex"


@dataclass(frozen=True)
class Note:
    """A sentence of its own or below a sheet."""

    text: str
    warning: bool = False


@dataclass(frozen=True)
class Bars:
    """Shares that a terminal draws as bars before a column; NaN draws nothing."""

    column: int
    shares: tuple[float, ...]


@dataclass(frozen=True)
class Sheet:
    """One table.

    Attributes
    ----------
    title : str
        May be empty.
    columns : tuple of str
        A column whose name begins with ``>`` is aligned to the right. The first one names the row: where a table is
        wider than the terminal, it is repeated before each part.
    rows : tuple of tuple of str
        Cells.
    notes : tuple of Note
        Sentences below the table.
    total : bool
        Whether the last row is a total.
    bars : Bars or None
        Drawn on a terminal that has room for them.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...] = ()
    notes: tuple[Note, ...] = ()
    total: bool = False
    bars: Bars | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, without the marks of alignment."""
        return tuple(column.removeprefix(">") for column in self.columns)

    @property
    def right(self) -> tuple[bool, ...]:
        """Which columns are aligned to the right."""
        return tuple(column.startswith(">") for column in self.columns)


@dataclass(frozen=True)
class Heading:
    """A title above the sections that follow."""

    text: str


Section: TypeAlias = Heading | Sheet | Note


@dataclass(frozen=True)
class Records:
    """The figures as one tidy table, as in CSV."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[object]]


@dataclass(frozen=True)
class Document:
    """Everything that one verb shows.

    Attributes
    ----------
    sections : tuple
        For people, in order.
    value : object
        JSON values: all that is known, where the sections show what matters.
    records : Records or None
        For CSV; None where the sheets' own cells are all there is.
    """

    sections: tuple[Section, ...]
    value: Any = field(default=None, repr=False)
    records: Records | None = field(default=None, repr=False)

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """The tables among the sections."""
        return tuple(section for section in self.sections if isinstance(section, Sheet))


def notes(*texts: str) -> tuple[Note, ...]:
    """Return notes of those texts that are not empty."""
    return tuple(Note(text) for text in texts if text)


def warnings(*texts: str) -> tuple[Note, ...]:
    """Return warnings of those texts that are not empty."""
    return tuple(Note(text, warning=True) for text in texts if text)
