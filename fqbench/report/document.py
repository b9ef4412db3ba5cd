"""Documents: the sheets and notes that a verb shows, as data, written by a renderer in one of five formats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, TypeAlias

from fqbench.report.figures import Figure

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
    """A sentence of its own or below a sheet.

    Attributes
    ----------
    text : str
        The sentence.
    warning : bool
        Whether it is a doubt.
    lead : bool
        Whether it is the one to read first.
    sources : tuple of str
        Ids of the entries that it names, which a page appends as links.
    """

    text: str
    warning: bool = False
    lead: bool = False
    sources: tuple[str, ...] = ()

    @property
    def whole(self) -> str:
        """The text with the ids, for renderers without links."""
        return f"{self.text} {', '.join(self.sources)}." if self.sources else self.text


@dataclass(frozen=True)
class Bars:
    """Shares that a terminal draws as bars before a column; NaN draws nothing."""

    column: int
    shares: tuple[float, ...]


Tone: TypeAlias = Literal["good", "bad", "open", "plain"]


@dataclass(frozen=True)
class Tones:
    """What the cells of a column mean, for renderers that have colours; the text says it, too."""

    column: int
    tones: tuple[Tone, ...]


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
    tones : Tones or None
        Drawn on a page.
    sources : tuple of tuple of str
        Ids of the entries that each row came from; empty where it is not said per row.
    name : str
        File name without its ending, where the table is also written into a file of its own.
    anchors : int or None
        The column with the ids of the entries that the rows describe.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...] = ()
    notes: tuple[Note, ...] = ()
    total: bool = False
    bars: Bars | None = None
    tones: Tones | None = None
    sources: tuple[tuple[str, ...], ...] = ()
    name: str = ""
    anchors: int | None = None

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
    """A title above the sections that follow.

    Attributes
    ----------
    text : str
        The title.
    level : int
        2, or 3 for a part of what stands below a heading of level 2.
    folded : bool
        Whether a page shows what follows only when it is opened.
    """

    text: str
    level: int = 2
    folded: bool = False


Section: TypeAlias = Heading | Sheet | Note | Figure


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

    @property
    def figures(self) -> tuple[Figure, ...]:
        """The figures among the sections."""
        return tuple(section for section in self.sections if not isinstance(section, Heading | Note | Sheet))

    def figure(self, name: str) -> Figure:
        """Return the figure with a name; KeyError if there is none."""
        for figure in self.figures:
            if figure.name == name:
                return figure
        raise KeyError(name)


def notes(*texts: str) -> tuple[Note, ...]:
    """Return notes of those texts that are not empty."""
    return tuple(Note(text) for text in texts if text)


def warnings(*texts: str) -> tuple[Note, ...]:
    """Return warnings of those texts that are not empty."""
    return tuple(Note(text, warning=True) for text in texts if text)
