"""Which preprocessing a strange model wants, as a document."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fqbench.report.document import Document, Sheet, notes

if TYPE_CHECKING:
    from fqbench.models.adopt.check import Checked


def check_document(checked: Checked) -> Document:
    """Return the accuracy of every convention, and which one the images speak for."""
    rows = tuple((one.what, f"{one.accuracy:.1%}", one.options) for one in checked.tried)
    value = {
        "images": len(checked.tried[0].correct),
        "p_value": checked.p_value,
        "chance": checked.chance,
        "verdict": checked.verdict,
        "tried": [{"what": one.what, "options": one.options, "accuracy": one.accuracy} for one in checked.tried],
    }
    sheet = Sheet("preprocessing", ("convention", ">accuracy", "options"), rows, notes(checked.verdict))
    return Document((sheet,), value)
