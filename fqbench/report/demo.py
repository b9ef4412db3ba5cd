"""The demo's results as a document."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fqbench.report.document import Document
from fqbench.report.evaluation import evaluation_document
from fqbench.report.latency import latency_document

if TYPE_CHECKING:
    from fqbench.demo import Demo


def demo_document(demo: Demo) -> Document:
    """Return the evaluation and the latency."""
    evaluation, latency = evaluation_document(demo.evaluation), latency_document(demo.latency)
    value = {"evaluation": evaluation.value, "latency": latency.value}
    return Document((*evaluation.sections, *latency.sections), value, evaluation.records)
