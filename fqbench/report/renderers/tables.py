"""A document as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence

from fqbench.report.document import Document, Records

CELLS = ("table", "row", "column", "value")


def render(document: Document) -> str:
    """Return the document's records; without any, its one table, or the cells of its tables in long form."""
    records = document.records or _of_sheets(document)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(records.columns)
    writer.writerows(map(_cells, records.rows))
    return text.getvalue()


def _of_sheets(document: Document) -> Records:
    if len(document.sheets) == 1:
        (sheet,) = document.sheets
        return Records(sheet.names, sheet.rows)
    rows = [
        (sheet.title or str(number), row[0], name, cell)
        for number, sheet in enumerate(document.sheets, 1)
        for row in sheet.rows
        for name, cell in zip(sheet.names, row, strict=True)
    ]
    return Records(CELLS, rows)


def _cells(row: Sequence[object]) -> Iterable[object]:
    """NaN, a figure that is undefined, is an empty cell."""
    return ("" if isinstance(cell, float) and math.isnan(cell) else cell for cell in row)
