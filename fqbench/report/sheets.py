"""A sheet is a titled table of text with notes; it can be printed, or written as Markdown or LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

UNDEFINED = "undefined"
LATEX_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "×": r"$\times$",
    "Δ": r"$\Delta$",
    "<": r"$<$",
    ">": r"$>$",
}


@dataclass(frozen=True)
class Sheet:
    """One table.

    Attributes
    ----------
    title : str
        May be empty.
    columns : tuple of str
        A column whose name begins with ``>`` is aligned to the right.
    rows : tuple of tuple of str
        Cells.
    notes : tuple of str
        Sentences below the table; one that begins with ``!`` is a warning.
    total : bool
        Whether the last row is a total.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()
    total: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, without the marks of alignment."""
        return tuple(column.removeprefix(">") for column in self.columns)

    @property
    def right(self) -> tuple[bool, ...]:
        """Which columns are aligned to the right."""
        return tuple(column.startswith(">") for column in self.columns)


def print_sheets(sheets: Sequence[Sheet], out: Console) -> None:
    """Print sheets on a console."""
    from rich import box
    from rich.table import Table

    for sheet in sheets:
        if sheet.title:
            out.print()
            out.print(sheet.title, style="bold", highlight=False, markup=False)
        if sheet.columns:
            table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
            for name, right in zip(sheet.names, sheet.right, strict=True):
                table.add_column(name, justify="right" if right else "left", overflow="fold")
            for index, row in enumerate(sheet.rows):
                last = sheet.total and index == len(sheet.rows) - 1
                table.add_row(*row, style="bold" if last else None)
            out.print(table)
        for note in sheet.notes:
            style = "yellow" if note.startswith("!") else "dim"
            out.print(note, style=style, highlight=False, markup=False)


def to_markdown(sheets: Sequence[Sheet]) -> str:
    """Return sheets as GitHub's Markdown, for a comment on a pull request."""
    parts = []
    for sheet in sheets:
        lines = [f"### {sheet.title}", ""] if sheet.title else []
        if sheet.columns:
            lines.append("| " + " | ".join(map(_markdown_cell, sheet.names)) + " |")
            lines.append("|" + "|".join("---:" if right else "---" for right in sheet.right) + "|")
            lines += ["| " + " | ".join(map(_markdown_cell, row)) + " |" for row in sheet.rows]
            lines.append("")
        for note in sheet.notes:
            lines += [f"> {note}" if note.startswith("!") else note, ""]
        parts.append("\n".join(lines))
    return "\n".join(parts)


def to_latex(sheets: Sequence[Sheet]) -> str:
    """Return sheets as LaTeX tables (package booktabs)."""
    parts = []
    for sheet in sheets:
        notes = " ".join(_latex(note.removeprefix("! ")) for note in sheet.notes)
        if not sheet.columns:
            parts.append(f"% {sheet.title}\n{notes}\n")
            continue
        body = "\n".join(" & ".join(map(_latex, row)) + r" \\" for row in sheet.rows)
        head = " & ".join(map(_latex, sheet.names)) + r" \\"
        align = "".join("r" if right else "l" for right in sheet.right)
        parts.append(
            "\\begin{table}\n\\centering\n"
            f"\\caption{{{_latex(sheet.title)}{'. ' + notes if notes else ''}}}\n"
            f"\\begin{{tabular}}{{{align}}}\n\\toprule\n{head}\n\\midrule\n{body}\n\\bottomrule\n"
            "\\end{tabular}\n\\end{table}\n"
        )
    return "\n".join(parts)


def _markdown_cell(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")


def _latex(text: str) -> str:
    return "".join(LATEX_SPECIAL.get(character, character) for character in text)
