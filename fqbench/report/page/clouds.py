"""Trade-offs in three dimensions: cost, accuracy, and the change of the group that lost most."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from fqbench.report.document import Heading, Section
from fqbench.report.figures import Candidate, Cloud, Dot, Quantity, TradeOff
from fqbench.report.page.quantities import LOSS, OVERALL
from fqbench.report.pareto import pareto_front

REFERENCE = Dot(0.0, math.nan, math.nan, "0 (reference)")
FEWEST = 4  # points; fewer are seen better in two dimensions


def cloud_sections(clouds: Sequence[Cloud | None]) -> Iterator[Section]:
    """Yield figures, folded; nothing where there is none."""
    found = [one for one in clouds if one is not None]
    if found:
        yield Heading("In three dimensions", level=3, folded=True)
        yield from found


def with_losses(figure: TradeOff, losses: Sequence[Dot | None], name: str) -> Cloud | None:
    """Return the candidates of a trade-off by its first cost, accuracy and largest loss; None where they are too few.

    Parameters
    ----------
    figure : TradeOff
        Its candidates are shown.
    losses : sequence of Dot or None
        Per candidate, the change of the group that lost most, in points.
    name : str
        Of the figure.
    """
    candidates = [
        one if loss is None else replace(one, dots={**one.dots, LOSS.key: loss})
        for one, loss in zip(figure.candidates, losses, strict=True)
    ]
    return cloud(name, figure.sources, (figure.across[0], OVERALL, LOSS), candidates)


def cloud(
    name: str, sources: tuple[str, ...], quantities: tuple[Quantity, Quantity, Quantity], all_of: Sequence[Candidate]
) -> Cloud | None:
    """Return the candidates with all three quantities, the front marked; None where they are too few."""
    known = tuple(one for one in all_of if _complete(one.dots, quantities))
    if len(known) < FEWEST:
        return None
    costs = [[q.cost(one.dots[q.key]) for q in quantities] for one in known]
    best = tuple(number for number, kept in enumerate(pareto_front(costs)) if kept)
    names = ", ".join(known[number].name for number in best)
    labels = ", ".join(one.axis.label for one in quantities)
    return Cloud(
        name=name,
        title="All three at once: " + labels,
        description=f"No other one beats these in all three at once: {names}.",
        caption=(
            "Large, with a line to the floor: no other one is at least as good in all three and better in one. "
            "Intervals are in the figure above. Hollow: simulated or emulated."
        ),
        sources=sources,
        quantities=quantities,
        candidates=known,
        front=best,
    )


def _complete(dots: Mapping[str, Dot], quantities: Sequence[Quantity]) -> bool:
    return all(one.key in dots and not math.isnan(dots[one.key].value) for one in quantities)
