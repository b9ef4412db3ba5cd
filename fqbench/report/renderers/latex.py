"""A document as LaTeX tables (package booktabs)."""

from __future__ import annotations

from fqbench.report.document import Document, Heading, Note, Section, Sheet
from fqbench.report.figures import Figure

SPECIAL = {
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
    "±": r"$\pm$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "−": "$-$",
    "<": r"$<$",
    ">": r"$>$",
}


def render(document: Document) -> str:
    """Return the document as LaTeX."""
    return "\n".join(map(_section, document.sections))


def _section(section: Section) -> str:
    if isinstance(section, Heading):
        return f"\\paragraph{{{_escaped(section.text)}}}\n"
    if isinstance(section, Note):
        return _escaped(section.whole) + "\n"
    return _sheet(section) if isinstance(section, Sheet) else _figure(section)


def _figure(figure: Figure) -> str:
    """The figure's PDF, as `fqbench report` writes it."""
    caption = f"{figure.title}. {figure.caption}"
    return (
        "\\begin{figure}\n\\centering\n"
        f"\\includegraphics[width=\\linewidth]{{figures/{figure.name}.pdf}}\n"
        f"\\caption{{{_escaped(caption)}}}\n\\end{{figure}}\n"
    )


def _sheet(sheet: Sheet) -> str:
    caption = ". ".join(filter(None, (sheet.title, " ".join(note.text for note in sheet.notes))))
    align = "".join("r" if right else "l" for right in sheet.right)
    body = "\n".join(map(_row, sheet.rows))
    return (
        "\\begin{table}\n\\centering\n"
        f"\\caption{{{_escaped(caption)}}}\n"
        f"\\begin{{tabular}}{{{align}}}\n\\toprule\n{_row(sheet.names)}\n\\midrule\n{body}\n\\bottomrule\n"
        "\\end{tabular}\n\\end{table}\n"
    )


def _row(cells: tuple[str, ...]) -> str:
    # A bracket or a star at the start of a row would be an argument of the line break before it.
    protected = "{}" if cells and cells[0].startswith(("[", "*")) else ""
    return protected + " & ".join(map(_escaped, cells)) + r" \\"


def _escaped(text: str) -> str:
    return "".join(SPECIAL.get(character, character) for character in text)
