"""A document as JSON."""

from __future__ import annotations

import json

from fqbench.report.document import Document


def render(document: Document) -> str:
    """Return the document's value; NaN must have become null before."""
    return json.dumps(document.value, indent=2, allow_nan=False, default=str) + "\n"
