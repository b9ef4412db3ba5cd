r"""Rates and gaps, each a small pure function of a table of counts.

A *rate* takes tables ``(..., groups, labels=2, predictions=2)`` and returns ``(..., groups)``; the leading axes are
whatever the caller stacks: bootstrap replicates, artifacts, seeds. A *gap* compares the groups' rates. Names and
definitions are fairlearn's, and equal to it wherever every rate is defined. Where one is not (a group without positives
has no TPR), fairlearn says 0; here it is NaN, left out of the gap, and named in `Gap.undefined`.

More than two classes: a gap of rates is taken for one class against the rest; with no positive class chosen it is
the largest (for a ratio the smallest) over the classes. Accuracy is that of the full table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fqbench.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fqbench.fairness.counts import Counts

    Table = NDArray[np.int64] | NDArray[np.float64]
    Rates = NDArray[np.float64]


def _ratio(numerator: Table, denominator: Table) -> Rates:
    out = np.full(np.shape(denominator), np.nan)
    np.divide(numerator, denominator, out=out, where=denominator > 0)
    return out


# --- parts of a proportion: (successes, trials), each (..., groups) ---------------------------------------------------


def _selected(table: Table) -> tuple[Table, Table]:
    chosen = table[..., 0, 1] + table[..., 1, 1]
    return chosen, chosen + table[..., 0, 0] + table[..., 1, 0]


def _true_positives(table: Table) -> tuple[Table, Table]:
    return table[..., 1, 1], table[..., 1, 0] + table[..., 1, 1]


def _false_positives(table: Table) -> tuple[Table, Table]:
    return table[..., 0, 1], table[..., 0, 0] + table[..., 0, 1]


def _false_negatives(table: Table) -> tuple[Table, Table]:
    return table[..., 1, 0], table[..., 1, 0] + table[..., 1, 1]


def _precise(table: Table) -> tuple[Table, Table]:
    return table[..., 1, 1], table[..., 0, 1] + table[..., 1, 1]


def _correct(table: Table) -> tuple[Table, Table]:
    if table.shape[-1] == 2:
        right = table[..., 0, 0] + table[..., 1, 1]
        return right, right + table[..., 0, 1] + table[..., 1, 0]
    return np.trace(table, axis1=-2, axis2=-1), table.sum(axis=(-2, -1))


PROPORTIONS: Mapping[str, Callable[[Table], tuple[Table, Table]]] = {
    "selection_rate": _selected,
    "true_positive_rate": _true_positives,
    "false_positive_rate": _false_positives,
    "false_negative_rate": _false_negatives,
    "precision": _precise,
    "accuracy": _correct,
}
"""Rates that are a proportion of images: name -> function of tables giving (successes, trials)."""


def selection_rate(table: Table) -> Rates:
    """P(pred=1 | group) from counts (..., groups, labels=2, preds=2): shape (..., groups), NaN for an empty group."""
    return _ratio(*_selected(table))


def true_positive_rate(table: Table) -> Rates:
    """P(pred=1 | group, label=1): shape (..., groups), NaN where a group has no positives."""
    return _ratio(*_true_positives(table))


def false_positive_rate(table: Table) -> Rates:
    """P(pred=1 | group, label=0): shape (..., groups), NaN where a group has no negatives."""
    return _ratio(*_false_positives(table))


def false_negative_rate(table: Table) -> Rates:
    """P(pred=0 | group, label=1): shape (..., groups), NaN where a group has no positives."""
    return _ratio(*_false_negatives(table))


def precision(table: Table) -> Rates:
    """P(label=1 | group, pred=1): shape (..., groups), NaN where nobody in the group is predicted positive."""
    return _ratio(*_precise(table))


def accuracy(table: Table) -> Rates:
    """P(pred=label | group) from counts (..., groups, classes, classes): shape (..., groups), NaN if empty."""
    return _ratio(*_correct(table))


def balanced_accuracy(table: Table) -> Rates:
    """Mean of TPR and TNR: shape (..., groups), NaN where a group lacks positives or negatives."""
    return (true_positive_rate(table) + 1.0 - false_positive_rate(table)) / 2.0


RATES: Mapping[str, Callable[[Table], Rates]] = {
    "selection_rate": selection_rate,
    "true_positive_rate": true_positive_rate,
    "false_positive_rate": false_positive_rate,
    "false_negative_rate": false_negative_rate,
    "precision": precision,
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
}


def one_vs_rest(table: Table, index: int) -> Table:
    """Reduce tables (..., classes, classes) to class ``index`` against the rest: (..., 2, 2), that class last."""
    if table.shape[-1] == 2 and index == 1:
        return table
    total = table.sum(axis=(-2, -1))
    hit, labelled, predicted = table[..., index, index], table[..., index, :].sum(-1), table[..., :, index].sum(-1)
    cells = [total - labelled - predicted + hit, predicted - hit, labelled - hit, hit]
    return np.stack(cells, axis=-1).reshape(*total.shape, 2, 2)


# --- gaps -------------------------------------------------------------------------------------------------------------


def spread(rates: Rates) -> Rates:
    """Largest minus smallest defined rate over the last axis, NaN where fewer than two are defined."""
    return np.where(
        _defined(rates) < 2,
        np.nan,
        np.fmax.reduce(rates, axis=-1, initial=np.nan) - np.fmin.reduce(rates, axis=-1, initial=np.nan),
    )


def smallest_ratio(rates: Rates) -> Rates:
    """Smallest over largest defined rate, NaN where fewer than two are defined or the largest is 0."""
    high = np.fmax.reduce(rates, axis=-1, initial=np.nan)
    ratio = _ratio(np.fmin.reduce(rates, axis=-1, initial=np.nan), np.nan_to_num(high))
    return np.where(_defined(rates) < 2, np.nan, ratio)


def lowest(rates: Rates) -> Rates:
    """Smallest defined rate over the last axis, NaN where none is defined."""
    return np.asarray(np.fmin.reduce(rates, axis=-1, initial=np.nan), dtype=np.float64)


def _defined(rates: Rates) -> NDArray[np.intp]:
    return np.asarray(rates.shape[-1] - np.count_nonzero(np.isnan(rates), axis=-1), dtype=np.intp)


@dataclass(frozen=True)
class GapRule:
    """What a gap compares, and how.

    Attributes
    ----------
    name : str
        Name of the gap; fairlearn's, where it has it.
    rates : tuple of str
        Names in `RATES`. With several, the gap is the worst of them, and undefined if one of them has no gap.
    how : {"difference", "ratio", "minimum"}
        Largest minus smallest, smallest over largest, or the smallest itself.
    ideal : float
        The value without any unfairness.
    """

    name: str
    rates: tuple[str, ...]
    how: Literal["difference", "ratio", "minimum"]
    ideal: float

    @property
    def per_class(self) -> bool:
        """Whether it depends on a positive class (accuracy does not)."""
        return self.rates != ("accuracy",)

    def component(self, rates: Rates) -> Rates:
        """Compare one rate (..., groups) between groups: shape (...)."""
        return {"difference": spread, "ratio": smallest_ratio, "minimum": lowest}[self.how](rates)

    def worst(self, components: Sequence[Rates]) -> Rates:
        """Take the worst of several comparisons, NaN if one is undefined."""
        pick = np.maximum if self.how == "difference" else np.minimum
        return np.asarray(pick.reduce(np.stack(components), axis=0), dtype=np.float64)

    def value(self, rates: Mapping[str, Rates]) -> Rates:
        """Compute the gap (...) from rates by name, each (..., groups)."""
        return self.worst([self.component(rates[name]) for name in self.rates])


_RULES = (
    GapRule("demographic_parity_difference", ("selection_rate",), "difference", 0.0),
    GapRule("demographic_parity_ratio", ("selection_rate",), "ratio", 1.0),
    GapRule("equalized_odds_difference", ("true_positive_rate", "false_positive_rate"), "difference", 0.0),
    GapRule("equalized_odds_ratio", ("true_positive_rate", "false_positive_rate"), "ratio", 1.0),
    GapRule("equal_opportunity_difference", ("true_positive_rate",), "difference", 0.0),
    GapRule("predictive_equality_difference", ("false_positive_rate",), "difference", 0.0),
    GapRule("predictive_parity_difference", ("precision",), "difference", 0.0),
    GapRule("accuracy_gap", ("accuracy",), "difference", 0.0),
    GapRule("worst_group_accuracy", ("accuracy",), "minimum", 1.0),
)
GAPS: Mapping[str, GapRule] = {rule.name: rule for rule in _RULES}
r"""All gaps by name; the ideal is 0 for differences, 1 for ratios and accuracies.

- ``demographic_parity_difference``: :math:`\max_a P(\hat Y=1|A=a) - \min_a P(\hat Y=1|A=a)`.
- ``demographic_parity_ratio``: disparate impact, :math:`\min_a P(\hat Y=1|A=a) / \max_a P(\hat Y=1|A=a)`; 0.8 is the
  four-fifths rule; undefined where nobody in any group is selected.
- ``equalized_odds_difference``: the larger of the TPR and the FPR difference (Hardt et al. 2016); undefined where fewer
  than two groups have a TPR, or fewer than two an FPR.
- ``equalized_odds_ratio``: the smaller of the TPR and the FPR ratio; undefined where one of them is 0 in all groups.
- ``equal_opportunity_difference``: :math:`\max_a TPR_a - \min_a TPR_a` (Hardt et al. 2016).
- ``predictive_equality_difference``: :math:`\max_a FPR_a - \min_a FPR_a` (Corbett-Davies et al. 2017).
- ``predictive_parity_difference``: :math:`\max_a PPV_a - \min_a PPV_a` (Chouldechova 2017).
- ``accuracy_gap``: the same of accuracy, over all classes.
- ``worst_group_accuracy``: :math:`\min_a P(\hat Y=Y|A=a)` (Sagawa et al. 2020).
"""


@dataclass(frozen=True)
class Gap:
    """How far apart the groups are.

    Attributes
    ----------
    value : float
        NaN where it is undefined.
    pair : tuple of two str, or None
        The groups with the highest and the lowest rate, which set the value; None where all rates are equal.
    undefined : tuple of str
        Groups whose rate is undefined; they are left out.
    rate : str
        The rate that sets the value (of several, the worst one).
    positive : str or None
        The class taken as positive; None where the gap needs none.
    """

    value: float
    pair: tuple[str, str] | None
    undefined: tuple[str, ...] = ()
    rate: str = ""
    positive: str | None = None


def rule(name: str) -> GapRule:
    """Return the rule of a gap by name.

    Raises
    ------
    InputError
        No such gap.
    """
    if name not in GAPS:
        raise InputError(f"there is no gap {name!r}: {did_you_mean(name, GAPS)}")
    return GAPS[name]


def gap(name: str, counts: Counts, positive: str | int | None = None) -> Gap:
    """Compute one gap of `GAPS` by name.

    Parameters
    ----------
    name : str
        A key of `GAPS`.
    counts : Counts
        Counts of any number of classes.
    positive : str or int, optional
        The positive class. By default the second of two; with more than two, the gap is the worst over all classes.

    Returns
    -------
    Gap

    Raises
    ------
    InputError
        No such gap or class.
    """
    chosen = rule(name)
    if not chosen.per_class:
        return _gap_of(chosen, counts.groups, {"accuracy": accuracy(counts.table)}, None)
    if positive is None and len(counts.classes) > 2:
        gaps = [gap(name, counts, each) for each in counts.classes]
        undefined = tuple(group for group in counts.groups if any(group in each.undefined for each in gaps))
        sign = 1.0 if chosen.how == "difference" else -1.0
        worst = max(gaps, key=lambda each: -np.inf if np.isnan(each.value) else sign * each.value)
        return Gap(worst.value, worst.pair, undefined, worst.rate, worst.positive)
    reduced = counts.binary(positive)
    rates = {name: RATES[name](reduced.table) for name in chosen.rates}
    return _gap_of(chosen, counts.groups, rates, reduced.classes[1])


def _gap_of(chosen: GapRule, groups: tuple[str, ...], rates: Mapping[str, Rates], positive: str | None) -> Gap:
    missing = np.any([np.isnan(rates[name]) for name in chosen.rates], axis=0)
    undefined = tuple(group for group, out in zip(groups, missing, strict=True) if out)
    values = [float(chosen.component(rates[name])) for name in chosen.rates]
    if any(np.isnan(value) for value in values):
        return Gap(math.nan, None, undefined, chosen.rates[0], positive)
    pick = max if chosen.how == "difference" else min
    value, rate = pick(zip(values, chosen.rates, strict=True), key=lambda entry: entry[0])
    high, low = int(np.nanargmax(rates[rate])), int(np.nanargmin(rates[rate]))
    return Gap(value, None if high == low else (groups[high], groups[low]), undefined, rate, positive)


def gap_values(tables: Table, names: Sequence[str] | None = None) -> dict[str, Rates]:
    """Compute gaps for many tables at once.

    Parameters
    ----------
    tables : ndarray, shape (..., groups, 2, 2)
        Binary tables; see `Counts.binary`.
    names : sequence of str, optional
        Keys of `GAPS`; all by default.

    Returns
    -------
    dict of str to ndarray, shape (...)
    """
    rules = [rule(name) for name in (GAPS if names is None else names)]
    needed = dict.fromkeys(name for each in rules for name in each.rates)
    rates = {name: RATES[name](tables) for name in needed}
    return {each.name: each.value(rates) for each in rules}


def fairlearn_value(name: str, counts: Counts, positive: str | int | None = None) -> float:
    """Compute a gap as fairlearn does, an undefined rate counting as 0 and an empty group left out.

    Parameters, errors: as `gap`. Differs from `gap` only where a rate is undefined.
    """
    chosen = rule(name)
    kept = counts.select([group for group, n in zip(counts.groups, counts.n, strict=True) if n > 0])
    if chosen.per_class and positive is None and len(counts.classes) > 2:
        values: list[Any] = [fairlearn_value(name, counts, each) for each in counts.classes]
        return float((np.fmax if chosen.how == "difference" else np.fmin).reduce(values))
    table = kept.binary(positive).table if chosen.per_class else kept.table
    components = []
    for rate in chosen.rates:
        rates = np.nan_to_num(RATES[rate](table))
        low, high = np.min(rates, initial=np.inf), np.max(rates, initial=-np.inf)
        how = {"difference": high - low, "ratio": low / high if high > 0 else math.nan, "minimum": low}
        components.append(float(how[chosen.how]))
    return (max if chosen.how == "difference" else min)(components)
