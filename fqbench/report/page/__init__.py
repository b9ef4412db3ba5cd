"""Pages: their sections are functions of what was gathered from the workspace; nothing is computed again."""

from __future__ import annotations

from fqbench.report.page.evaluations import evaluation_page, page_document
from fqbench.report.page.material import Material, gather

__all__ = ["Material", "evaluation_page", "gather", "page_document"]
