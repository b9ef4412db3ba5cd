"""Results of an evaluation: frozen values with plain fields, and `to_dict` for JSON (NaN becomes None)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from fqbench.fairness.hypothesis_tests import Verdict
from fqbench.storage import Stored, finite_or_none


def without_images(groups: Sequence[str]) -> str:
    """Return one sentence about groups without images."""
    return f"no images of {', '.join(groups)}: n = 0, every rate is undefined, and gaps are computed without them."


@dataclass(frozen=True)
class Estimate:
    """A rate and its interval.

    Attributes
    ----------
    value, low, high : float
        All NaN where the rate is undefined.
    n : int
        Images that it is a share of (for TPR the positives); 0 where it is undefined.
    """

    value: float
    low: float
    high: float
    n: int


UNDEFINED = Estimate(math.nan, math.nan, math.nan, 0)


@dataclass(frozen=True)
class GroupRow:
    """One group's rates; ``small`` marks groups under 30 images, and a group without images has n = 0.

    All rates but accuracy are of the positive class, and undefined where none was chosen of more than two classes.
    """

    group: str
    n: int
    small: bool
    accuracy: Estimate
    selection_rate: Estimate
    tpr: Estimate
    fpr: Estimate
    fnr: Estimate
    precision: Estimate
    balanced_accuracy: Estimate


@dataclass(frozen=True)
class GapEstimate:
    """A gap between groups, with the gap expected by chance.

    Attributes
    ----------
    name : str
        Its name in `fqbench.fairness.metrics.GAPS`.
    value, low, high : float
        The gap and its interval; NaN where it is undefined.
    ideal : float
        The value without any unfairness: 0 for differences, 1 for ratios and accuracies.
    pair : tuple of two str, or None
        The groups with the highest and the lowest rate.
    rate : str
        The rate that sets the value.
    positive : str or None
        The class taken as positive.
    undefined : tuple of str
        Groups left out because their rate is undefined.
    noise_floor, noise_limit : float
        The gap that chance alone gives for these group sizes: on average, and passed with probability 1 - confidence.
    chance : float
        How often chance alone gives a gap as bad as this one.
    debiased : float
        The gap with the noise taken out (after Lum, Zhang and Bower 2022).
    fairlearn_value : float
        fairlearn's value, which counts an undefined rate as 0.
    """

    name: str
    value: float
    low: float
    high: float
    ideal: float
    pair: tuple[str, str] | None
    rate: str
    positive: str | None
    undefined: tuple[str, ...]
    noise_floor: float
    noise_limit: float
    chance: float
    debiased: float
    fairlearn_value: float


@dataclass(frozen=True)
class GroupReport(Stored):
    """Rates of every group, and the gaps between them.

    Attributes
    ----------
    groups : tuple of GroupRow
        One row a group, in the order of the counts.
    overall : GroupRow
        All images; its group is "all".
    gaps : dict of str to GapEstimate
        By name; see `fqbench.fairness.metrics.GAPS`.
    classes : tuple of str
        All classes.
    positive : str or None
        The positive class; None if there are more than two and none was chosen (gaps are then the worst over classes).
    features : tuple of str
        Sensitive features whose values name the groups.
    confidence, replicates, seed
        As asked for.
    warnings : tuple of str
        One sentence each: groups without images, small groups, undefined rates.
    """

    groups: tuple[GroupRow, ...]
    overall: GroupRow
    gaps: dict[str, GapEstimate]
    classes: tuple[str, ...]
    positive: str | None
    features: tuple[str, ...]
    confidence: float
    replicates: int
    seed: int
    warnings: tuple[str, ...]

    def row(self, group: str) -> GroupRow:
        """Return one group's row; KeyError if there is none."""
        return _find(self.groups, group)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        plain: dict[str, Any] = finite_or_none(self)
        return plain


@dataclass(frozen=True)
class Change:
    """Candidate minus reference, of one rate of one group.

    Attributes
    ----------
    reference, candidate, value : float
        The two rates and their difference; NaN where the rate is undefined.
    low, high : float
        Interval of the difference (Tango 1998), which takes into account that the images are the same.
    n, gains, losses : int
        Images that the rate is a share of; how many of them only the candidate counts, and only the reference.
    """

    reference: float
    candidate: float
    value: float
    low: float
    high: float
    n: int
    gains: int
    losses: int


@dataclass(frozen=True)
class ChangeRow:
    """What changed for one group.

    Attributes
    ----------
    group, n, small
        As in `GroupRow`.
    accuracy, selection_rate, tpr, fpr : Change
        Candidate minus reference.
    flips, negative_flips, positive_flips : int
        Images whose prediction changed; of these from right to wrong, and from wrong to right.
    mcnemar_p, mcnemar_p_adjusted : float
        Exact McNemar test on right and wrong; the same after correction over groups. NaN for an empty group.
    verdict : Verdict
        On the change of accuracy.
    """

    group: str
    n: int
    small: bool
    accuracy: Change
    selection_rate: Change
    tpr: Change
    fpr: Change
    flips: int
    negative_flips: int
    positive_flips: int
    mcnemar_p: float
    mcnemar_p_adjusted: float
    verdict: Verdict


@dataclass(frozen=True)
class GapChange:
    """How a gap changed, candidate minus reference.

    Attributes
    ----------
    name, ideal, undefined
        As in `GapEstimate`; a group is left out of both gaps if it is undefined in one of them.
    reference, candidate, value, low, high : float
        Both gaps, their difference, and its interval (paired bootstrap).
    verdict : Verdict
        ``images_needed`` counts all images, in the proportions of groups seen here.
    """

    name: str
    ideal: float
    reference: float
    candidate: float
    value: float
    low: float
    high: float
    undefined: tuple[str, ...]
    verdict: Verdict


@dataclass(frozen=True)
class ChangeReport(Stored):
    """What changed from the reference to the candidate on the same images.

    Attributes
    ----------
    groups : tuple of ChangeRow
        One row a group.
    overall : ChangeRow
        All images; its p-value is not corrected.
    gaps : dict of str to GapChange
        By name.
    flip_ratio : float
        Share of negative flips of the worst group over that of the best; NaN where the best has none.
    classes, positive, features, confidence, replicates, seed, warnings
        As in `GroupReport`.
    correction : str
        How the p-values were corrected over groups.
    """

    groups: tuple[ChangeRow, ...]
    overall: ChangeRow
    gaps: dict[str, GapChange]
    flip_ratio: float
    classes: tuple[str, ...]
    positive: str | None
    features: tuple[str, ...]
    confidence: float
    replicates: int
    seed: int
    correction: str
    warnings: tuple[str, ...]

    def row(self, group: str) -> ChangeRow:
        """Return one group's row; KeyError if there is none."""
        return _find(self.groups, group)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        plain: dict[str, Any] = finite_or_none(self)
        return plain


Row = TypeVar("Row", GroupRow, ChangeRow)


def _find(rows: tuple[Row, ...], group: str) -> Row:
    for row in rows:
        if row.group == group:
            return row
    raise KeyError(group)
