"""Range rules: a weighted histogram of each tensor in, one range per tensor out; all tensors at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from fqbench.contracts.numerics import IntegerFormat
from fqbench.errors import InputError, did_you_mean
from fqbench.quant.mse_range import GroupHistograms, mse_range

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fqbench.quant.record import CalibrationRecord

MINMAX, PERCENTILE = "minmax", "percentile"
DEFAULT_PERCENTILE = 99.99


@dataclass(frozen=True)
class Rule:
    """A range rule: computes a range from a distribution.

    Attributes
    ----------
    name : str
        ``minmax`` (the extremes), ``mean_minmax`` (the mean over images of their extremes), ``percentile`` (what is
        left when ``100 - percentile`` percent are cut, half on each side), ``entropy`` (least KL
        divergence) or ``mse`` (least squared quantization error).
    percentile : float
        For ``percentile``.
    """

    name: str = MINMAX
    percentile: float = DEFAULT_PERCENTILE

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Parse a rule as on the command line: ``mse``, ``percentile``, ``percentile=99.9`` ...

        Raises
        ------
        InputError
            No such rule, or a percentile that is not above 50 and at most 100.
        """
        name, equals, value = text.partition("=")
        if name not in RULES or (equals and name != PERCENTILE):
            raise InputError(f"unknown range rule {text!r}: {did_you_mean(text, (*RULES, 'percentile=99.99'))}")
        if not equals:
            return cls(name)
        try:
            percentile = float(value)
        except ValueError:
            percentile = float("nan")
        if not 50 < percentile <= 100:
            raise InputError(f"--range-rule {text}: the percentile must be above 50 and at most 100.")
        return cls(name, percentile)

    @property
    def label(self) -> str:
        """The rule as it is written on the command line."""
        return f"{self.name}={self.percentile:g}" if self.name == PERCENTILE else self.name

    def ranges(self, values: Distribution, quantizer: IntegerFormat) -> NDArray[np.float64]:
        """Return one range per tensor, shape (tensors, 2); no wider than the extremes."""
        return RULES[self.name](values, quantizer, self.percentile)


@dataclass(frozen=True)
class Distribution:
    """A record's histograms, summed over weighted groups.

    Attributes
    ----------
    edges : ndarray, shape (tensors, bins + 1)
        Edges of the bins.
    counts : ndarray, shape (tensors, bins)
        Weight in each bin, without exact zeros.
    zeros : ndarray, shape (tensors,)
        Weight of exact zeros.
    low, high : ndarray, shape (tensors,)
        Exact extremes over the groups that count.
    mean_low, mean_high : ndarray, shape (tensors,)
        Weighted means over images of their extremes.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.float64]
    zeros: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    mean_low: NDArray[np.float64]
    mean_high: NDArray[np.float64]

    @classmethod
    def of(cls, record: CalibrationRecord, weights: NDArray[np.float64]) -> Self:
        """Mix the groups of a record, each image of a group weighted by ``weights`` (groups,)."""
        counting = weights > 0
        images = float(weights @ record.images)
        return cls(
            edges=record.edges,
            counts=np.einsum("tgb,g->tb", record.counts, weights),
            zeros=record.zeros @ weights,
            low=record.low[:, counting].min(axis=1).astype(np.float64),
            high=record.high[:, counting].max(axis=1).astype(np.float64),
            mean_low=record.arrays["low_sum"] @ weights / images,
            mean_high=record.arrays["high_sum"] @ weights / images,
        )

    @property
    def total(self) -> NDArray[np.float64]:
        """Weight of all values."""
        weight: NDArray[np.float64] = self.counts.sum(axis=1) + self.zeros
        return weight

    def with_zeros(self) -> NDArray[np.float64]:
        """Return the counts with exact zeros in the bin that begins at zero."""
        counts = self.counts.copy()
        at_zero = np.argmax(self.edges >= 0, axis=1)
        counts[np.arange(len(counts)), np.minimum(at_zero, counts.shape[1] - 1)] += self.zeros
        return counts

    def magnitudes(self) -> NDArray[np.float64]:
        """Return the counts of absolute values, without exact zeros, (tensors, bins); zero is always an edge."""
        bins = self.counts.shape[1]
        width = self.edges[:, 1] - self.edges[:, 0]
        first = np.rint(self.edges[:, 0] / width).astype(np.int64)
        index = first[:, None] + np.arange(bins)
        index = np.where(index < 0, -index - 1, index)
        folded = np.zeros_like(self.counts)
        tensors = np.broadcast_to(np.arange(len(first))[:, None], index.shape)
        filled = (self.counts > 0) & (index < bins)
        np.add.at(folded, (tensors[filled], index[filled]), self.counts[filled])
        return folded


def minmax_ranges(values: Distribution) -> NDArray[np.float64]:
    """Return the exact extremes."""
    return np.stack([values.low, values.high], axis=1)


def mean_minmax_ranges(values: Distribution) -> NDArray[np.float64]:
    """Return the means over images of their extremes."""
    return np.stack([values.mean_low, values.mean_high], axis=1)


def mse_ranges(values: Distribution, quantizer: IntegerFormat) -> NDArray[np.float64]:
    """Return the ranges with the least squared quantization error."""
    seen = GroupHistograms(values.edges, values.counts[:, None, :], values.total[:, None])
    return mse_range(seen, minmax_ranges(values), quantizer)


def percentile_ranges(values: Distribution, percentile: float, *, symmetric: bool) -> NDArray[np.float64]:
    """Clip ``100 - percentile`` percent of the values, half on each side, or all of them by magnitude.

    Within a bin the values are taken as evenly spread; the result is never outside the exact extremes.
    """
    cut = (100 - percentile) / 100
    if symmetric:
        counts = values.magnitudes()
        counts[:, 0] += values.zeros
        width = values.edges[:, 1] - values.edges[:, 0]
        edges = np.arange(counts.shape[1] + 1) * width[:, None]
        largest = np.maximum(-values.low, values.high)
        threshold = np.minimum(_quantile(counts, edges, 1 - cut), largest)
        return np.stack([-threshold, threshold], axis=1)
    counts = values.with_zeros()
    low = np.clip(_quantile(counts, values.edges, cut / 2), values.low, values.high)
    low = np.where(values.low >= 0, values.low, low)  # of a Relu the least is 0, not something inside its first bin
    high = np.clip(_quantile(counts, values.edges, 1 - cut / 2), values.low, values.high)
    return np.stack([low, high], axis=1)


def _quantile(counts: NDArray[np.float64], edges: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Return the value below which ``share`` of each row lies."""
    cumulative = np.cumsum(counts, axis=1)
    wanted = share * cumulative[:, -1]
    index = np.minimum((cumulative < wanted[:, None]).sum(axis=1), counts.shape[1] - 1)
    rows = np.arange(len(counts))
    inside = counts[rows, index]
    before = cumulative[rows, index] - inside
    part = np.divide(wanted - before, inside, out=np.ones_like(inside), where=inside > 0)
    left, right = edges[rows, index], edges[rows, index + 1]
    found: NDArray[np.float64] = left + np.clip(part, 0, 1) * (right - left)
    return found


def entropy_ranges(values: Distribution, quantizer: IntegerFormat) -> NDArray[np.float64]:
    """Threshold that minimizes the KL divergence between the clipped and the quantized distribution of magnitudes.

    For each threshold the values beyond it are counted at it (P); the same bins without them are merged into as many
    levels as the quantizer has for magnitudes and spread out again over the bins that were not empty (Q); the
    threshold with the least KL(P, Q) is taken [1]_. Exact zeros are left out: they are represented exactly, and the
    spike that a Relu makes would otherwise pull every threshold down.

    References
    ----------
    .. [1] S. Migacz, "8-bit inference with TensorRT", GPU Technology Conference 2017, slides 32-38.
    """
    counts = values.magnitudes()
    non_negative = values.low >= 0
    width = values.edges[:, 1] - values.edges[:, 0]
    thresholds = np.empty(len(counts))
    for mask, levels in ((non_negative, quantizer.levels_of_one_side), (~non_negative, quantizer.signed_levels)):
        if mask.any():
            thresholds[mask] = least_divergence(counts[mask], levels) * width[mask]
    thresholds = np.minimum(thresholds, np.maximum(-values.low, values.high))
    if quantizer.symmetric:
        return np.stack([-thresholds, thresholds], axis=1)
    return np.stack([np.maximum(-thresholds, values.low), np.minimum(thresholds, values.high)], axis=1)


def least_divergence(counts: NDArray[np.float64], levels: int) -> NDArray[np.int64]:
    """Return how many bins, from the first, minimize the KL divergence of each row; all if there are few.

    Per level, the divergence needs only sums over its bins, of counts, of ``count * log(count)`` and of how many are
    not empty: differences of running sums, so that a candidate costs as much as there are levels.
    """
    rows, bins = counts.shape
    logs = np.log(counts, out=np.zeros_like(counts), where=counts > 0)
    running = [
        np.concatenate([np.zeros((rows, 1)), np.cumsum(part, axis=1)], axis=1)
        for part in (counts, counts * logs, (counts > 0).astype(np.float64))
    ]
    used = np.array([np.max(np.flatnonzero(row), initial=-1) + 1 for row in counts])
    best, least = used.copy(), np.full(rows, np.inf)
    total = running[0][:, -1]
    for kept in range(levels, bins + 1):
        edges = np.arange(levels + 1) * kept // levels
        mass, own, filled = (np.diff(sums[:, edges], axis=1) for sums in running)
        inside = running[0][:, kept]
        outliers = total - inside
        last = counts[:, kept - 1]
        possible = (kept <= used) & (inside > 0) & ((last > 0) | (outliers <= 0))
        if not possible.any():
            continue
        spread = np.divide(mass, filled, out=np.ones_like(mass), where=filled > 0)  # Q, before it is normalized
        with np.errstate(divide="ignore", invalid="ignore"):
            cross = np.where(mass > 0, mass * np.log(spread), 0).sum(axis=1)
            at_end = last + outliers
            entropy = own.sum(axis=1) - np.where(last > 0, last * np.log(last), 0) + at_end * np.log(at_end)
            cross += outliers * np.log(spread[:, -1])
            divergence = (entropy - cross) / total - np.log(total / inside)
        better = possible & (divergence < least)
        least[better], best[better] = divergence[better], kept
    return best


# A rule gets the weighted histograms, the integer format, and the percentile, which `percentile` alone looks at.
RULES: Mapping[str, Callable[[Distribution, IntegerFormat, float], NDArray[np.float64]]] = {
    MINMAX: lambda values, _format, _percentile: minmax_ranges(values),
    "mean_minmax": lambda values, _format, _percentile: mean_minmax_ranges(values),
    PERCENTILE: lambda values, format_, percentile: percentile_ranges(values, percentile, symmetric=format_.symmetric),
    "entropy": lambda values, format_, _percentile: entropy_ranges(values, format_),
    "mse": lambda values, format_, _percentile: mse_ranges(values, format_),
}
