r"""What changed between two models on the same images: paired intervals, tests and verdicts.

**One group's rates** change by a difference of paired proportions: Tango's score interval, exact McNemar test, and
two one-sided score tests for equivalence.

**Gaps.** The change of a largest-minus-smallest gap has two difficulties. A group without a flip must not count as
free of noise: the joint bootstrap draws from counts with half an image added to each cell, and puts the noise around
the rates seen. And noise already holds a gap open in the reference, which a real change first has to overtake: where
the reference's groups are alike, the change is underestimated. A second set of replicates therefore has noise taken
out of the variance between groups: of the reference's rates twice (the data's noise and the replicate's own, the
"double correction" of Lum, Zhang and Bower 2022), and of the changes per group once. The interval holds the
percentile intervals of both sets, and each p-value is the larger of the two. This is wider than it need be where
nothing changed; in simulations (``benchmarks/intervals.py``) the plain bootstrap alone covers as little as 55 % where
one of 14 groups loses.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.data.samples import SMALL_GROUP
from fqbench.errors import InputError, did_you_mean
from fqbench.fairness.counts import PairedCounts, count_paired
from fqbench.fairness.evaluation import MANY_GROUPS, check_options, chosen_class, gap_keys, group_warnings, proportion
from fqbench.fairness.hypothesis_tests import Correction, adjust, equivalence, mcnemar, variance_on_the_margin, verdict
from fqbench.fairness.intervals import paired_difference, percentile, resample
from fqbench.fairness.metrics import GAPS, GapRule
from fqbench.fairness.results import Change, ChangeReport, ChangeRow, GapChange

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fqbench.fairness.metrics import Rates

MARGIN = 0.01
_Key = tuple[str, int]
_RATES = {"selection_rate": "selection_rate", "tpr": "true_positive_rate", "fpr": "false_positive_rate"}


def compare(
    y_true: Any,
    y_pred_reference: Any,
    y_pred: Any,
    *,
    sensitive_features: Any,
    positive: str | int | None = None,
    classes: Sequence[Hashable] | None = None,
    margins: Mapping[str, float] | None = None,
    correction: Correction = "holm",
    replicates: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> ChangeReport:
    """Report what changed per group from a reference model to another one on the same images.

    Parameters
    ----------
    y_true, y_pred_reference, y_pred : array-like, shape (n,)
        True labels, the reference's and the candidate's (quantized) predictions, in the same order.
    sensitive_features, positive, classes, replicates, confidence, seed
        As in `fqbench.fairness.evaluate`.
    margins : mapping of str to float, optional
        Largest harmless change of "accuracy" (per group) and of each gap by name; 0.01 where not given.
    correction : {"holm", "benjamini-hochberg", "none"}, default "holm"
        For the McNemar tests over the groups. The gaps' tests are not corrected.

    Returns
    -------
    ChangeReport

    Raises
    ------
    InputError
        Lengths differ, or a label, class, margin or option is unknown.
    DataError
        No rows, or a missing value.
    """
    paired = count_paired(y_true, y_pred_reference, y_pred, sensitive_features, classes=classes)
    return change_report(
        paired,
        positive=positive,
        margins=margins,
        correction=correction,
        replicates=replicates,
        confidence=confidence,
        seed=seed,
    )


def change_report(
    paired: PairedCounts,
    *,
    positive: str | int | None = None,
    margins: Mapping[str, float] | None = None,
    correction: Correction = "holm",
    family: Sequence[float] = (),
    replicates: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> ChangeReport:
    """Report what changed from paired counts; parameters and errors as `compare`.

    ``family`` are uncorrected p-values of further tests that belong together with these, as those of other artifacts
    compared with the same reference (`accuracy_p_values`): the correction is then over all of them.
    """
    check_options(replicates, confidence)
    margin = _margins(margins)
    index = chosen_class(paired.classes, positive)
    rows = _rows(paired, index, confidence, margin["accuracy"], correction, family=family)
    shares = [row.negative_flips / row.n for row in rows if row.n > 0]
    return ChangeReport(
        groups=rows,
        overall=_rows(paired.pooled(), index, confidence, margin["accuracy"], "none")[0],
        gaps=_gap_changes(
            paired, index, margin, replicates=replicates, confidence=confidence, rng=np.random.default_rng(seed)
        ),
        flip_ratio=max(shares) / min(shares) if shares and min(shares) > 0 else math.nan,
        classes=paired.classes,
        positive=None if index is None else paired.classes[index],
        features=paired.features,
        confidence=confidence,
        replicates=replicates,
        seed=seed,
        correction=correction,
        warnings=_warnings(rows),
    )


def discordant(
    paired: PairedCounts, rate: str, index: int | None
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Count for one rate the images that only the candidate counts, only the reference, and all it is a share of.

    Parameters
    ----------
    paired : PairedCounts
        Joint counts.
    rate : {"accuracy", "selection_rate", "tpr", "fpr"}
        The rate.
    index : int or None
        The positive class; accuracy needs none.

    Returns
    -------
    gains, losses, n : ndarray of int64, shape (groups,)
    """
    if rate == "accuracy":
        right = np.eye(len(paired.classes), dtype=bool)
        reference = np.broadcast_to(right[:, :, None], paired.table.shape[1:])
        candidate = np.broadcast_to(right[:, None, :], paired.table.shape[1:])
        used = np.ones(paired.table.shape[1:], dtype=bool)
    else:
        label, first, second = (axis == index for axis in np.indices(paired.table.shape[1:]))
        reference, candidate = first, second
        used = {"selection_rate": np.ones_like(label), "tpr": label, "fpr": ~label}[rate]
    gains, losses = used & candidate & ~reference, used & reference & ~candidate
    return paired.table[:, gains].sum(1), paired.table[:, losses].sum(1), paired.table[:, used].sum(1)


def accuracy_p_values(paired: PairedCounts) -> NDArray[np.float64]:
    """Return the exact McNemar p-value of every group's change of accuracy, uncorrected; NaN for an empty group."""
    gains, losses, n = discordant(paired, "accuracy", None)
    return np.where(n > 0, mcnemar(gains, losses), np.nan)


def _margins(margins: Mapping[str, float] | None) -> dict[str, float]:
    out = dict.fromkeys(["accuracy", *GAPS], MARGIN)
    for name, value in (margins or {}).items():
        if name not in out:
            raise InputError(f"there is no margin for {name!r}: {did_you_mean(name, out)}")
        if not 0 < value < 1:
            raise InputError(f"the margin for {name} lies between 0 and 1, not at {value}.")
        out[name] = float(value)
    return out


def _changes(paired: PairedCounts, rate: str, index: int | None, confidence: float) -> list[Change]:
    if rate != "accuracy" and index is None:
        return [Change(math.nan, math.nan, math.nan, math.nan, math.nan, 0, 0, 0)] * len(paired.groups)
    gains, losses, n = discordant(paired, rate, index)
    key = ("accuracy", -1) if index is None or rate == "accuracy" else (_RATES[rate], index)
    before, _ = proportion(paired.reference.table, key)
    low, high = paired_difference(gains, losses, n, confidence)
    out = []
    for x, b, c, total, lower, upper in zip(before, gains, losses, n, low, high, strict=True):
        shares = [float(each / total) if total > 0 else math.nan for each in (x, x + b - c, b - c)]
        out.append(Change(shares[0], shares[1], shares[2], float(lower), float(upper), int(total), int(b), int(c)))
    return out


def _rows(
    paired: PairedCounts,
    index: int | None,
    confidence: float,
    margin: float,
    correction: Correction,
    *,
    family: Sequence[float] = (),
) -> tuple[ChangeRow, ...]:
    columns = {rate: _changes(paired, rate, index, confidence) for rate in ("accuracy", "selection_rate", "tpr", "fpr")}
    gains, losses, n = discordant(paired, "accuracy", index)
    p = accuracy_p_values(paired)
    adjusted = adjust([*p, *family], correction)[: len(p)]
    same = np.eye(len(paired.classes), dtype=bool)
    flips = n - paired.table[:, :, same].sum((1, 2))
    p_equivalent = equivalence(gains, losses, n, margin)
    rows = []
    for i, group in enumerate(paired.groups):
        change = columns["accuracy"][i]
        # one gain and one loss more than seen (Bonett and Price 2012): no flips in few images do not mean none ever
        gain, loss = (change.gains + 1) / (change.n + 2), (change.losses + 1) / (change.n + 2)
        answer = verdict(
            float(p_equivalent[i]),
            float(adjusted[i]),
            margin=margin,
            change=change.value,
            variance=gain + loss - change.value**2,
            margin_variance=variance_on_the_margin(gain, loss, margin),
            alpha=1 - confidence,
        )
        rows.append(
            ChangeRow(
                group=group,
                n=int(n[i]),
                small=bool(n[i] < SMALL_GROUP),
                flips=int(flips[i]),
                negative_flips=int(losses[i]),
                positive_flips=int(gains[i]),
                mcnemar_p=float(p[i]),
                mcnemar_p_adjusted=float(adjusted[i]),
                verdict=answer,
                **{rate: column[i] for rate, column in columns.items()},
            )
        )
    return tuple(rows)


def _gap_changes(
    paired: PairedCounts,
    index: int | None,
    margins: Mapping[str, float],
    *,
    replicates: int,
    confidence: float,
    rng: np.random.Generator,
) -> dict[str, GapChange]:
    keys = {name: gap_keys(rule, len(paired.classes), index) for name, rule in GAPS.items()}
    needed = list(dict.fromkeys(key for each in keys.values() for key in each))
    observed = _rates_of_both(paired.table, needed)
    draws = _recentred(paired.table, observed, replicates, rng)
    out = {}
    for name, rule in GAPS.items():
        pairs = [(observed[key], draws[key]) for key in keys[name]]
        out[name] = _gap_change(rule, paired, pairs, confidence=confidence, margin=margins[name])
    return out


def _rates_of_both(table: NDArray[Any], keys: Iterable[_Key]) -> dict[_Key, Rates]:
    """Rates (..., 2, groups) of reference and candidate from paired tables (..., groups, labels, preds, preds)."""
    sides = [sum(np.moveaxis(table, axis, 0)) for axis in (-1, -2)]
    out = {}
    for key in keys:
        rates = []
        for side in sides:
            successes, trials = proportion(side, key)
            rates.append(np.divide(successes, trials, out=np.full(trials.shape, np.nan), where=trials > 0))
        out[key] = np.stack(rates, axis=-2)
    return out


def _recentred(
    table: NDArray[np.int64], observed: Mapping[_Key, Rates], replicates: int, rng: np.random.Generator
) -> dict[_Key, Rates]:
    """Bootstrap both models' rates jointly, as the rates seen plus noise; shape (replicates, 2, groups).

    The noise is that of counts with half an image added to each cell (of two classes). Without it a group without a
    flip would have no noise, and thirty images would prove equivalence.
    """
    pseudo = 4.0 / float(np.prod(table.shape[1:]))
    chunks: dict[_Key, list[Rates]] = {key: [] for key in observed}
    for tables in resample(table, replicates, rng, pseudo_count=pseudo):
        for key, rates in _rates_of_both(tables, observed).items():
            chunks[key].append(rates)
    centres = _rates_of_both(table + pseudo, observed)
    out = {}
    for key, parts in chunks.items():
        noise = np.nan_to_num(np.concatenate(parts) - centres[key])
        out[key] = np.clip(observed[key] + noise, 0.0, 1.0)
    return out


def _gap_change(
    rule: GapRule,
    paired: PairedCounts,
    pairs: Sequence[tuple[Rates, Rates]],
    *,
    confidence: float,
    margin: float,
) -> GapChange:
    """One gap's change over the groups that are defined in both models; NaN where fewer than two are."""
    missing = [np.asarray(np.isnan(observed).any(axis=0)) for observed, _ in pairs]
    undefined = tuple(group for i, group in enumerate(paired.groups) if any(out[i] for out in missing))
    least = 1 if rule.how == "minimum" else 2
    usable = [i for i, out in enumerate(missing) if np.count_nonzero(~out) >= least]
    enough = len(usable) == len(pairs) if len(paired.classes) == 2 else bool(usable)
    reference = candidate = low = high = p_equivalent = p_different = variance = math.nan
    if enough:
        kept = [pairs[i][0][..., ~missing[i]] for i in usable]
        drawn = [pairs[i][1][..., ~missing[i]] for i in usable]
        reference, candidate = (float(each) for each in _gap_of(rule, kept))
        plain = _differences(_gap_of(rule, drawn))
        quiet = [_without_noise(each, seen) for each, seen in zip(drawn, kept, strict=True)]
        sets = (plain, _differences(_gap_of(rule, quiet)))
        if not np.isnan(candidate - reference) and min(map(len, sets)) > 0:
            ends = [percentile(each, confidence) for each in sets]
            low, high = min(end[0] for end in ends), max(end[1] for end in ends)
            p_equivalent = max(_share(each * sign >= margin) for each in sets for sign in (-1, 1))
            p_different = max(2 * min(_share(each <= 0), _share(each >= 0)) for each in sets)
            p_different = min(1.0, p_different)
            variance = max(float(each.var()) for each in sets) * int(paired.n.sum())
    value = candidate - reference
    answer = verdict(p_equivalent, p_different, margin=margin, change=value, variance=variance, alpha=1 - confidence)
    return GapChange(rule.name, rule.ideal, reference, candidate, value, low, high, undefined, answer)


def _gap_of(rule: GapRule, rates: Sequence[Rates]) -> Rates:
    return rule.worst([rule.component(each) for each in rates])


def _differences(gaps: Rates) -> Rates:
    """Candidate minus reference (replicates,) of gaps (replicates, 2), without undefined ratios (all rates 0)."""
    change = gaps[:, 1] - gaps[:, 0]
    return change[~np.isnan(change)]


def _without_noise(draws: Rates, seen: Rates) -> Rates:
    """Replicates (replicates, 2, groups) with noise taken out of the variance of reference and change."""
    if draws.shape[-1] < 2:
        return draws
    reference, change = draws[:, 0], draws[:, 1] - draws[:, 0]
    base = _pull_together(reference, 2 * float(np.mean((reference - seen[0]) ** 2)))
    moved = base + _pull_together(change, float(np.mean((change - (seen[1] - seen[0])) ** 2)))
    return np.clip(np.stack([base, moved], axis=1), 0.0, 1.0)


def _pull_together(draws: Rates, noise: float) -> Rates:
    """Pull each replicate (replicates, groups) together until its variance is less by ``noise``."""
    centre = draws.mean(axis=1, keepdims=True)
    variance = draws.var(axis=1, ddof=1, keepdims=True)
    share = np.divide(noise, variance, out=np.ones_like(variance), where=variance > 0)
    pulled: Rates = centre + np.sqrt(np.maximum(1 - share, 0.0)) * (draws - centre)
    return pulled


def _share(hits: NDArray[np.bool_]) -> float:
    """Monte Carlo p-value: never 0."""
    return float((np.count_nonzero(hits) + 1) / (hits.size + 1))


def _warnings(rows: Sequence[ChangeRow]) -> tuple[str, ...]:
    out = group_warnings(rows)
    sizes = [row.n for row in rows if row.n]
    if len(sizes) > MANY_GROUPS:
        out.append(
            f"{len(sizes)} groups: where one alone changes, nominal 95 % intervals of a gap's change hold the truth in "
            "87 to 95 % of cases; each group's own interval is not affected."
        )
    for rate, what in (("tpr", "positives"), ("fpr", "negatives")):
        without = [row.group for row in rows if row.n and getattr(row, rate).n == 0]
        if without and len(without) < len(rows):
            out.append(f"{rate} is undefined, for lack of {what}: {', '.join(without)}.")
    return tuple(out)
