"""Threshold-free measures from logits: AUC and calibration error per group, and the shift of the logits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fqbench.errors import InputError
from fqbench.fairness.decisions import probabilities
from fqbench.fairness.intervals import quantile_of_normal
from fqbench.fairness.results import UNDEFINED, Estimate

if TYPE_CHECKING:
    from numpy.typing import NDArray

BINS = 15


@dataclass(frozen=True)
class ScoreRow:
    """One group's threshold-free figures.

    Attributes
    ----------
    group : str
        "all" for all images together.
    auc : Estimate
        Area under the ROC curve of the positive class, with DeLong's interval; NaN without images of both classes.
    calibration_error : float
        Expected calibration error of the predicted class, 15 bins of equal width; 0 is ideal.
    margin : float
        Mean difference of the largest and the second largest logit.
    logit_shift, largest_logit_shift : float
        Mean and largest absolute difference of a logit from the reference's; NaN without one.
    """

    group: str
    auc: Estimate
    calibration_error: float
    margin: float
    logit_shift: float
    largest_logit_shift: float


def score_rows(
    labels: NDArray[np.int64],
    logits: NDArray[np.float32],
    groups: NDArray[np.str_],
    *,
    positive: int | None,
    reference: NDArray[np.float32] | None = None,
    known_groups: Sequence[str] | None = None,
    confidence: float = 0.95,
) -> tuple[ScoreRow, ...]:
    """Return the threshold-free figures of every group, and of all images together as the last row.

    Parameters
    ----------
    labels : ndarray of int64, shape (n,)
        True classes.
    logits : ndarray of float32, shape (n, classes)
        Answers.
    groups : ndarray of str, shape (n,)
        The group of each image.
    positive : int or None
        Index of the positive class; None leaves AUC undefined.
    reference : ndarray of float32, shape (n, classes), optional
        The reference's logits for the same images.
    known_groups : sequence of str, optional
        All groups, in order, including those without images; by default those that occur, sorted.
    confidence : float
        Of the interval of the AUC.

    Raises
    ------
    InputError
        Lengths differ.
    """
    if not len(labels) == len(logits) == len(groups) or (reference is not None and reference.shape != logits.shape):
        raise InputError("labels, logits, groups and the reference's logits differ in length; give one row per image.")
    chances = probabilities(logits)
    return tuple(
        ScoreRow(
            group=group,
            auc=_auc_of(labels[rows], chances[rows], positive, confidence),
            calibration_error=expected_calibration_error(labels[rows], chances[rows]),
            margin=_margin(logits[rows]),
            logit_shift=_shift(logits[rows], reference, rows, np.mean),
            largest_logit_shift=_shift(logits[rows], reference, rows, np.max),
        )
        for group, rows in rows_of_groups(groups, known_groups)
    )


def auc(truth: NDArray[np.bool_], scores: NDArray[np.float64], confidence: float = 0.95) -> Estimate:
    r"""Area under the ROC curve, :math:`P(s^+ > s^-) + P(s^+ = s^-) / 2`, with DeLong's interval on the logit scale.

    Parameters
    ----------
    truth : ndarray of bool, shape (n,)
        Whether each image is positive.
    scores : ndarray of float64, shape (n,)
        Larger for more positive.
    confidence : float
        Of the interval.

    Returns
    -------
    Estimate
        NaN where a class is missing. At an area of exactly 0 or 1, where the variance estimate is 0, the open end is
        that of Wilson's rule for as many images as the smaller class has.

    References
    ----------
    DeLong, DeLong and Clarke-Pearson (1988), Biometrics 44; Sun and Xu (2014) for computing it by ranks; Qin and
    Hotilovac (2008), Statistical Methods in Medical Research 17, for the logit scale.
    """
    from scipy.special import expit, logit
    from scipy.stats import rankdata

    positives, negatives = scores[truth], scores[~truth]
    m, n = len(positives), len(negatives)
    if m == 0 or n == 0:
        return UNDEFINED
    ranks = rankdata(np.concatenate([positives, negatives]))
    above = (ranks[:m] - rankdata(positives)) / n
    below = 1 - (ranks[m:] - rankdata(negatives)) / m
    value = float(above.mean())
    z = quantile_of_normal(0.5 + confidence / 2)
    variance = (above.var(ddof=1) / m if m > 1 else 0.25) + (below.var(ddof=1) / n if n > 1 else 0.25)
    if value in {0.0, 1.0} or variance == 0:
        slack = z**2 / (min(m, n) + z**2)
        return Estimate(value, max(0.0, value - slack), min(1.0, value + slack), m + n)
    centre, width = logit(value), z * np.sqrt(variance) / (value * (1 - value))
    low, high = expit([centre - width, centre + width])
    return Estimate(value, float(low), float(high), m + n)


def expected_calibration_error(labels: NDArray[np.int64], chances: NDArray[np.float64], bins: int = BINS) -> float:
    r"""Expected calibration error, :math:`\sum_b \frac{n_b}{n} |acc_b - conf_b|`, of the predicted class; 0 is ideal.

    Parameters
    ----------
    labels : ndarray of int64, shape (n,)
        True classes.
    chances : ndarray of float64, shape (n, classes)
        Probabilities.
    bins : int
        Bins of equal width; one that ends at a value includes it.

    References
    ----------
    Guo, Pleiss, Sun and Weinberger (2017), On calibration of modern neural networks, ICML, equation 3.
    """
    if len(labels) == 0:
        return math.nan
    confident, right = chances.max(axis=1), chances.argmax(axis=1) == labels
    places = np.clip(np.ceil(confident * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(places, weights=right.astype(float) - confident, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def rows_of_groups(
    groups: NDArray[np.str_], known: Sequence[str] | None = None
) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """Yield each group with the places of its images, and "all" last; ``known`` may name groups without images."""
    for name in np.unique(groups) if known is None else known:
        yield str(name), np.flatnonzero(groups == name)
    yield "all", np.arange(len(groups))


def _auc_of(
    labels: NDArray[np.int64], chances: NDArray[np.float64], positive: int | None, confidence: float
) -> Estimate:
    if positive is None:
        return UNDEFINED
    return auc(labels == positive, chances[:, positive], confidence)


def _margin(logits: NDArray[np.float32]) -> float:
    if len(logits) == 0 or logits.shape[1] < 2:
        return math.nan
    largest = np.partition(logits.astype(np.float64), -2, axis=1)[:, -2:]
    return float((largest[:, 1] - largest[:, 0]).mean())


def _shift(
    logits: NDArray[np.float32], reference: NDArray[np.float32] | None, rows: NDArray[np.intp], how: object
) -> float:
    if reference is None or len(logits) == 0 or not callable(how):
        return math.nan
    return float(how(np.abs(logits.astype(np.float64) - reference[rows])))
