"""Histograms per (tensor, group) with a range that grows, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator
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
    """The outputs of one run of the augmented graph; one row per image, columns as in `fqbench.quant.layout.Layout`."""

    maxima: NDArray[np.float32]
    minima: NDArray[np.float32]
    sample: NDArray[np.float32]

    def of(self, images: NDArray[np.bool_]) -> Seen:
        """Return the rows of some images."""
        return Seen(self.maxima[images], self.minima[images], self.sample[images])


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
        self._channel = np.where(layout.channel < 0, len(self.channel_sum), layout.channel)

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
        layout = self.layout
        high = np.maximum.reduceat(seen.maxima, layout.maxima.start[:-1], axis=1)
        low = np.zeros_like(high)
        if len(layout.signed):
            low[:, layout.signed] = np.minimum.reduceat(seen.minima, layout.minima.start[layout.signed], axis=1)
        return low, high

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return the state that `restore` needs, by name."""
        return {name: getattr(self, name) for name in self.STATE}

    def restore(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Restore a saved state."""
        for name in self.STATE:
            setattr(self, name, np.array(state[name]))

    def _fold_group(self, seen: Seen, low: NDArray[np.float32], high: NDArray[np.float32], group: int) -> None:
        layout, half = self.layout, np.float32(0.5)
        half_low, half_high = low * half, high * half
        for tensor in range(layout.tensors):
            # Beyond half of the image's own extreme, the extremes of the sets count as one value each, and what
            # the sample has of them does not count again. At the bound of a Clip many are equal: left to the sample.
            tails = _Tails(seen, layout, tensor, half_low[:, tensor, None], half_high[:, tensor, None])
            values = seen.sample[:, layout.sample.of(tensor)]
            bins = self._bins(values, tensor)
            np.copyto(bins, self.bins, where=values == 0)
            slots = layout.strata[tensor]
            if len(slots) > 1:
                bins += layout.stratum[layout.sample.of(tensor)] * (self.bins + 2)
            if layout.partial[tensor]:
                for rows, columns in tails.sampled(values):
                    bins[rows, columns] = self.bins + 1
            counted = np.bincount(bins.ravel(), minlength=len(slots) * (self.bins + 2))
            merged = slots @ counted.reshape(len(slots), self.bins + 2)
            self.counts[tensor, group] += merged[: self.bins]
            self.zeros[tensor, group] += merged[self.bins]
            if layout.partial[tensor]:
                known = self._bins(tails.extremes(), tensor)
                self.counts[tensor, group] += np.bincount(known, minlength=self.bins)
        if len(self.channel_sum):
            sums = seen.sample.sum(axis=0, dtype=np.float64)
            sums *= layout.share
            means = np.bincount(self._channel, weights=sums, minlength=len(self.channel_sum) + 1)
            self.channel_sum[:, group] += means[:-1]

    def _bins(self, values: NDArray[np.float32], tensor: int) -> NDArray[np.int64]:
        """Return the bin of each value."""
        index = values * np.ldexp(np.float32(1), -self.exponent[tensor])
        np.floor(index, out=index)  # before the shift, which would round a tiny negative value up to zero
        index -= np.float32(self.first[tensor])
        bins: NDArray[np.int64] = index.astype(np.int64)
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
class _Tails:
    """The extremes of the sets of one tensor, of some images, that lie beyond bounds of each image."""

    seen: Seen
    layout: Layout
    tensor: int
    below: NDArray[np.float32]
    above: NDArray[np.float32]

    def extremes(self) -> NDArray[np.float32]:
        """Return the extremes that are counted, flattened."""
        layout, tensor = self.layout, self.tensor
        maxima = self.seen.maxima[:, layout.maxima.of(tensor)]
        counted = maxima > self.above
        counted &= maxima != layout.ceiling[tensor]
        minima = self.seen.minima[:, layout.minima.of(tensor)]
        return np.concatenate([maxima[counted], minima[minima < self.below]])

    def sampled(self, values: NDArray[np.float32]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Yield rows and columns of those sampled values that are such extremes."""
        layout = self.layout
        offset = layout.sample.of(self.tensor).start
        rows, columns = np.nonzero(values > self.above)
        of_set = self.seen.maxima[rows, layout.largest[offset + columns]]
        same = (values[rows, columns] == of_set) & (of_set != layout.ceiling[self.tensor])
        yield rows[same], columns[same]
        if self.tensor in layout.signed:
            rows, columns = np.nonzero(values < self.below)
            same = values[rows, columns] == self.seen.minima[rows, layout.smallest[offset + columns]]
            yield rows[same], columns[same]


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
