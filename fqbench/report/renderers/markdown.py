"""A document as GitHub's Markdown, for a comment on a pull request."""

from __future__ import annotations

from fqbench.report.document import Document, Heading, Note, Section, Sheet


def render(document: Document) -> str:
    """Return the document as Markdown."""
    return "\n\n".join(part for part in map(_section, document.sections) if part) + "\n"


def _section(section: Section) -> str:
    if isinstance(section, Heading):
        return f"## {section.text}"
    if isinstance(section, Note):
        return f"> {section.text}" if section.warning else section.text
    return _sheet(section)


def _sheet(sheet: Sheet) -> str:
    parts = [f"### {sheet.title}"] if sheet.title else []
    lines = [_row(sheet.names), "|" + "|".join("---:" if right else "---" for right in sheet.right) + "|"]
    parts.append("\n".join([*lines, *map(_row, sheet.rows)]))
    return "\n\n".join([*parts, *map(_section, sheet.notes)])


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|").replace("\n", " ") for cell in cells) + " |"
