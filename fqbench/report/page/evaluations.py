"""The report on one or several evaluations, with the latencies, calibrations and trainings behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain

from fqbench.report.document import Document, Heading, Note, Section
from fqbench.report.evaluation import evaluation_document
from fqbench.report.latency import latency_document
from fqbench.report.page.card import model_card
from fqbench.report.page.contents import PageContents
from fqbench.report.page.costs import latency_section, trade_off_section
from fqbench.report.page.groups import change_section, heatmap_section
from fqbench.report.page.layers import layer_section
from fqbench.report.page.material import Material
from fqbench.report.page.origins import calibration_section, origins_section, training_section
from fqbench.report.page.summary import summary_section, verdict_section


def tables_section(material: Material) -> Iterator[Section]:
    """All tables of the evaluations, folded."""
    yield Heading("All tables")
    for view in material.views:
        title, *sections = evaluation_document(view.evaluation).sections
        yield Heading(title.text if isinstance(title, Heading) else view.title, level=3, folded=True)
        yield Note("All of these come from", sources=(view.entry.id,))
        yield from sections


# In this order. A section that has nothing to say yields nothing.
SECTIONS: tuple[Callable[[Material], Iterator[Section]], ...] = (
    summary_section,
    verdict_section,
    change_section,
    trade_off_section,
    heatmap_section,
    layer_section,
    latency_section,
    calibration_section,
    training_section,
    tables_section,
    origins_section,
)


def page_document(material: Material) -> Document:
    """Return the sections of the page."""
    return Document(tuple(chain.from_iterable(section(material) for section in SECTIONS)))


def evaluation_page(material: Material) -> PageContents:
    """Return the report: page, tables, and a model card per artifact that was compared with the reference.

    Raises
    ------
    UnavailableError
        huggingface_hub is not installed.
    """
    ids = dict.fromkeys(one.figures.id for view in material.views for one, _change in view.compared)
    tables = {"all-evaluations": evaluation_document(*(view.evaluation for view in material.views))}
    if material.latency is not None:
        tables["all-latencies"] = latency_document(material.latency, material.names)
    return PageContents(
        title=f"{material.views[0].evaluation.data}: accuracy per group and latency",
        lead=tuple(_lead(material)),
        document=page_document(material),
        entries=material.roots,
        tables=tables,
        cards={one: model_card(material, one) for one in ids},
    )


def _lead(material: Material) -> Iterator[str]:
    view = material.views[0]
    report = view.reference.figures.report
    yield view.title
    yield f"{len(view.subjects)} artifacts"
    yield f"{report.overall.n:,} images in {len(report.groups)} groups"
    yield f"{report.confidence:.0%} intervals"
    if material.latency is not None:
        yield f"latency on {material.latency.machine.cpu}"
