r"""Error bars for rates and gaps, from the counts alone: the cost does not depend on the number of images.

**Single rates** get Wilson's score interval, which is right where the textbook one fails: few images, rates near 0 or 1.

**Gaps** (largest minus smallest, smallest over largest) are biased upwards by noise, the more the more groups there are,
so their percentile bootstrap misses a true gap of 0 always and a small one mostly. The default is therefore *test
inversion*: the groups' rates are moved along the line from "all equal to the pooled rate" (t = 0) through what was
seen (t = 1) and beyond; at each t, sampling noise (binomial, given each group's denominator) is added and the gap
taken; the interval holds the gaps of all t at which the observed gap is not in an outer tail of that distribution. It reaches
0 exactly where "no difference" is not rejected. `percentile` and `bca` over `resample` are there for comparison
and for smooth statistics. ``benchmarks/intervals.py`` prints the coverage of each.

**Degenerate rates** (0 of n, n of n) have no spread in a plain bootstrap, which would call five images certain. Noise
is therefore drawn at :math:`(x + 1/2) / (n + 1)` (Jeffreys) and re-centred on the observed rate. **Undefined rates** stay out
of every replicate; a rate that is defined in the data but not in some replicate of `resample` (all of a group's few
positives left out) is drawn again until it is, so every replicate is over the same groups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from fqbench.fairness.metrics import PROPORTIONS, GapRule, Rates, Table, lowest, smallest_ratio, spread

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK_BYTES = 64 * 2**20
SMALL_GROUP = 30
NOISE_REPLICATES = 2_000
How = Literal["difference", "ratio", "minimum"]


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


def redraw_undefined(replicates: Rates, observed: Rates, rng: np.random.Generator) -> Rates:
    """Replace rates that only a replicate left undefined by draws from the same group's defined replicates.

    Parameters
    ----------
    replicates : ndarray, shape (replicates, groups)
        Rates; changed in place.
    observed : ndarray, shape (groups,)
        The rates in the data; a group that is undefined there stays undefined everywhere.
    rng : Generator
        The source of chance.

    Returns
    -------
    ndarray, shape (replicates, groups)
        ``replicates``.
    """
    missing = np.isnan(replicates)
    for group in np.flatnonzero(missing.any(axis=0)):
        gaps = missing[:, group]
        if np.isnan(observed[group]) or gaps.all():
            replicates[:, group] = observed[group]
            continue
        replicates[gaps, group] = rng.choice(replicates[~gaps, group], size=int(gaps.sum()))
    replicates[:, np.isnan(observed)] = np.nan
    return replicates


@overload
def percentile(values: NDArray[np.float64], confidence: float = ...) -> tuple[float, float]: ...
@overload
def percentile(values: Sequence[float], confidence: float = ...) -> tuple[float, float]: ...
def percentile(values: Any, confidence: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of replicates (replicates,); NaN where a replicate is NaN."""
    values = np.asarray(values, dtype=np.float64)
    if values.size == 0 or np.isnan(values).any():
        return float("nan"), float("nan")
    low, high = np.quantile(values, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return float(low), float(high)


def bca(
    observed: float, values: NDArray[np.float64], acceleration: float, confidence: float = 0.95
) -> tuple[float, float]:
    r"""Bias-corrected and accelerated bootstrap interval (Efron 1987).

    Percentiles :math:`\Phi(z_0 + \frac{z_0 + z_\alpha}{1 - a(z_0 + z_\alpha)})` of the replicates, with
    :math:`z_0 = \Phi^{-1}(P(\theta^* < \hat\theta) + P(\theta^* = \hat\theta)/2)`.

    Parameters
    ----------
    observed : float
        The statistic of the data.
    values : ndarray, shape (replicates,)
        The statistic of each replicate.
    acceleration : float
        From `jackknife_acceleration`.
    confidence : float, default 0.95
        Two-sided.

    Returns
    -------
    low, high : float
        NaN where the statistic or a replicate is undefined.
    """
    from scipy.special import ndtr, ndtri

    if np.isnan(observed) or values.size == 0 or np.isnan(values).any():
        return float("nan"), float("nan")
    below = (np.count_nonzero(values < observed) + np.count_nonzero(values == observed) / 2) / len(values)
    z0 = ndtri(np.clip(below, 0.5 / len(values), 1 - 0.5 / len(values)))
    z = z0 + ndtri([0.5 - confidence / 2, 0.5 + confidence / 2])
    low, high = np.quantile(values, ndtr(z0 + z / (1 - acceleration * z)))
    return float(low), float(high)


def jackknife_acceleration(table: NDArray[np.int64], statistic: Callable[[Table], Rates]) -> float:
    r"""Acceleration for `bca` from leave-one-out tables: one for each non-empty cell, not one for each image.

    :math:`a = \frac16 \sum_{g,i} (l_{gi}/n_g)^3 / (\sum_{g,i} (l_{gi}/n_g)^2)^{3/2}` with the jackknife influence
    :math:`l_{gi} = (n_g - 1)(\bar\theta_{(g\cdot)} - \theta_{(gi)})` (Davison and Hinkley 1997, 5.3.2 and 3.2.1).

    Parameters
    ----------
    table : ndarray of int64, shape (groups, ...)
        The counts.
    statistic : callable
        Maps tables (m, groups, ...) to values (m,).
    """
    cells = np.argwhere(table > 0)
    if len(cells) == 0:
        return 0.0
    out = np.repeat(table[None], len(cells), axis=0)
    out[(np.arange(len(cells)), *cells.T)] -= 1
    values, weights = np.asarray(statistic(out)), table[tuple(cells.T)]
    third = second = 0.0
    for group in np.unique(cells[:, 0]):
        rows = (cells[:, 0] == group) & ~np.isnan(values)
        n = weights[rows].sum()
        if n < 2:
            continue
        influence = (n - 1) / n * (np.average(values[rows], weights=weights[rows]) - values[rows])
        third += float((weights[rows] * influence**3).sum())
        second += float((weights[rows] * influence**2).sum())
    return third / (6 * second**1.5) if second > 0 else 0.0


# --- gaps by test inversion -------------------------------------------------------------------------------------------


class GapSampler:
    """Sampling noise of the rates behind one gap, and what follows from it: interval, noise floor, de-biased value.

    Parameters
    ----------
    rule : GapRule
        What the gap compares, and how.
    parts : sequence of (successes, trials), each ndarray (groups,)
        The proportions that the gap is over: one for most, TPR and FPR for equalized odds, times the classes where the
        gap is the worst over classes. Parts with fewer than two groups that have trials must be left out by the caller.
    rng : Generator
        The source of chance.
    replicates : int
        Replicates of the noise.
    """

    def __init__(
        self,
        rule: GapRule,
        parts: Sequence[tuple[NDArray[Any], NDArray[Any]]],
        rng: np.random.Generator,
        replicates: int = NOISE_REPLICATES,
    ) -> None:
        self.rule = rule
        self._sign = 1.0 if rule.how == "difference" else -1.0
        self._rates: list[Rates] = []
        self._pooled: list[float] = []
        self._noise: list[Rates] = []
        self._null: list[Rates] = []
        self._variances: list[Rates] = []
        for successes, trials in parts:
            kept = np.asarray(trials) > 0
            x, n = np.asarray(successes)[kept].astype(np.float64), np.asarray(trials)[kept].astype(np.int64)
            pooled, smooth = float(x.sum() / n.sum()), (x + 0.5) / (n + 1)
            self._rates.append(x / n)
            self._pooled.append(pooled)
            self._noise.append(rng.binomial(n, smooth, size=(replicates, len(n))) / n - smooth)
            self._null.append(rng.binomial(n, pooled, size=(replicates, len(n))) / n)
            self._variances.append(x / n * (1 - x / n) / np.maximum(n - 1, 1))
        self.observed = float(self._gap(self._rates))

    def _gap(self, rates: Sequence[Rates]) -> Rates:
        compare = {"difference": spread, "ratio": smallest_ratio, "minimum": lowest}[self.rule.how]
        return self.rule.worst([compare(each) for each in rates])

    def _moved(self, t: float, *, noise: bool) -> Rates:
        moved = []
        for rates, pooled, shape, error in zip(self._rates, self._pooled, self._shapes(), self._noise, strict=True):
            centre = np.clip(pooled + (rates - pooled) * min(t, 1.0) + shape * max(t - 1.0, 0.0), 0.0, 1.0)
            moved.append(np.clip(centre + error, 0.0, 1.0) if noise else centre)
        return self._gap(moved)

    def _shapes(self) -> list[Rates]:
        """Direction in which the rates go apart beyond what was seen: as seen, at least by a standard error."""
        shapes = []
        for rates, pooled, error in zip(self._rates, self._pooled, self._noise, strict=True):
            deviation, scale = rates - pooled, error.std(axis=0)
            if np.abs(deviation).max() < scale.max():
                order = np.argsort(np.argsort(deviation, kind="stable"), kind="stable")
                sign = np.where(order == len(rates) - 1, 1.0, np.where(order == 0, -1.0, 0.0))
                deviation = deviation + sign * scale
            shapes.append(deviation)
        return shapes
