"""Fairness statistics: counts in, estimates with intervals out.

`evaluate` and `compare` take arrays from any source; `group_report` and `change_report` take counts. The names are
loaded on first use, so ``import fqbench.fairness`` does not import numpy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers; what is loaded at run time is in `_HOME`
    from fqbench.fairness.comparison import change_report as change_report
    from fqbench.fairness.comparison import compare as compare
    from fqbench.fairness.counts import Counts as Counts
    from fqbench.fairness.counts import PairedCounts as PairedCounts
    from fqbench.fairness.counts import count as count
    from fqbench.fairness.counts import count_paired as count_paired
    from fqbench.fairness.evaluation import evaluate as evaluate
    from fqbench.fairness.evaluation import group_report as group_report
    from fqbench.fairness.metrics import GAPS as GAPS
    from fqbench.fairness.metrics import RATES as RATES
    from fqbench.fairness.metrics import Gap as Gap
    from fqbench.fairness.metrics import gap as gap
    from fqbench.fairness.paired_scores import PairedScoreRow as PairedScoreRow
    from fqbench.fairness.paired_scores import paired_score_rows as paired_score_rows
    from fqbench.fairness.results import Change as Change
    from fqbench.fairness.results import ChangeReport as ChangeReport
    from fqbench.fairness.results import Estimate as Estimate
    from fqbench.fairness.results import GapChange as GapChange
    from fqbench.fairness.results import GapEstimate as GapEstimate
    from fqbench.fairness.results import GroupReport as GroupReport

_HOME = {
    name: module
    for module, names in {
        "evaluation": "evaluate group_report",
        "comparison": "compare change_report",
        "counts": "count count_paired Counts PairedCounts",
        "metrics": "gap Gap GAPS RATES",
        "paired_scores": "paired_score_rows PairedScoreRow",
        "results": "Estimate GapEstimate GroupReport Change GapChange ChangeReport",
    }.items()
    for name in names.split()
}
# No module has the name of a function: importing the module would put it in the function's place.
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
