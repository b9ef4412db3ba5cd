"""What a folder of a report holds, whatever it is about: a page, tables, model cards, and the entries behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fqbench.report.document import Document


@dataclass(frozen=True)
class PageContents:
    """A report before it is written.

    Attributes
    ----------
    title : str
        Of the page.
    lead : tuple of str
        Facts below the title.
    document : Document
        The sections: headings of level 2, notes, sheets and figures.
    entries : tuple of str
        Ids of the entries that the report is about.
    tables : mapping of str to Document
        Figures without rounding, by file name without its ending: records that become CSV.
    cards : mapping of str to str
        Model cards by artifact.
    files : mapping of str to str
        Other files by name.
    """

    title: str
    lead: tuple[str, ...]
    document: Document
    entries: tuple[str, ...]
    tables: Mapping[str, Document]
    cards: Mapping[str, str]
    files: Mapping[str, str] = field(default_factory=dict)
