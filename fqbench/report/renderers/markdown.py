"""A document as GitHub's Markdown, for a comment on a pull request."""

from __future__ import annotations

import re

from fqbench.report.document import Document, Heading, Note, Section, Sheet

ENTITY = re.compile(r"&(?=#?\w+;)")
LINK = re.compile(r"\](?=[(\[])")
MARKUP = re.compile(r"[*`|~]|\\(?=[!-/:-@\[-`{-~])")  # a backslash before a letter is one


def render(document: Document) -> str:
    """Return the document as Markdown."""
    return "\n\n".join(part for part in map(_section, document.sections) if part) + "\n"


def _section(section: Section) -> str:
    if isinstance(section, Heading):
        return f"{'#' * section.level} {_escaped(section.text)}"
    if isinstance(section, Note):
        return f"> {_escaped(section.whole)}" if section.warning else _escaped(section.whole)
    if isinstance(section, Sheet):
        return _sheet(section)
    return f"*{_escaped(section.title)}*: {_escaped(section.description)}"


def _sheet(sheet: Sheet) -> str:
    parts = [f"### {_escaped(sheet.title)}"] if sheet.title else []
    lines = [_row(sheet.names), "|" + "|".join("---:" if right else "---" for right in sheet.right) + "|"]
    parts.append("\n".join([*lines, *map(_row, sheet.rows)]))
    return "\n\n".join([*parts, *map(_section, sheet.notes)])


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(_escaped(MARKUP.sub(r"\\\g<0>", cell)).replace("\n", " ") for cell in cells) + " |"


def _escaped(text: str) -> str:
    """A name of a group or file may look like HTML, which Markdown would pass on, or like a link."""
    return LINK.sub(r"]\\", ENTITY.sub("&amp;", text).replace("<", "&lt;"))
