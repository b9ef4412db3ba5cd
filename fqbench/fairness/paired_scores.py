r"""Change of the probabilities per group: two paired, continuous measures with intervals.

*Change of cross-entropy*, :math:`\log p_i(y_i) - \log q_i(y_i)` for image :math:`i` with label :math:`y_i`, reference
probabilities :math:`p_i` and candidate probabilities :math:`q_i`. Above 0 the candidate gives the true class less
probability.

*KL divergence*, :math:`\sum_c p_i(c) \log (p_i(c) / q_i(c))`: how far the candidate's probabilities are from the
reference's, whatever the label. It is 0 only if they are identical.

Every image contributes, not only those whose answer flips, so both decide with far fewer images than a change of
accuracy does. They are **different quantities**: a model can lose cross-entropy without losing accuracy. Use them to
choose between candidates; a claim about accuracy needs the verdict on accuracy (`fqbench.fairness.comparison`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.errors import InputError
from fqbench.fairness.literature import cross_entropy, kl_divergence
from fqbench.fairness.results import UNDEFINED, Estimate
from fqbench.fairness.scores import rows_of_groups

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class PairedScoreRow:
    """One group's change of probabilities from the reference to the candidate.

    Attributes
    ----------
    group : str
        "all" for all images together.
    n : int
        Images.
    cross_entropy_change : Estimate
        Mean over images, candidate minus reference, in nats; above 0 is a loss.
    kl_divergence : Estimate
        Mean over images, reference to candidate, in nats.
    """

    group: str
    n: int
    cross_entropy_change: Estimate
    kl_divergence: Estimate


def paired_score_rows(
    logits_reference: Any,
    logits: Any,
    labels: Any,
    groups: Any,
    *,
    known_groups: Sequence[str] | None = None,
    confidence: float = 0.95,
) -> tuple[PairedScoreRow, ...]:
    """Return the change of cross-entropy and the KL divergence of every group, and of all images as the last row.

    Parameters
    ----------
    logits_reference, logits : array-like of float, shape (n, classes)
        Answers of the reference and of the candidate to the same images, before softmax.
    labels : array-like of int, shape (n,)
        True classes.
    groups : array-like of str, shape (n,)
        The group of each image.
    known_groups : sequence of str, optional
        All groups, in order, including those without images (their figures are undefined); by default those that
        occur, sorted.
    confidence : float, default 0.95
        Of the intervals; two-sided.

    Returns
    -------
    tuple of PairedScoreRow
        A figure without images is NaN with n = 0; with one image it has a value and no interval (NaN). Where all images
        have the same value, as with identical answers, the interval is that value.

    Raises
    ------
    InputError
        Shapes or lengths differ, or a label is not a class.
    DataError
        A logit is not finite.
    """
    before, after, truth = np.asarray(logits_reference), np.asarray(logits), np.asarray(labels)
    divergence = kl_divergence(before, after)
    if not len(truth) == len(divergence) == len(groups):
        raise InputError(
            f"{len(divergence)} rows of logits, {len(truth)} labels and {len(groups)} groups; give one per image."
        )
    change = cross_entropy(truth, after) - cross_entropy(truth, before)
    return tuple(
        PairedScoreRow(
            group=group,
            n=len(rows),
            cross_entropy_change=mean_estimate(change[rows], confidence),
            kl_divergence=mean_estimate(divergence[rows], confidence, skewed=True),
        )
        for group, rows in rows_of_groups(np.asarray(groups).astype(str), known_groups)
    )


def mean_estimate(values: NDArray[np.float64], confidence: float = 0.95, *, skewed: bool = False) -> Estimate:
    r"""Estimate a mean, with Student's t interval, or with Hall's for values that are 0 or more and skewed.

    Hall's interval inverts a cubic transformation of the t statistic that removes its skewness,
    :math:`g(t) = t + \frac{\hat\gamma}{3\sqrt n} t^2 + \frac{\hat\gamma^2}{27 n} t^3 + \frac{\hat\gamma}{6\sqrt n}`,
    here with quantiles of Student's t. Its lower limit is cut at 0.

    Parameters
    ----------
    values : ndarray of float64, shape (n,)
        One value per image.
    confidence : float, default 0.95
        Two-sided.
    skewed : bool
        Use Hall's interval.

    References
    ----------
    Hall (1992), On the removal of skewness by transformation, Journal of the Royal Statistical Society B 54, 221-228
    (not checked against the source; the inverse is tested against this formula).
    """
    from scipy.special import stdtrit

    n = len(values)
    if n == 0:
        return UNDEFINED
    mean = float(values.mean())
    if n == 1:
        return Estimate(mean, math.nan, math.nan, 1)
    deviation = float(values.std(ddof=1))
    quantile = float(stdtrit(n - 1, 0.5 + confidence / 2)) / math.sqrt(n)
    skewness = float(((values - mean) ** 3).mean()) / deviation**3 if skewed and deviation > 0 else 0.0
    ends = [mean - deviation * _untransformed(side * quantile, skewness, n) for side in (1, -1)]
    low, high = (max(0.0, ends[0]), ends[1]) if skewed else ends
    return Estimate(mean, min(low, mean), max(high, mean), n)


def _untransformed(quantile: float, skewness: float, n: int) -> float:
    """Solve Hall's transformation for the standardized mean: x + g x²/3 + g² x³/27 + g/(6n) = quantile."""
    if abs(skewness) < 1e-6:
        return quantile
    return float(3 * (np.cbrt(1 + skewness * (quantile - skewness / (6 * n))) - 1) / skewness)
