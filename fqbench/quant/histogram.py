"""Histograms per (tensor, group) whose range grows as values come, in memory that does not depend on how many."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fqbench.quant.layout import Chunk, Layout, Stream

BINS = 2048
SMALLEST = -126  # exponent of the width of a bin while only zeros were seen


@dataclass(frozen=True)
class Seen:
    """What one run of the augmented graph says; a row an image, columns as in `fqbench.quant.layout.Layout`."""

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
        self._prepare_bins()

    def fold(self, seen: Seen, groups: NDArray[np.int64]) -> None:
        """Fold a batch in.

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
            self._fold_group(seen if mine.all() else seen.of(mine), int(group))

    def extremes(self, seen: Seen) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return each image's lowest and highest value of each tensor, both (images, tensors)."""
        layout = self.layout
        high = np.maximum.reduceat(seen.maxima, layout.maxima.start[:-1], axis=1)
        low = np.zeros_like(high)
        if len(layout.signed):
            low[:, layout.signed] = np.minimum.reduceat(seen.minima, layout.minima.start[layout.signed], axis=1)
        return low, high

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return all that `restore` needs, by name."""
        return {name: getattr(self, name) for name in self.STATE}

    def restore(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Go on from a kept state."""
        for name in self.STATE:
            setattr(self, name, np.array(state[name]))
        self._prepare_bins()

    def _fold_group(self, seen: Seen, group: int) -> None:
        layout = self.layout
        # An extreme at zero or at the bound of a Clip is one of many equals: those are left to the sample.
        high = np.where(
            (seen.maxima != 0) & (seen.maxima != layout.ceiling) & layout.maxima.counts, seen.maxima, np.nan
        )
        low = np.where((seen.minima != 0) & layout.minima.counts, seen.minima, np.nan)
        for stream, values in ((layout.maxima, high), (layout.minima, low)):
            for chunk in stream.chunks:
                part = values[:, chunk.columns]
                self._count(part, chunk, stream, np.isnan(part), group)
        low = np.concatenate([low, np.full((len(low), 1), np.nan, np.float32)], axis=1)
        for chunk in layout.sample.chunks:
            part, columns = seen.sample[:, chunk.columns], chunk.columns
            # What is the extreme of its set has been counted as such, once: it is not one of those the sample is for.
            counted = part == high[:, layout.largest[columns]]
            counted |= part == low[:, layout.smallest[columns]]
            self._count(part, chunk, layout.sample, counted, group)
        if len(self.channel_sum):
            sums = seen.sample.sum(axis=0, dtype=np.float64)
            sums *= layout.share
            means = np.bincount(self._channel, weights=sums, minlength=len(self.channel_sum) + 1)
            self.channel_sum[:, group] += means[:-1]

    def _count(
        self, values: NDArray[np.float32], chunk: Chunk, stream: Stream, left_out: NDArray[np.bool_], group: int
    ) -> None:
        """Count values into their bins; two more a slot are for exact zeros and for what is left out."""
        tensor = stream.tensor[chunk.columns]
        with np.errstate(invalid="ignore"):
            index = np.multiply(values, self._scale[tensor])
            np.floor(index, out=index)  # before the shift, which would round a tiny negative value up to zero
            index -= self._offset[tensor]
            bins = index.astype(np.int64)
        np.copyto(bins, self.bins, where=values == 0)
        np.copyto(bins, self.bins + 1, where=left_out)
        bins += chunk.base * (self.bins + 2)
        shape = (len(chunk.weight), self.bins + 2)
        counted = np.bincount(bins.ravel(), minlength=math.prod(shape)).reshape(shape) * chunk.weight
        merged = np.add.reduceat(counted, chunk.starts, axis=0)
        self.counts[chunk.tensors, group] += merged[:, : self.bins]
        self.zeros[chunk.tensors, group] += merged[:, self.bins]

    def _prepare_bins(self) -> None:
        self._scale = np.ldexp(np.float32(1), -self.exponent).astype(np.float32)
        self._offset = self.first.astype(np.float32)

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
        self._prepare_bins()

    def _regrid(self, tensor: int, exponent: int, first: int) -> None:
        old = self.counts[tensor]
        filled = np.flatnonzero(old.any(axis=0))
        absolute = (filled + self.first[tensor]) >> min(exponent - int(self.exponent[tensor]), 62)
        moved = np.zeros_like(old.T)
        np.add.at(moved, absolute - first, old[:, filled].T)
        self.counts[tensor] = moved.T
        self.exponent[tensor], self.first[tensor] = exponent, first


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
