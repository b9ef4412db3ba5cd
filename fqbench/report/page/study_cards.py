"""Model cards of the configurations of a study that no other one beats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from fqbench.report.document import Heading, Section, notes, warnings
from fqbench.report.hypotheses import DRAWN
from fqbench.report.page.card import model_card
from fqbench.report.page.hypotheses import answers_sheet, counted
from fqbench.report.page.material import gather
from fqbench.report.page.quantities import WORST
from fqbench.report.page.studies import trade_off
from fqbench.workspace.kinds import BENCHES, EVALUATIONS

if TYPE_CHECKING:
    from fqbench.report.page.studies import Configuration, StudyMaterial
    from fqbench.workspace import Workspace


def study_cards(workspace: Workspace, material: StudyMaterial) -> Mapping[str, str]:
    """Return model cards of the quantized configurations that no other one beats in a cost and the worst group.

    They are named by artifact. One whose evaluation is no longer in the workspace has none.

    Raises
    ------
    UnavailableError
        huggingface_hub is not installed.
    """
    kinds = {entry.id: entry.kind for entry in material.lineage}
    cards = {}
    for number, costs in sorted(_best(material).items()):
        one = material.configurations[number]
        found = [source for source in one.sources if kinds.get(source) in {EVALUATIONS.name, BENCHES.name}]
        if not one.is_reference and any(kinds[source] == EVALUATIONS.name for source in found):
            identity = str(one.row["artifact"])
            context = tuple(_context(material, one, costs))
            cards[identity] = model_card(gather(workspace, found), identity, context)
    return cards


def _best(material: StudyMaterial) -> dict[int, list[str]]:
    """Numbers of the configurations that no other one beats in a cost and the worst group, with these costs."""
    figure, found = trade_off(material), dict[int, list[str]]()
    for cost in figure.across:
        for number in figure.fronts[f"{cost.key}|{WORST.key}"]:
            found.setdefault(number, []).append(cost.axis.label)
    return found


def _context(material: StudyMaterial, one: Configuration, costs: Sequence[str]) -> Iterator[Section]:
    """Say what it was chosen from, and what the study found."""
    answers, count = material.answers, len(material.configurations)
    yield Heading("The study that it is from")
    yield from notes(
        f"It is the configuration {one.name} of the study {answers.study}: of {count}, one of those that no other one "
        f"beats in {WORST.axis.label} and {' or '.join(costs)}. These very figures chose it, so that they flatter: "
        "expect a little less on new images."
    )
    yield from notes(counted(answers))
    yield from warnings(DRAWN if answers.drawn else "")
    yield answers_sheet(answers)
