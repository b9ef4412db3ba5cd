"""A comparison over several seeds and draws as sheets for people."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fqbench.fairness.results import without_images
from fqbench.report.sheets import UNDEFINED, Sheet

if TYPE_CHECKING:
    from fqbench.fairness.hierarchy import Spread
    from fqbench.stages.replicate import Replication

SHOWN = 10
COLUMNS = (">sd of seeds", ">sd of draws", ">sd of images")


def replication_sheets(replication: Replication) -> list[Sheet]:
    """Return the change of accuracy by group and of the gaps, with the variance of each source."""
    seeds, draws = (", ".join(map(str, level)) for level in (replication.seeds, replication.draws))
    title = (
        f"{replication.label} against FP32 over training seeds {seeds} and calibration draws {draws}: "
        f"{replication.data}, {replication.split} split, by {' × '.join(replication.by)}"
    )
    notes = [replication.notice] if replication.notice else []
    if replication.groups and replication.groups[-1].accuracy.few:
        notes.append("! fewer than three training seeds: the intervals know little about training and are too narrow.")
    groups = tuple((row.group, str(row.n), *_cells(row.accuracy), str(row.exemplars)) for row in replication.groups)
    empty = [row.group for row in replication.groups if row.n == 0]
    if empty:
        notes.append(f"! {without_images(empty)}")
    named = ", ".join(replication.exemplars[:SHOWN])
    more = f" and {len(replication.exemplars) - SHOWN} more (--json)" if len(replication.exemplars) > SHOWN else ""
    exemplars = f"exemplars: images whose most frequent prediction changes (Hooker 2019): {named or 'none'}{more}."
    return [
        Sheet(title, (), notes=tuple(notes)),
        Sheet("", ("group", ">n", ">Δ accuracy, points", *COLUMNS, ">exemplars"), groups, (exemplars,), total=True),
        Sheet(
            "",
            ("gap between groups", ">Δ, points", *COLUMNS),
            tuple((name.replace("_", " "), *_cells(spread)) for name, spread in replication.gaps.items()),
        ),
    ]


def _cells(spread: Spread) -> tuple[str, ...]:
    change = UNDEFINED
    if not math.isnan(spread.value):
        change = f"{100 * spread.value:+.2f} [{100 * spread.low:+.2f}, {100 * spread.high:+.2f}]"
    sources = (spread.sd_seeds, spread.sd_draws, spread.sd_images)
    return (change, *("-" if math.isnan(sd) else f"{100 * sd:.2f}" for sd in sources))
