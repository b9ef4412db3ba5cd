"""One module per format in which a document can be written."""

from __future__ import annotations

import sys

from fqbench.report.document import Document, Format


def render(document: Document, form: Format) -> str:
    """Return a document in one of the formats that do not depend on a terminal.

    Raises
    ------
    ValueError
        Text has a width and styles; `show` prints it.
    """
    from fqbench.report.renderers import latex, markdown, tables, values

    writers = {
        Format.MARKDOWN: markdown.render,
        Format.LATEX: latex.render,
        Format.CSV: tables.render,
        Format.JSON: values.render,
    }
    if form not in writers:
        raise ValueError(f"{form} is printed by show()")
    return writers[form](document)


def show(document: Document, form: Format = Format.TEXT) -> None:
    """Write a document to stdout."""
    if form is not Format.TEXT:
        sys.stdout.write(render(document, form))
        return
    from fqbench.report.renderers import text
    from fqbench.terminal import stdout

    text.show(document, stdout())
