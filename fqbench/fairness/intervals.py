r"""Intervals for rates and gaps from counts: the cost does not depend on the number of images.

**Single rates** get Wilson's score interval, which is right where the textbook one fails: few images, rates near 0 or
1.

**Paired changes** of one rate get Tango's score interval, which has width even where no image changed.

**Bootstrap** replicates of any statistic are multinomial draws of the table, one for each group (`resample`),
summarised by `percentile`. Rates at 0 of n or n of n have no spread in a plain bootstrap, which would call five images
certain: ``pseudo_count`` lets empty cells fill.

Gaps between groups need more than this; see `fqbench.fairness.gap_intervals`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK_BYTES = 64 * 2**20


def quantile_of_normal(probability: float) -> float:
    """Inverse of the standard normal distribution function."""
    from statistics import NormalDist

    return NormalDist().inv_cdf(probability)


def wilson(successes: Any, n: Any, confidence: float = 0.95) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Wilson's score interval for proportions.

    :math:`\left(\hat p + \frac{z^2}{2n} \pm z\sqrt{\frac{\hat p(1-\hat p)}{n} + \frac{z^2}{4n^2}}\right)
    / \left(1 + \frac{z^2}{n}\right)` (Wilson 1927; recommended by Brown, Cai and DasGupta 2001).

    Parameters
    ----------
    successes, n : array-like of number
        Successes and trials; they broadcast.
    confidence : float, default 0.95
        Two-sided.

    Returns
    -------
    low, high : ndarray of float64
        NaN where n is 0.
    """
    x, trials = np.broadcast_arrays(np.asarray(successes, dtype=np.float64), np.asarray(n, dtype=np.float64))
    z2 = quantile_of_normal(0.5 + confidence / 2) ** 2
    total = np.where(trials > 0, trials, np.nan)
    centre = (x + z2 / 2) / (total + z2)
    half = np.sqrt(z2 * (x * (total - x) / total + z2 / 4)) / (total + z2)
    low = np.where(x == 0, np.where(trials > 0, 0.0, np.nan), np.clip(centre - half, 0.0, 1.0))
    high = np.where(x == trials, np.where(trials > 0, 1.0, np.nan), np.clip(centre + half, 0.0, 1.0))
    return low, high


def resample(
    table: NDArray[np.int64], replicates: int, rng: np.random.Generator, *, pseudo_count: float = 0.0
) -> Iterator[NDArray[np.int64]]:
    """Draw bootstrap replicates of a table of counts, stratified by group: a multinomial for each group.

    Parameters
    ----------
    table : ndarray of int64, shape (groups, ...)
        Counts, paired or not.
    replicates : int
        Number of replicates.
    rng : Generator
        The source of chance.
    pseudo_count : float, default 0
        Added to every cell before the draw, so that empty cells can fill; the number of images drawn stays.

    Yields
    ------
    ndarray of int64, shape (chunk, groups, ...)
        At most 64 MiB at a time; together ``replicates`` of them.
    """
    groups = table.shape[0]
    cells = table.reshape(groups, -1).astype(np.float64) + pseudo_count
    n = table.reshape(groups, -1).sum(axis=1)
    used = cells.sum(axis=0) > 0
    totals = cells[:, used].sum(axis=1, keepdims=True)
    probabilities = np.divide(cells[:, used], totals, out=np.full((groups, int(used.sum())), 0.0), where=totals > 0)
    chunk = max(1, CHUNK_BYTES // max(1, table.size * 8))
    for start in range(0, replicates, chunk):
        size = min(chunk, replicates - start)
        out = np.zeros((size, groups, cells.shape[1]), dtype=np.int64)
        if used.any():
            out[:, :, used] = rng.multinomial(n, probabilities, size=(size, groups))
        yield out.reshape(size, *table.shape)


def percentile(values: NDArray[np.float64], confidence: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of replicates (replicates,); NaN where a replicate is NaN."""
    if values.size == 0 or np.isnan(values).any():
        return math.nan, math.nan
    low, high = np.quantile(values, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return float(low), float(high)


def paired_score(gains: Any, losses: Any, n: Any, difference: Any) -> NDArray[np.float64]:
    r"""Score statistic for a difference between two proportions of the same images (Tango 1998).

    :math:`z(\delta) = (b - c - n\delta) / \sqrt{n(2\tilde q + \delta(1 - \delta))}` with :math:`\tilde q` the maximum
    likelihood estimate of the probability of a loss given :math:`\delta`. Standard normal where the true difference
    is :math:`\delta`; falls as :math:`\delta` rises.

    Parameters
    ----------
    gains, losses : array-like of int
        Images that only the candidate counts as a success (b), and only the reference (c).
    n : array-like of int
        Images.
    difference : array-like of float
        Hypothetical candidate minus reference, strictly between -1 and 1.

    Returns
    -------
    ndarray of float64
        NaN where n is 0; 0 where nothing changed and ``difference`` is 0.
    """
    b, c, n, d = (np.asarray(value, dtype=np.float64) for value in (gains, losses, n, difference))
    linear = -b - c + (2 * n - b + c) * d
    root = np.sqrt(np.maximum(linear**2 + 8 * n * c * d * (1 - d), 0.0))
    out = np.full(np.broadcast_shapes(b.shape, c.shape, n.shape, d.shape), np.nan)
    loss = np.divide(root - linear, 4 * n, out=out.copy(), where=n > 0)
    variance = n * np.maximum(2 * loss + d * (1 - d), 0.0)
    numerator = b - c - n * d
    np.divide(numerator, np.sqrt(variance), out=out, where=variance > 0)
    return np.where((n > 0) & (variance <= 0) & (numerator == 0), 0.0, out)


def paired_difference(
    gains: Any, losses: Any, n: Any, confidence: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Interval of the difference between two proportions of the same images, by inverting `paired_score`.

    It has width even where not one image changed: of 30 images without a flip, up to 11 % may still flip.

    Parameters
    ----------
    gains, losses, n
        As in `paired_score`; they broadcast.
    confidence : float, default 0.95
        Two-sided.

    Returns
    -------
    low, high : ndarray of float64
        Candidate minus reference; NaN where n is 0.

    References
    ----------
    Tango (1998), Equivalence test and confidence interval for the difference in proportions for the paired-sample
    design. Statistics in Medicine 17, 891-908. Recommended by Fagerland, Lydersen and Laake (2014). The tests compare
    with two implementations in R (contingencytables, PropCIs) and with the restricted likelihood.
    """
    b, c, trials = np.broadcast_arrays(*(np.asarray(value, dtype=np.float64) for value in (gains, losses, n)))
    z = quantile_of_normal(0.5 + confidence / 2)
    observed = np.divide(b - c, trials, out=np.full(b.shape, np.nan), where=trials > 0)
    ends = []
    for target, outer in ((z, -1.0), (-z, 1.0)):
        inside, outside = np.clip(observed, -1 + 1e-12, 1 - 1e-12), np.full(b.shape, outer * (1 - 1e-12))
        for _ in range(50):
            middle = (inside + outside) / 2
            score = paired_score(b, c, trials, middle)
            within = score < target if outer < 0 else score > target
            inside, outside = np.where(within, middle, inside), np.where(within, outside, middle)
        found = np.where(observed * outer >= 1, outer, (inside + outside) / 2)  # all lost or all gained: nothing beyond
        ends.append(np.where(trials > 0, found, np.nan))
    return ends[0], ends[1]
