"""A comparison over several seeds and draws as a document."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fqbench.fairness.results import without_images
from fqbench.report.document import UNDEFINED, Document, Heading, Section, Sheet, notes, warnings

if TYPE_CHECKING:
    from fqbench.fairness.hierarchy import Spread
    from fqbench.stages.replicate import Replication

SHOWN = 10
COLUMNS = (">sd of seeds", ">sd of draws", ">sd of images")
FEW_SEEDS = (
    "fewer than three training seeds: the intervals do not cover the variance between trainings and are too narrow."
)


def replication_document(replication: Replication) -> Document:
    """Return the change of accuracy per group and of the gaps, with the variance of each source."""
    return Document(tuple(_sections(replication)), replication.to_dict())


def _sections(replication: Replication) -> Iterator[Section]:
    seeds, draws = (", ".join(map(str, level)) for level in (replication.seeds, replication.draws))
    yield Heading(
        f"{replication.label} against FP32 over training seeds {seeds} and calibration draws {draws}: "
        f"{replication.data}, {replication.split} split, by {' × '.join(replication.by)}"
    )
    yield from notes(replication.notice)
    if replication.groups and replication.groups[-1].accuracy.few:
        yield from warnings(FEW_SEEDS)
    empty = [row.group for row in replication.groups if row.n == 0]
    yield from warnings(without_images(empty) if empty else "")
    groups = tuple((row.group, str(row.n), *_cells(row.accuracy), str(row.exemplars)) for row in replication.groups)
    columns = ("group", ">n", ">Δ accuracy, points", *COLUMNS, ">exemplars")
    yield Sheet("change of accuracy", columns, groups, notes(_exemplars(replication)), total=True)
    gaps = tuple((name.replace("_", " "), *_cells(spread)) for name, spread in replication.gaps.items())
    yield Sheet("change of gaps between groups", ("gap between groups", ">Δ, points", *COLUMNS), gaps)


def _exemplars(replication: Replication) -> str:
    named = ", ".join(replication.exemplars[:SHOWN])
    more = f" and {len(replication.exemplars) - SHOWN} more (--json)" if len(replication.exemplars) > SHOWN else ""
    return f"exemplars: images whose most frequent prediction changes (Hooker 2019): {named or 'none'}{more}."


def _cells(spread: Spread) -> tuple[str, ...]:
    change = UNDEFINED
    if not math.isnan(spread.value):
        change = f"{100 * spread.value:+.2f} [{100 * spread.low:+.2f}, {100 * spread.high:+.2f}]"
    sources = (spread.sd_seeds, spread.sd_draws, spread.sd_images)
    return (change, *("-" if math.isnan(sd) else f"{100 * sd:.2f}" for sd in sources))
