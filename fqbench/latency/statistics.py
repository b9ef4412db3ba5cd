"""Intervals of latency figures: order statistics of quantiles, and a block bootstrap over rounds for ratios."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fqbench.latency.interval import Interval, divide
from fqbench.latency.results import NANOSECONDS_A_SECOND

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

# Resampled values held at once: 32 MiB of indices, whatever the number of rounds.
RESAMPLED_AT_ONCE = 4_000_000


def quantile_estimate(values: NDArray[np.int64], quantile: float, confidence: float) -> Interval:
    r"""Return a quantile with its order-statistic interval, which assumes no distribution.

    The number of values below the true quantile is binomial, :math:`B \sim Bin(n, q)`; with
    :math:`l = F_B^{-1}(\alpha / 2)` and :math:`u = F_B^{-1}(1 - \alpha / 2) + 1` the interval from the l-th to the
    u-th smallest value holds the quantile with probability of at least :math:`1 - \alpha`, if rounds are independent.

    Parameters
    ----------
    values : ndarray of int64, shape (n,)
        Times.
    quantile : float
        In (0, 1).
    confidence : float
        :math:`1 - \alpha`.

    Returns
    -------
    Interval
        ``high`` is infinite (``low`` 0) where ``n`` values are too few: p99 at 95 % needs 368 for an upper end.
    """
    from scipy.stats import binom

    ordered = np.sort(values)
    tail = (1 - confidence) / 2
    low_rank = int(binom.ppf(tail, len(ordered), quantile))
    high_rank = int(binom.ppf(1 - tail, len(ordered), quantile)) + 1
    low = float(ordered[low_rank - 1]) if low_rank >= 1 else 0.0
    high = float(ordered[high_rank - 1]) if high_rank <= len(ordered) else math.inf
    return Interval(float(np.quantile(ordered, quantile)), low, high)


def resampled_rounds(rounds: int, replicates: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield round numbers (<= replicates, rounds) of a circular block bootstrap, a chunk of replicates at a time.

    Blocks of neighbouring rounds, :math:`\\lceil n^{1/3} \\rceil` long, keep what disturbs several rounds in a row
    together (Politis and Romano 1992); with independent rounds they cost next to nothing.
    """
    generator = np.random.default_rng(seed)
    length = max(1, math.ceil(rounds ** (1 / 3) - 1e-9))
    blocks = math.ceil(rounds / length)
    chunk = max(1, RESAMPLED_AT_ONCE // rounds)
    for start in range(0, replicates, chunk):
        starts = generator.integers(rounds, size=(min(chunk, replicates - start), blocks, 1))
        yield ((starts + np.arange(length)) % rounds).reshape(len(starts), -1)[:, :rounds]


def round_figures(
    values: NDArray[np.int64], *, batch: int, reference: int | None, confidence: float, replicates: int, seed: int
) -> list[tuple[Interval, Interval | None]]:
    r"""Return throughput and ratio to the reference of every subject, from one bootstrap over rounds.

    Throughput is :math:`batch \cdot n / \sum_r t_r` images a second. The ratio of subject s to the reference is
    :math:`\mathrm{med}_r(t_{s,r}) / \mathrm{med}_r(t_{ref,r})`; a replicate draws rounds and takes the times of all
    subjects in these rounds, so that a slow stretch of the machine weighs on both medians alike. The interval is
    between the :math:`\alpha/2` and :math:`1 - \alpha/2` quantiles of the replicates.

    Parameters
    ----------
    values : ndarray of int64, shape (subjects, rounds)
        Nanoseconds.
    batch : int
        Images a call.
    reference : int or None
        Row of the reference.
    confidence : float
        :math:`1 - \alpha`.
    replicates, seed : int
        Of the bootstrap. Memory does not grow with the replicates.
    """
    subjects, rounds = values.shape
    medians, means = [], []
    for drawn in resampled_rounds(rounds, replicates, seed):
        medians.append(np.stack([np.median(values[row][drawn], axis=1) for row in range(subjects)]))
        means.append(np.stack([values[row][drawn].mean(axis=1) for row in range(subjects)]))
    median, mean = np.concatenate(medians, axis=1), np.concatenate(means, axis=1)
    tail = (1 - confidence) / 2
    scale = batch * NANOSECONDS_A_SECOND
    figures: list[tuple[Interval, Interval | None]] = []
    for row in range(subjects):
        slow, fast = (float(end) for end in np.quantile(mean[row], [1 - tail, tail]))
        throughput = Interval(divide(scale, float(values[row].mean())), divide(scale, slow), divide(scale, fast))
        figures.append((throughput, _ratio(values, median, row, reference, tail)))
    return figures


def _ratio(
    values: NDArray[np.int64], median: NDArray[np.float64], row: int, reference: int | None, tail: float
) -> Interval | None:
    if reference is None:
        return None
    centre = np.median(values, axis=1)
    low, high = np.quantile(median[row] / median[reference], [tail, 1 - tail])
    return Interval(float(centre[row] / centre[reference]), float(low), float(high))
