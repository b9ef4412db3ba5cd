"""Histograms per (tensor, group) with a range that grows, in constant memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fqbench.quant.layout import Layout

BINS = 2048
SMALLEST = -126  # exponent of the width of a bin while only zeros were seen


@dataclass(frozen=True)
class Seen:
    """What the augmented graph says of some images.

    Attributes
    ----------
    maxima, sample : tuple of ndarray of float32, shape (images, columns)
        Per tensor.
    minima : tuple of ndarray of float32, shape (images, columns)
        Per signed tensor.
    """

    maxima: tuple[NDArray[np.float32], ...]
    minima: tuple[NDArray[np.float32], ...]
    sample: tuple[NDArray[np.float32], ...]

    @classmethod
    def joined(cls, parts: Sequence[Seen]) -> Seen:
        """Return what is said of the images of all parts, in order."""
        if len(parts) == 1:
            return parts[0]
        kinds = ([getattr(part, kind) for part in parts] for kind in ("maxima", "minima", "sample"))
        return cls(*(tuple(np.concatenate(arrays) for arrays in zip(*kind, strict=True)) for kind in kinds))

    def of(self, images: NDArray[np.bool_]) -> Seen:
        """Return the rows of some images."""
        return Seen(*(tuple(array[images] for array in kind) for kind in (self.maxima, self.minima, self.sample)))


class Histograms:
    """Counts, extremes and channel means, one set per (tensor, group).

    Bins are multiples of a power of two, ``[k * 2**e, (k + 1) * 2**e)``: when a value falls outside, neighbours are
    merged two by two and no value has to be seen again. Which ``e`` it comes to depends on the extremes alone, so the
    result does not depend on the order of the images or on how they were batched. Zero always is an edge, and exact
    zeros (most of what a Relu gives) are counted apart.

    Attributes
    ----------
    counts : ndarray of float64, shape (tensors, groups, BINS)
        How many values of all pixels each bin stands for, without exact zeros.
    zeros : ndarray of float64, shape (tensors, groups)
        Exact zeros.
    exponent, first : ndarray of int, shape (tensors,)
        The width of a bin is ``2 ** exponent``; the first bin begins at ``first * width``.
    low, high : ndarray of float32, shape (tensors, groups)
        Exact extremes; a low of non-negative tensors is 0.
    low_sum, high_sum : ndarray of float64, shape (tensors, groups)
        Sums of the extremes of each image, for their means.
    images : ndarray of int, shape (groups,)
        Images folded in.
    channel_sum : ndarray of float64, shape (channels, groups)
        Sums over images of each channel's mean.
    """

    STATE = ("counts", "zeros", "exponent", "first", "low", "high", "low_sum", "high_sum", "images", "channel_sum")

    def __init__(self, layout: Layout, groups: int, *, bins: int = BINS) -> None:
        tensors = layout.tensors
        self.layout, self.bins = layout, bins
        self.counts = np.zeros((tensors, groups, bins))
        self.zeros = np.zeros((tensors, groups))
        self.exponent = np.full(tensors, SMALLEST, dtype=np.int64)
        self.first = np.zeros(tensors, dtype=np.int64)
        self.low = np.full((tensors, groups), np.inf, dtype=np.float32)
        self.high = np.full((tensors, groups), -np.inf, dtype=np.float32)
        self.low_sum = np.zeros((tensors, groups))
        self.high_sum = np.zeros((tensors, groups))
        self.images = np.zeros(groups, dtype=np.int64)
        self.channel_sum = np.zeros((int(layout.channel_start[-1]), groups))
        self._offset = (layout.stratum * bins).astype(np.float32)  # of a stratum's bins from the first one's
        signed = dict(zip(layout.signed.tolist(), range(tensors), strict=False))
        self._minima = [signed.get(tensor) for tensor in range(tensors)]

    def fold(self, seen: Seen, groups: NDArray[np.int64]) -> None:
        """Add a batch.

        Parameters
        ----------
        seen : Seen
            What the augmented graph says of each image; finite values.
        groups : ndarray of int, shape (images,)
            Group of each image.
        """
        low, high = self.extremes(seen)
        self._widen(low.min(axis=0), high.max(axis=0))
        for group in np.unique(groups):
            mine = groups == group
            self.low[:, group] = np.minimum(self.low[:, group], low[mine].min(axis=0))
            self.high[:, group] = np.maximum(self.high[:, group], high[mine].max(axis=0))
            self.low_sum[:, group] += low[mine].sum(axis=0, dtype=np.float64)
            self.high_sum[:, group] += high[mine].sum(axis=0, dtype=np.float64)
            self.images[group] += int(mine.sum())
            self._fold_group(seen if mine.all() else seen.of(mine), low[mine], high[mine], int(group))

    def extremes(self, seen: Seen) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return each image's lowest and highest value of each tensor, both (images, tensors)."""
        high = np.stack([maxima.max(axis=1) for maxima in seen.maxima], axis=1)
        low = np.zeros_like(high)
        for tensor, minima in zip(self.layout.signed, seen.minima, strict=True):
            low[:, tensor] = minima.min(axis=1)
        return low, high

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return the state that `restore` needs, by name."""
        return {name: getattr(self, name) for name in self.STATE}

    def restore(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Restore a saved state."""
        for name in self.STATE:
            setattr(self, name, np.array(state[name]))

    def _fold_group(self, seen: Seen, low: NDArray[np.float32], high: NDArray[np.float32], group: int) -> None:
        half = np.float32(0.5)
        half_low, half_high = low * half, high * half
        for tensor in range(self.layout.tensors):
            # Beyond half of the image's own extreme, the extremes of the sets count as one value each, and what
            # the sample has of them does not count again. At the bound of a Clip many are equal: left to the sample.
            tails = self._tails(seen, tensor, half_low[:, tensor, None], half_high[:, tensor, None])
            self._count(seen.sample[tensor], tails, tensor, group)
            self._add_means(seen.sample[tensor], tensor, group)

    def _tails(
        self, seen: Seen, tensor: int, below: NDArray[np.float32], above: NDArray[np.float32]
    ) -> tuple[_Tail, ...]:
        """Return the two tails of a tensor; none where the sample leaves nothing out."""
        if not self.layout.partial[tensor]:
            return ()
        sets, ceiling = self.layout.sets[self.layout.sample.of(tensor)], self.layout.ceiling[tensor]
        upper = _Tail(np.greater, above, seen.maxima[tensor], sets, ceiling)
        number = self._minima[tensor]
        return (upper,) if number is None else (upper, _Tail(np.less, below, seen.minima[number], sets, -np.inf))

    def _count(self, values: NDArray[np.float32], tails: tuple[_Tail, ...], tensor: int, group: int) -> None:
        """Add a sample, without what it has of the tails, and the tails."""
        layout = self.layout
        weights, columns = layout.strata[tensor], layout.sample.of(tensor)
        several = len(weights) > 1
        bins = self._bins(values, tensor, self._offset[columns] if several else np.float32(0))
        dropped = len(weights) * self.bins
        for tail in tails:
            bins[tail.within(values)] = dropped
        counted = np.bincount(bins, minlength=dropped + 1)[:dropped].reshape(len(weights), self.bins)
        zero = values == 0
        if zero.any():
            zeros = np.bincount(layout.stratum[columns], weights=_by_column(zero), minlength=len(weights))
            counted[:, -self.first[tensor]] -= zeros.astype(np.int64)
            self.zeros[tensor, group] += weights @ zeros
        self.counts[tensor, group] += weights @ counted if several else weights * counted[0]
        if tails:
            known = self._bins(np.concatenate([tail.extremes() for tail in tails]), tensor, np.float32(0))
            self.counts[tensor, group] += np.bincount(known, minlength=self.bins)

    def _add_means(self, values: NDArray[np.float32], tensor: int, group: int) -> None:
        """Add the mean of each channel whose mean is kept."""
        first, end = self.layout.channel_start[tensor : tensor + 2]
        if first < end:
            columns = self.layout.sample.of(tensor)
            sums = values.sum(axis=0, dtype=np.float64)
            sums *= self.layout.share[columns]
            self.channel_sum[first:end, group] += np.bincount(
                self.layout.channel[columns] - first, weights=sums, minlength=end - first
            )

    def _bins(
        self, values: NDArray[np.float32], tensor: int, offset: np.float32 | NDArray[np.float32]
    ) -> NDArray[np.intp]:
        """Return the bin of each value, flattened; ``offset`` is a number of bins, of all values or of each column."""
        index = values * np.ldexp(np.float32(1), -self.exponent[tensor])
        np.floor(index, out=index)  # before the shift, which would round a tiny negative value up to zero
        index += offset - np.float32(self.first[tensor])
        bins: NDArray[np.intp] = index.ravel().astype(np.intp)
        return bins

    def _widen(self, low: NDArray[np.float32], high: NDArray[np.float32]) -> None:
        """Widen the range of each tensor to hold these extremes, and zero."""
        last = self.first + self.bins - 1
        width = np.ldexp(1.0, self.exponent)
        outside = (np.floor(np.minimum(low, 0) / width) < self.first) | (np.floor(high / width) > last)
        if not outside.any():
            return
        seen_low, seen_high = self.low.min(axis=1), self.high.max(axis=1)
        for tensor in np.flatnonzero(outside):
            lowest = float(min(low[tensor], seen_low[tensor], 0.0))
            highest = float(max(high[tensor], seen_high[tensor], 0.0))
            self._regrid(int(tensor), *grid(lowest, highest, self.bins, int(self.exponent[tensor])))

    def _regrid(self, tensor: int, exponent: int, first: int) -> None:
        old = self.counts[tensor]
        filled = np.flatnonzero(old.any(axis=0))
        absolute = (filled + self.first[tensor]) >> min(exponent - int(self.exponent[tensor]), 62)
        moved = np.zeros_like(old.T)
        np.add.at(moved, absolute - first, old[:, filled].T)
        self.counts[tensor] = moved.T
        self.exponent[tensor], self.first[tensor] = exponent, first


@dataclass(frozen=True)
class _Tail:
    """The extremes of the sets of one tensor, of some images, that lie beyond a bound of each image.

    Attributes
    ----------
    beyond : ufunc
        Whether a value lies beyond another.
    bound : ndarray of float32, shape (images, 1)
        Bound of each image.
    extremes_of_sets : ndarray of float32, shape (images, sets)
        Extreme of each set.
    sets : ndarray of int, shape (columns,)
        Set of each sampled value.
    left_out : float
        An extreme that is not counted.
    """

    beyond: np.ufunc
    bound: NDArray[np.float32]
    extremes_of_sets: NDArray[np.float32]
    sets: NDArray[np.int64]
    left_out: float

    def extremes(self) -> NDArray[np.float32]:
        """Return the extremes that are counted, flattened."""
        places = np.flatnonzero(self.beyond(self.extremes_of_sets, self.bound))  # faster than to index by the mask
        found: NDArray[np.float32] = self.extremes_of_sets.ravel()[places]
        return found if np.isinf(self.left_out) else found[found != self.left_out]

    def within(self, values: NDArray[np.float32]) -> NDArray[np.intp]:
        """Return the places of those sampled values, flattened, that are such extremes."""
        places: NDArray[np.intp] = np.flatnonzero(self.beyond(values, self.bound))
        rows, columns = np.divmod(places, values.shape[1])
        of_set = self.extremes_of_sets[rows, self.sets[columns]]
        counted: NDArray[np.bool_] = (values.ravel()[places] == of_set) & (of_set != self.left_out)
        return places[counted]


def _by_column(chosen: NDArray[np.bool_]) -> NDArray[np.unsignedinteger]:
    """Return how many of each column are chosen; bytes, where they suffice, are added fastest."""
    counts: NDArray[np.unsignedinteger] = np.add.reduce(
        chosen.view(np.uint8), axis=0, dtype=np.min_scalar_type(len(chosen))
    )
    return counts


def grid(low: float, high: float, bins: int, at_least: int = SMALLEST) -> tuple[int, int]:
    """Return the finest power of two, not below ``at_least``, at which ``bins`` bins hold [low, high]; and the first.

    Returns
    -------
    tuple of int
        Exponent of the width of a bin, and the number of the first bin.
    """
    exponent = at_least
    if high > low:
        exponent = max(exponent, int(np.frexp((high - low) / bins)[1]) - 1)
    while np.floor(np.ldexp(high, -exponent)) - np.floor(np.ldexp(low, -exponent)) >= bins:
        exponent += 1
    return exponent, int(np.floor(np.ldexp(low, -exponent)))
