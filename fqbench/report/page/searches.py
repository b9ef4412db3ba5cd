"""The report on a search: what was chosen, what was tried and why, and the verdict of the test split."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from fqbench.contracts.runtime import Level
from fqbench.errors import InputError
from fqbench.report.document import UNDEFINED, Document, Heading, Note, Section, Sheet, Tone, Tones, notes, warnings
from fqbench.report.figures import Axis, Candidate, Dot, Quantity, TradeOff, front
from fqbench.report.gate import gate_document
from fqbench.report.page.card import model_card
from fqbench.report.page.clouds import cloud, cloud_sections
from fqbench.report.page.contents import PageContents
from fqbench.report.page.groups import change_section
from fqbench.report.page.material import Material, gather, lineage_of, mark
from fqbench.report.page.origins import entries_section
from fqbench.report.page.quantities import LATENCY, LOSS, SIZE
from fqbench.report.search import MEGABYTE, MILLI, POINTS, finalists_sheet, search_document, summary, trials_sheet
from fqbench.search.results import REPORT, SearchReport, TrialReport
from fqbench.stages.evaluate import open_evaluations
from fqbench.storage import text_digest
from fqbench.workspace import Entry, Workspace
from fqbench.workspace.kinds import ARTIFACTS, EVALUATIONS, GATES, SEARCHES, SearchFacts

INTEGERS = Quantity("integers", Axis("multiply-accumulates in integers", percent=True), less_is_better=False)
DIVERGENCE = Quantity("divergence", Axis("KL divergence of the worst group, 0.001 nats"), less_is_better=True)
CHOSE = "On the validation images that chose, so that the figures of the best ones flatter."
OUTCOMES: dict[str, Tone] = {"passed": "good", "FAILED": "bad", "undecided": "open"}


@dataclass(frozen=True)
class SearchMaterial:
    """A search and what it came from.

    Attributes
    ----------
    entry : Entry
        Where it is.
    report : SearchReport
        What it holds.
    judged : Material or None
        The evaluation on the test split that judged the chosen artifact; None where it is no longer in the workspace.
    lineage : tuple of Entry
        Every entry that it came from.
    missing : tuple of str
        Ids of those that are no longer in the workspace.
    """

    entry: Entry[SearchFacts]
    report: SearchReport
    judged: Material | None
    lineage: tuple[Entry[Any], ...]
    missing: tuple[str, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        """The search and the verdict."""
        return (self.entry.id, self.report.gate_id)


def gather_search(workspace: Workspace, identity: str) -> SearchMaterial:
    """Read a search, and the evaluation that judged what it chose; nothing is computed.

    Raises
    ------
    InputError
        There is no such search.
    DataError
        It is damaged, or of another version.
    """
    entry = workspace.get(identity, SEARCHES)
    report = SearchReport.open(entry.file(REPORT))
    roots: list[Entry[Any]] = [entry]
    lost = []
    named = [(report.gate_id, GATES), *((one.artifact_id, ARTIFACTS) for one in report.trials if one.artifact_id)]
    for one, kind in dict.fromkeys(named):
        try:
            roots.append(workspace.get(one, kind))
        except InputError:
            lost.append(one)
    evaluation = _evaluation(workspace, report, roots)
    judged = None if evaluation is None else gather(workspace, [evaluation.id])
    lineage, missing = lineage_of(workspace, roots if evaluation is None else [*roots, evaluation])
    return SearchMaterial(entry, report, judged, lineage, tuple(dict.fromkeys((*lost, *missing))))


def _evaluation(workspace: Workspace, report: SearchReport, roots: Sequence[Entry[Any]]) -> Entry[Any] | None:
    """The evaluation that the gate looked at, by the digest of its figures."""
    asked = {one.manifest.determined_by["evaluation"] for one in roots if one.kind == GATES.name}
    for entry in workspace.entries(EVALUATIONS):
        if report.chosen in entry.facts.artifacts:
            text = "".join(one.to_json() for one in open_evaluations(entry))
            if text_digest(text) in asked:
                return entry
    return None


def summary_section(material: SearchMaterial) -> Iterator[Section]:
    """What was found, what it costs, and how it was judged."""
    first, *others = summary(material.report)
    yield Heading("Summary")
    yield Note(first, lead=True)
    yield from notes(*others)
    yield Note("These sentences follow from", sources=material.sources)
    if material.report.spent:
        yield from warnings("the budget ended the search: more time may find a better one.")
    yield from warnings(material.report.notice)


def verdict_section(material: SearchMaterial) -> Iterator[Section]:
    """Limit by limit, what the test split says of the chosen artifact, and its change per group."""
    yield Heading("Verdict of the test split")
    for section in gate_document(material.report.gate).sections:
        if isinstance(section, Sheet) and section.title == "limits":
            tones = tuple(OUTCOMES[row[2]] for row in section.rows)
            yield replace(section, tones=Tones(2, tones), name="limits")
        else:
            yield section
    if material.judged is None:
        yield from notes("The evaluation behind it is no longer in the workspace, so that its groups are not shown.")
        return
    yield from change_section(material.judged)


def trade_off_section(material: SearchMaterial) -> Iterator[Section]:
    """Size, arithmetic and divergence of every trial."""
    made = [one for one in material.report.trials if not one.failed]
    if not made:
        return
    yield Heading("Trade-offs")
    candidates = tuple(_candidate(one, material.report) for one in made)
    timed = any(LATENCY.key in one.dots for one in candidates)
    across = (SIZE, INTEGERS, LATENCY) if timed else (SIZE, INTEGERS)
    up = (DIVERGENCE, LOSS)
    fronts = {f"{x.key}|{y.key}": front(candidates, x, y) for x in across for y in up}
    best = ", ".join(candidates[number].name for number in fronts[f"{SIZE.key}|{DIVERGENCE.key}"])
    yield TradeOff(
        name="trials-trade-offs",
        title="Cost and harm of each trial",
        description=f"No other trial beats these in size and divergence of the worst group: {best}.",
        caption=f"{CHOSE} The line joins trials that no other one beats in both. Only finalists have a latency.",
        sources=(material.entry.id,),
        across=across,
        up=up,
        candidates=candidates,
        fronts=fronts,
    )
    yield from cloud_sections([cloud("trials-in-3d", (material.entry.id,), (SIZE, INTEGERS, DIVERGENCE), candidates)])


def trials_section(material: SearchMaterial) -> Iterator[Section]:
    """Every trial with the reason why it was made, the finalists, and the decisions between them."""
    report = material.report
    yield Heading("What was tried, and why")
    sources = tuple(((one.artifact_id,) if one.artifact_id else ()) for one in report.trials)
    yield replace(trials_sheet(report), title="", name="trials", sources=sources)
    yield replace(finalists_sheet(report), name="finalists")
    steps = tuple((str(number), step) for number, step in enumerate(report.steps, 1))
    yield Sheet("decisions, in order", (">step", "what was done, and why"), steps, name="decisions")


def recipe_section(material: SearchMaterial) -> Iterator[Section]:
    """The recipe of what was chosen."""
    yield Heading("Recipe")
    yield from notes(
        f"The recipe of {material.report.chosen} is recipe.yaml, next to this page; fqbench quantize --recipe makes "
        "the same artifact of the same model and data."
    )


# In this order.
SECTIONS: tuple[Callable[[SearchMaterial], Iterator[Section]], ...] = (
    summary_section,
    verdict_section,
    trade_off_section,
    trials_section,
    recipe_section,
)


def search_page(material: SearchMaterial) -> PageContents:
    """Return the report: page, tables, the recipe, and a model card of what was chosen.

    Raises
    ------
    UnavailableError
        huggingface_hub is not installed.
    """
    report, judged = material.report, material.judged
    sections = chain(*(section(material) for section in SECTIONS), entries_section(material.lineage, material.missing))
    chosen = report.trial(report.chosen)
    return PageContents(
        title=f"Search: the {'fastest' if report.objective == 'latency' else 'smallest'} artifact within limits",
        lead=(chosen.label, f"{len(report.trials)} trials", f"{len(report.finalists)} finalists"),
        document=Document(tuple(sections)),
        entries=(material.entry.id,),
        tables={"all-trials": search_document(report, material.entry.id)},
        cards={} if judged is None else {report.chosen: model_card(judged, report.chosen, tuple(_context(material)))},
        files={"recipe.yaml": report.recipe},
    )


def _context(material: SearchMaterial) -> Iterator[Section]:
    yield Heading("The search that found it")
    yield from notes(*summary(material.report))


def _candidate(one: TrialReport, report: SearchReport) -> Candidate:
    nan = math.nan
    share = 0.0 if math.isnan(one.integer_share) else one.integer_share  # as the search itself counts it
    dots = {
        SIZE.key: Dot(one.bytes / MEGABYTE, nan, nan, f"{one.bytes / MEGABYTE:.3g} MB"),
        INTEGERS.key: Dot(share, nan, nan, UNDEFINED if math.isnan(one.integer_share) else f"{share:.0%}"),
    }
    if not math.isnan(one.worst_kl_divergence):
        value = MILLI * one.worst_kl_divergence
        dots[DIVERGENCE.key] = Dot(value, nan, nan, f"{value:.3g} {one.worst_group}")
    if not math.isnan(one.worst_change):
        dots[LOSS.key] = Dot(POINTS * one.worst_change, nan, nan, f"{POINTS * one.worst_change:+.1f}")
    for last in report.finalists:
        if last.artifact_id == one.artifact_id and last.p50_ms is not None:
            known = last.p50_ms
            text = f"{known.value:.3f} ms [{known.low:.3f}, {known.high:.3f}]"
            dots[LATENCY.key] = Dot(known.value, known.low, known.high, text)
    level = Level(one.level)
    return Candidate(mark(f"{one.number}: {one.why}", level), dots, hollow=not level.has_speed)
