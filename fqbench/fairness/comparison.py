r"""What changed between two models on the same images: paired intervals, tests and verdicts.

**One group's rates** change by a difference of paired proportions: Tango's score interval, exact McNemar test, and
two one-sided score tests for equivalence.

**Gaps** need more: see `fqbench.fairness.gap_changes`.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.data.samples import SMALL_GROUP
from fqbench.errors import InputError, did_you_mean
from fqbench.fairness.counts import PairedCounts, count_paired
from fqbench.fairness.evaluation import check_options, chosen_class, group_warnings, proportion
from fqbench.fairness.gap_changes import gap_changes
from fqbench.fairness.hypothesis_tests import Correction, adjust, equivalence, mcnemar, variance_on_the_margin, verdict
from fqbench.fairness.intervals import paired_difference
from fqbench.fairness.metrics import GAPS
from fqbench.fairness.results import Change, ChangeReport, ChangeRow

if TYPE_CHECKING:
    from numpy.typing import NDArray

MARGIN = 0.01
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
        gaps=gap_changes(
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
    """Count, for one rate, the images that only the candidate or only the reference counts, and the denominator.

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
            raise InputError(f"the margin for {name} must be between 0 and 1, not {value}.")
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


def _warnings(rows: Sequence[ChangeRow]) -> tuple[str, ...]:
    out = group_warnings(rows)
    for rate, what in (("tpr", "positives"), ("fpr", "negatives")):
        without = [row.group for row in rows if row.n and getattr(row, rate).n == 0]
        if without and len(without) < len(rows):
            out.append(f"{rate} is undefined for groups without {what}: {', '.join(without)}.")
    return tuple(out)
