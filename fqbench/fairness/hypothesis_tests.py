r"""Did quantization change anything, and is the change small enough not to matter?

Two questions, two tests. *Different*: exact McNemar over the images whose answer changed, corrected over groups.
*Equivalent*: two one-sided tests (TOST) against a margin: both "the change is at or below -margin" and "at or above
+margin" are rejected. A change can be both, real and harmless; then the verdict is *equivalent*. If it is neither,
there are not enough data, and the verdict is *undecided*, with the number of images that would decide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fqbench.errors import InputError
from fqbench.fairness.intervals import paired_score, quantile_of_normal

if TYPE_CHECKING:
    from numpy.typing import NDArray

Correction = Literal["holm", "benjamini-hochberg", "none"]
Answer = Literal["equivalent", "different", "undecided"]
LARGEST_N = 10**12


def mcnemar(gains: Any, losses: Any) -> NDArray[np.float64]:
    r"""Exact two-sided McNemar test: are gains and losses equally likely?

    :math:`p = \min(1, 2 P(B \le \min(b, c)))` with :math:`B \sim Bin(b + c, 1/2)`; 1 where nothing changed.

    Parameters
    ----------
    gains, losses : array-like of int
        Images that only the candidate has right (b), and only the reference (c); they broadcast.

    Returns
    -------
    ndarray of float64
        p-values.
    """
    from scipy.special import bdtr

    b, c = np.asarray(gains), np.asarray(losses)
    return np.asarray(np.minimum(1.0, 2 * bdtr(np.minimum(b, c), b + c, 0.5)), dtype=np.float64)


def adjust(p_values: Sequence[float] | NDArray[np.float64], correction: Correction = "holm") -> NDArray[np.float64]:
    r"""Correct p-values of several tests; a NaN (an undefined rate) is not a test and stays NaN.

    Parameters
    ----------
    p_values : array-like of float, shape (tests,)
        One p-value a test.
    correction : {"holm", "benjamini-hochberg", "none"}, default "holm"
        Holm (1979) bounds the probability of any false "different", Benjamini and Hochberg (1995) the expected share of
        false ones among all "different".

    Returns
    -------
    ndarray of float64, shape (tests,)

    Raises
    ------
    InputError
        No such correction.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if correction == "none":
        return p.copy()
    if correction not in {"holm", "benjamini-hochberg"}:
        raise InputError(f"there is no correction {correction!r}: choose holm, benjamini-hochberg or none.")
    out = np.full(p.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    m = len(order)
    rank = np.arange(1, m + 1)
    if correction == "holm":
        adjusted = np.maximum.accumulate(p[order] * (m - rank + 1))
    else:
        adjusted = np.minimum.accumulate((p[order] * m / rank)[::-1])[::-1]
    out[order] = np.minimum(adjusted, 1.0)
    return out


def equivalence(gains: Any, losses: Any, n: Any, margin: float) -> NDArray[np.float64]:
    r"""Two one-sided score tests that a paired change of a proportion lies within :math:`\pm` margin.

    Parameters
    ----------
    gains, losses, n : array-like of int
        As in `fqbench.fairness.intervals.paired_score`.
    margin : float
        Largest harmless change, above 0 and below 1.

    Returns
    -------
    ndarray of float64
        The larger of the two p-values (Schuirmann 1987; Tango 1998); NaN where n is 0.

    Raises
    ------
    InputError
        The margin is not between 0 and 1.
    """
    from scipy.special import ndtr

    if not 0 < margin < 1:
        raise InputError(f"a margin of equivalence must be between 0 and 1, not {margin}.")
    not_below = ndtr(-paired_score(gains, losses, n, -margin))
    not_above = ndtr(paired_score(gains, losses, n, margin))
    return np.asarray(np.maximum(not_below, not_above), dtype=np.float64)


def variance_on_the_margin(gain: float, loss: float, margin: float) -> float:
    """Variance of one image's change if the true change were the margin: the larger one of both sides.

    The score test uses it in place of the variance seen, which matters where few images flip.

    Parameters
    ----------
    gain, loss : float
        Shares of images that only the candidate has right, and only the reference; not both 0.
    margin : float
        Largest harmless change.
    """
    sides = np.array([-margin, margin])
    score = paired_score(gain, loss, 1.0, sides)
    gaps = gain - loss - sides
    known = score != 0
    return float(np.max((gaps[known] / score[known]) ** 2, initial=0.0)) or gain + loss - (gain - loss) ** 2


def images_to_decide(
    change: float,
    variance: float,
    margin: float,
    *,
    margin_variance: float | None = None,
    alpha: float = 0.05,
    power: float = 0.8,
) -> float:
    r"""Sample size for a verdict other than "undecided" with this probability.

    The estimate of a change is taken as normal with variance :math:`\sigma^2/n` around the change seen. There is a
    verdict if it is within :math:`margin - z_{1-\alpha}\sigma_m/\sqrt n` of 0, or beyond
    :math:`z_{1-\alpha/2}\sigma/\sqrt n`; with enough images these two meet, and there always is one.

    Parameters
    ----------
    change : float
        The change seen, taken as the true one.
    variance : float
        Variance of the change of one image, :math:`(b + c)/n - \delta^2` for a proportion.
    margin : float
        Largest harmless change.
    margin_variance : float, optional
        :math:`\sigma_m^2`, the variance if the true change were the margin; ``variance`` by default.
    alpha, power : float
        Level of the tests; probability of a verdict.

    Returns
    -------
    float
        A whole number of images; NaN where the change is undefined.
    """
    from scipy.special import ndtr

    if np.isnan(change) or np.isnan(variance):
        return math.nan
    sigma, sigma_margin = float(np.sqrt(variance)), float(np.sqrt(margin_variance or variance))
    one, two = quantile_of_normal(1 - alpha), quantile_of_normal(1 - alpha / 2)
    certain = ((one * sigma_margin + two * sigma) / margin) ** 2
    n = np.unique(np.ceil(np.geomspace(1.0, max(2.0, min(certain, LARGEST_N)), 2_000)))
    error = sigma / np.sqrt(n)
    within, beyond = np.maximum(margin - one * sigma_margin / np.sqrt(n), 0.0), two * error
    with np.errstate(divide="ignore", invalid="ignore"):
        decided = ndtr((within - change) / error) - ndtr((-within - change) / error)
        outer = np.maximum(within, beyond)
        decided = decided + ndtr((-outer - change) / error) + ndtr((change - outer) / error)
    enough = (decided >= power) | (n >= certain)
    short = np.flatnonzero(~enough)
    first = 0 if len(short) == 0 else short[-1] + 1
    return float(n[min(int(first), len(n) - 1)])


@dataclass(frozen=True)
class Verdict:
    """The result of the tests of one change.

    Attributes
    ----------
    answer : {"equivalent", "different", "undecided"}
        "undecided" also where the change is undefined.
    margin : float
        Largest change that counts as harmless.
    p_equivalent : float
        p-value of the two one-sided tests.
    p_different : float
        p-value of "no change", corrected over the tests it was made with.
    images_needed : float
        Where undecided: images that would decide at 80 % power if the change is as seen; else NaN.
    """

    answer: Answer
    margin: float
    p_equivalent: float
    p_different: float
    images_needed: float


def verdict(
    p_equivalent: float,
    p_different: float,
    *,
    margin: float,
    change: float,
    variance: float,
    margin_variance: float | None = None,
    alpha: float = 0.05,
) -> Verdict:
    """Decide: equivalent if both one-sided tests reject, else different if the two-sided test rejects, else undecided.

    Parameters
    ----------
    p_equivalent, p_different : float
        The p-values, the second one corrected; NaN where the change is undefined.
    margin, change, variance, margin_variance, alpha : float
        As in `images_to_decide`.
    """
    if p_equivalent <= alpha:
        return Verdict("equivalent", margin, p_equivalent, p_different, math.nan)
    if p_different <= alpha:
        return Verdict("different", margin, p_equivalent, p_different, math.nan)
    needed = images_to_decide(change, variance, margin, margin_variance=margin_variance, alpha=alpha)
    return Verdict("undecided", margin, p_equivalent, p_different, needed)
