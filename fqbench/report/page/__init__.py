"""A page: its sections are functions of what was gathered from the workspace; nothing is computed again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain

from fqbench.report.document import Document, Heading, Section
from fqbench.report.evaluation import evaluation_document
from fqbench.report.page.costs import latency_section, trade_off_section
from fqbench.report.page.groups import change_section, heatmap_section
from fqbench.report.page.material import Material, gather
from fqbench.report.page.origins import calibration_section, entries_section, training_section
from fqbench.report.page.summary import summary_section, verdict_section

__all__ = ["Material", "gather", "page_document"]


def tables_section(material: Material) -> Iterator[Section]:
    """All tables of the evaluations, folded."""
    yield Heading("All tables")
    for view in material.views:
        title, *sections = evaluation_document(view.evaluation).sections
        yield Heading(title.text if isinstance(title, Heading) else view.title, level=3, folded=True)
        yield from sections


# In this order. A section that has nothing to say yields nothing.
SECTIONS: tuple[Callable[[Material], Iterator[Section]], ...] = (
    summary_section,
    verdict_section,
    change_section,
    trade_off_section,
    heatmap_section,
    latency_section,
    calibration_section,
    training_section,
    tables_section,
    entries_section,
)


def page_document(material: Material) -> Document:
    """Return the document of a page about one or several evaluations."""
    sections = tuple(chain.from_iterable(section(material) for section in SECTIONS))
    value = {
        "evaluations": [view.evaluation.to_dict() for view in material.views],
        "latency": None if material.latency is None else material.latency.to_dict(),
        "entries": [entry.id for entry in material.lineage],
    }
    return Document(sections, value)
