"""Fairness statistics: counts in, figures with error bars out.

`evaluate` and `compare` take arrays that came from anywhere; `report` and `change_report` take counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fqbench.fairness.comparison import change_report, compare
    from fqbench.fairness.counts import Counts, PairedCounts, count, count_paired
    from fqbench.fairness.evaluation import evaluate, report
    from fqbench.fairness.metrics import GAPS, RATES, Gap, gap
    from fqbench.fairness.results import Change, ChangeReport, Estimate, GapChange, GapEstimate, GroupReport

# No module has the name of a function: importing the module would put it in the function's place.
_HOME = {
    "Change": "results",
    "ChangeReport": "results",
    "Counts": "counts",
    "Estimate": "results",
    "GAPS": "metrics",
    "Gap": "metrics",
    "GapChange": "results",
    "GapEstimate": "results",
    "GroupReport": "results",
    "PairedCounts": "counts",
    "RATES": "metrics",
    "change_report": "comparison",
    "compare": "comparison",
    "count": "counts",
    "count_paired": "counts",
    "evaluate": "evaluation",
    "gap": "metrics",
    "report": "evaluation",
}

__all__ = [  # noqa: RUF022 - the doors first
    "evaluate",
    "compare",
    "report",
    "change_report",
    "count",
    "count_paired",
    "gap",
    "Counts",
    "PairedCounts",
    "Gap",
    "Estimate",
    "GapEstimate",
    "GroupReport",
    "Change",
    "GapChange",
    "ChangeReport",
    "GAPS",
    "RATES",
]


def __getattr__(name: str) -> Any:
    """Import on first use: numpy and what follows stay out of ``import fqbench.fairness``."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
