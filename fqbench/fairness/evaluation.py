"""Public functions: arrays or counts in, a report with intervals out."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.data.samples import SMALL_GROUP
from fqbench.errors import InputError
from fqbench.fairness.counts import Counts, count
from fqbench.fairness.gap_intervals import Part, debiased, gap_interval, noise_floor, part
from fqbench.fairness.intervals import wilson
from fqbench.fairness.metrics import GAPS, PROPORTIONS, GapRule, fairlearn_value, gap, one_vs_rest
from fqbench.fairness.results import UNDEFINED, ChangeRow, Estimate, GapEstimate, GroupReport, GroupRow, without_images

if TYPE_CHECKING:
    from numpy.typing import NDArray

_Key = tuple[str, int]


def evaluate(
    y_true: Any,
    y_pred: Any,
    *,
    sensitive_features: Any,
    positive: str | int | None = None,
    classes: Sequence[Hashable] | None = None,
    replicates: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> GroupReport:
    """Report rates per group and the gaps between groups, each with an interval.

    Parameters
    ----------
    y_true, y_pred : array-like, shape (n,)
        True and predicted labels: integers, booleans or strings.
    sensitive_features : array-like of shape (n,), mapping of name to such an array, or DataFrame
        Of several features the intersections are the groups, their values joined with ``×``.
    positive : str or int, optional
        The positive class. By default the second of two; with more than two, gaps are the worst over all classes.
    classes : sequence, optional
        All classes, in order; if these are names, integer labels are indices into them.
    replicates : int, default 10,000
        Monte Carlo replicates behind the gaps' intervals and noise floors.
    confidence : float, default 0.95
        Of all intervals; two-sided.
    seed : int, default 0
        Same input and seed, same report.

    Returns
    -------
    GroupReport

    Raises
    ------
    InputError
        Lengths differ, or a label, class or option is unknown.
    DataError
        No rows, or a missing value.

    Examples
    --------
    >>> report = evaluate([1, 1, 0, 0], [1, 0, 0, 0], sensitive_features=["a", "b", "a", "b"])
    >>> report.gaps["equal_opportunity_difference"].value
    1.0
    """
    counts = count(y_true, y_pred, sensitive_features, classes=classes)
    return group_report(counts, positive=positive, replicates=replicates, confidence=confidence, seed=seed)


def group_report(
    counts: Counts,
    *,
    positive: str | int | None = None,
    replicates: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> GroupReport:
    """Report rates per group and the gaps between groups from counts; parameters and errors as `evaluate`.

    For the gaps between the values of one feature, pass ``counts.marginal(feature)``; for those within each level of a
    control feature, pass each part of ``counts.within(control)``.
    """
    check_options(replicates, confidence)
    index = chosen_class(counts.classes, positive)
    gaps = _gaps(counts, index, replicates, confidence, np.random.default_rng(seed))
    rows = tuple(_rows(counts, index, confidence))
    return GroupReport(
        groups=rows,
        overall=_rows(counts.pooled(), index, confidence)[0],
        gaps=gaps,
        classes=counts.classes,
        positive=None if index is None else counts.classes[index],
        features=counts.features,
        confidence=confidence,
        replicates=replicates,
        seed=seed,
        warnings=_warnings(rows, gaps),
    )


def check_options(replicates: int, confidence: float) -> None:
    """Raise InputError for invalid options."""
    if replicates < 1:
        raise InputError(f"replicates must be 1 or more, not {replicates}.")
    if not 0 < confidence < 1:
        raise InputError(f"confidence must be between 0 and 1, not {confidence}; 0.95 is usual.")


def chosen_class(classes: tuple[str, ...], positive: str | int | None) -> int | None:
    """Return the index of the positive class; None if there are more than two classes and none was named."""
    if positive is None and len(classes) > 2:
        return None
    return Counts((), classes, np.zeros((0, len(classes), len(classes)), dtype=np.int64)).positive_index(positive)


def gap_keys(rule: GapRule, n_classes: int, index: int | None) -> list[_Key]:
    """List the (rate, class) pairs that a gap compares; the class is -1 for accuracy, which needs none."""
    if not rule.per_class:
        return [(name, -1) for name in rule.rates]
    return [(name, each) for each in (range(n_classes) if index is None else [index]) for name in rule.rates]


def proportion(table: NDArray[Any], key: _Key) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return successes and trials (..., groups) of a rate of a class from tables (..., groups, classes, classes)."""
    name, index = key
    return PROPORTIONS[name](table if index < 0 else one_vs_rest(table, index))


def _gaps(
    counts: Counts, index: int | None, replicates: int, confidence: float, rng: np.random.Generator
) -> dict[str, GapEstimate]:
    parts: dict[_Key, Part] = {}
    out = {}
    for name, rule in GAPS.items():
        keys = gap_keys(rule, len(counts.classes), index)
        for key in keys:
            if key not in parts:
                parts[key] = part(*proportion(counts.table, key), rng, replicates)
        positive = None if index is None else counts.classes[index]
        out[name] = _gap_estimate(rule, counts, positive, [parts[key] for key in keys], confidence)
    return out


def _gap_estimate(
    rule: GapRule, counts: Counts, positive: str | None, parts: Sequence[Part], confidence: float
) -> GapEstimate:
    observed = gap(rule.name, counts, positive)
    low = high = floor = limit = chance = without = math.nan
    if not np.isnan(observed.value):
        # of several classes, one that too few groups have takes no part (see `metrics.gap`)
        parts = [each for each in parts if len(each.n) >= (1 if rule.how == "minimum" else 2)]
        low, high = gap_interval(rule, parts, confidence)
        noise = noise_floor(rule, parts, confidence)
        floor, limit, chance = noise.mean, noise.limit, noise.chance
        without = debiased(rule, parts)
    return GapEstimate(
        name=rule.name,
        value=observed.value,
        low=low,
        high=high,
        ideal=rule.ideal,
        pair=observed.pair,
        rate=observed.rate,
        positive=observed.positive,
        undefined=observed.undefined,
        noise_floor=floor,
        noise_limit=limit,
        chance=chance,
        debiased=without,
        fairlearn_value=fairlearn_value(rule.name, counts, positive),
    )


def _rows(counts: Counts, index: int | None, confidence: float) -> list[GroupRow]:
    columns = {"accuracy": _estimates(*proportion(counts.table, ("accuracy", -1)), confidence)}
    names = {"tpr": "true_positive_rate", "fpr": "false_positive_rate", "fnr": "false_negative_rate"}
    for field in ("selection_rate", "tpr", "fpr", "fnr", "precision"):
        if index is None:
            columns[field] = [UNDEFINED] * len(counts.groups)
        else:
            key = (names.get(field, field), index)
            columns[field] = _estimates(*proportion(counts.table, key), confidence)
    columns["balanced_accuracy"] = [_balanced(*pair) for pair in zip(columns["tpr"], columns["fpr"], strict=True)]
    return [
        GroupRow(
            group=group, n=int(n), small=bool(n < SMALL_GROUP), **{name: column[i] for name, column in columns.items()}
        )
        for i, (group, n) in enumerate(zip(counts.groups, counts.n, strict=True))
    ]


def _estimates(successes: NDArray[np.int64], trials: NDArray[np.int64], confidence: float) -> list[Estimate]:
    low, high = wilson(successes, trials, confidence)
    return [
        Estimate(float(x / n), float(a), float(b), int(n)) if n > 0 else UNDEFINED
        for x, n, a, b in zip(successes, trials, low, high, strict=True)
    ]


def _balanced(tpr: Estimate, fpr: Estimate) -> Estimate:
    """Mean of TPR and TNR; the interval squares and adds the two Wilson half-widths (Newcombe 1998)."""
    if tpr.n == 0 or fpr.n == 0:
        return UNDEFINED
    value = (tpr.value + 1 - fpr.value) / 2
    low = value - np.hypot(tpr.value - tpr.low, fpr.high - fpr.value) / 2
    high = value + np.hypot(tpr.high - tpr.value, fpr.value - fpr.low) / 2
    return Estimate(value, float(low), float(high), tpr.n + fpr.n)


def _warnings(rows: Sequence[GroupRow], gaps: dict[str, GapEstimate]) -> tuple[str, ...]:
    out = group_warnings(rows)
    by_groups: dict[tuple[str, ...], list[str]] = {}
    for each in gaps.values():
        if each.undefined:
            by_groups.setdefault(each.undefined, []).append(each.name)
        elif np.isnan(each.value):
            out.append(f"{each.name} is undefined: fewer than two groups can be compared, or all rates are 0.")
    for undefined, names in by_groups.items():
        out.append(f"left out as undefined: {', '.join(undefined)} in {', '.join(names)}.")
    return tuple(out)


def group_warnings(rows: Sequence[GroupRow] | Sequence[ChangeRow]) -> list[str]:
    """Return one sentence about the groups without images and one about the small ones."""
    empty = [row.group for row in rows if row.n == 0]
    small = [f"{row.group} ({row.n})" for row in rows if row.small and row.n]
    out = [without_images(empty)] if empty else []
    if small:
        out.append(f"fewer than {SMALL_GROUP} images, so these figures are imprecise: {', '.join(small)}.")
    return out
