"""Histograms per (tensor, group) whose range grows as values come, in memory that does not depend on how many."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fqbench.quant.graph import Activation

BINS = 2048
CHUNK = 1 << 15
SMALLEST = -126  # exponent of the width of a bin while only zeros were seen


@dataclass(frozen=True)
class Columns:
    """How one row of the augmented graph's outputs is laid out: which column belongs to what.

    A strided sample of a map meets its border too often (row 0 is always among the rows taken), so its columns are
    counted in three strata, inner, edge and corner, and each is given the share that it has in the whole map.

    Attributes
    ----------
    tensors : int
        Number of tensors.
    maxima_starts : ndarray of int, shape (tensors,)
        First column of each tensor among the maxima.
    signed : ndarray of int
        The tensors that minima are given of, in their order.
    slot : ndarray of int, shape (columns,)
        Stratum of each column of the sample.
    slot_tensor, slot_weight : ndarray, shape (slots,)
        Its tensor, and how many values of the tensor one of its values stands for.
    tensor_start : ndarray of int, shape (tensors + 1,)
        First column of each tensor among the sample, then the number of columns.
    channel : ndarray of int, shape (columns,)
        Channel of each column, counted over all tensors.
    channel_start : ndarray of int, shape (tensors + 1,)
        First channel of each tensor; a tensor whose channels nobody asks for has none.
    """

    tensors: int
    maxima_starts: NDArray[np.int64]
    signed: NDArray[np.int64]
    slot: NDArray[np.int64]
    slot_tensor: NDArray[np.int64]
    slot_weight: NDArray[np.float64]
    tensor_start: NDArray[np.int64]
    channel: NDArray[np.int64]
    channel_start: NDArray[np.int64]

    @cached_property
    def tensor(self) -> NDArray[np.int64]:
        """Tensor of each column of the sample."""
        return self.slot_tensor[self.slot]

    @cached_property
    def weight(self) -> NDArray[np.float64]:
        """How many values each column of the sample stands for."""
        return self.slot_weight[self.slot]

    @cached_property
    def share(self) -> NDArray[np.float64]:
        """Share of each column in the mean of its channel."""
        wanted = self.channel >= 0
        total = np.bincount(self.channel[wanted], weights=self.weight[wanted])
        share = np.zeros(len(self.slot))
        share[wanted] = self.weight[wanted] / total[self.channel[wanted]]
        return share

    @classmethod
    def of(cls, observed: tuple[Activation, ...]) -> Columns:
        """Lay out the columns of these activations."""
        slots, channels = [], []
        slot_tensor: list[int] = []
        slot_weight: list[float] = []
        channel_start, tensor_start = [0], [0]
        for number, activation in enumerate(observed):
            stratum, weights = _strata(activation)
            slots.append(stratum + len(slot_weight))
            slot_tensor += [number] * len(weights)
            slot_weight += weights
            count, ids = _channels(activation)
            channels.append(ids + channel_start[-1] if count else np.full(stratum.size, -1))
            channel_start.append(channel_start[-1] + count)
            tensor_start.append(tensor_start[-1] + stratum.size)
        maxima = np.array([activation.maxima for activation in observed])
        return cls(
            tensors=len(observed),
            maxima_starts=np.concatenate([[0], np.cumsum(maxima)[:-1]]).astype(np.int64),
            signed=np.array([n for n, a in enumerate(observed) if not a.non_negative], dtype=np.int64),
            slot=np.concatenate(slots).astype(np.int64),
            slot_tensor=np.array(slot_tensor, dtype=np.int64),
            slot_weight=np.array(slot_weight, dtype=np.float64),
            tensor_start=np.array(tensor_start, dtype=np.int64),
            channel=np.concatenate(channels).astype(np.int64),
            channel_start=np.array(channel_start, dtype=np.int64),
        )


def _strata(activation: Activation) -> tuple[NDArray[np.int64], list[float]]:
    """Return the stratum of each sampled value, and how many values one of each stratum stands for."""
    stratum = np.zeros(activation.thinned, dtype=np.int64)
    wanted = [1.0]
    if activation.pixels > 1:
        border = np.zeros(activation.thinned[1:], dtype=np.int64)
        shares = []
        for axis, (size, count) in enumerate(zip(activation.shape[1:], activation.thinned[1:], strict=True)):
            at_border = np.isin(np.arange(count) * activation.pixels, [0, size - 1])
            border += at_border[:, None] if axis == 0 else at_border[None, :]
            shares.append(min(size, 2) / size)
        stratum += border
        rows, columns = shares
        wanted = [(1 - rows) * (1 - columns), rows * (1 - columns) + columns * (1 - rows), rows * columns]
    stratum = stratum.ravel()[:: activation.step]
    taken = np.bincount(stratum, minlength=len(wanted)).astype(np.float64)
    present = taken > 0
    share = np.where(present, wanted, 0.0)
    share /= share.sum()  # a stratum that the stride misses (no inner pixel in a tiny map) is left to the others
    total = float(np.prod(activation.shape))
    weights = np.divide(share * total, taken, out=np.zeros_like(share), where=present)
    return stratum, [float(weight) for weight in weights]


def _channels(activation: Activation) -> tuple[int, NDArray[np.int64]]:
    """Return the number of channels whose means are kept, and the channel of each sampled value."""
    axis = activation.channel_axis
    if axis is None:
        return 0, np.zeros(0, dtype=np.int64)
    channels = activation.shape[axis]
    ids = np.arange(channels).reshape([-1 if a == axis else 1 for a in range(len(activation.shape))])
    sampled = np.broadcast_to(ids, activation.thinned).ravel()[:: activation.step]
    met = len(np.unique(sampled)) == channels
    return (channels, sampled) if met else (0, np.zeros(0, dtype=np.int64))


@dataclass(frozen=True)
class _Chunk:
    """Some tensors whose columns are counted at a time, so that what is counted stays in the CPU's caches."""

    columns: slice
    tensors: slice
    weight: NDArray[np.float64]
    starts: NDArray[np.int64]


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

    def __init__(self, columns: Columns, groups: int, *, bins: int = BINS) -> None:
        tensors = columns.tensors
        self.columns, self.bins = columns, bins
        self.counts = np.zeros((tensors, groups, bins))
        self.zeros = np.zeros((tensors, groups))
        self.exponent = np.full(tensors, SMALLEST, dtype=np.int64)
        self.first = np.zeros(tensors, dtype=np.int64)
        self.low = np.full((tensors, groups), np.inf, dtype=np.float32)
        self.high = np.full((tensors, groups), -np.inf, dtype=np.float32)
        self.low_sum = np.zeros((tensors, groups))
        self.high_sum = np.zeros((tensors, groups))
        self.images = np.zeros(groups, dtype=np.int64)
        self.channel_sum = np.zeros((int(columns.channel_start[-1]), groups))
        self._prepare_bins()

    def fold(
        self,
        maxima: NDArray[np.float32],
        minima: NDArray[np.float32],
        sample: NDArray[np.float32],
        groups: NDArray[np.int64],
    ) -> None:
        """Fold a batch in: one row an image, as the augmented graph gives them.

        Parameters
        ----------
        maxima, minima, sample : ndarray of float32, shape (images, columns)
            Finite values.
        groups : ndarray of int, shape (images,)
            Group of each image.
        """
        high, low = self.extremes(maxima, minima)
        self._widen(low.min(axis=0), high.max(axis=0))
        for group in np.unique(groups):
            mine = groups == group
            self.low[:, group] = np.minimum(self.low[:, group], low[mine].min(axis=0))
            self.high[:, group] = np.maximum(self.high[:, group], high[mine].max(axis=0))
            self.low_sum[:, group] += low[mine].sum(axis=0, dtype=np.float64)
            self.high_sum[:, group] += high[mine].sum(axis=0, dtype=np.float64)
            self.images[group] += int(mine.sum())
            self._count(sample if mine.all() else sample[mine], int(group))

    def extremes(
        self, maxima: NDArray[np.float32], minima: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return each image's highest and lowest value of each tensor, both (images, tensors)."""
        high = np.maximum.reduceat(maxima, self.columns.maxima_starts, axis=1)
        low = np.zeros_like(high)
        low[:, self.columns.signed] = minima
        return high, low

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return all that `restore` needs, by name."""
        return {name: getattr(self, name) for name in self.STATE}

    def restore(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Go on from a kept state."""
        for name in self.STATE:
            setattr(self, name, np.array(state[name]))
        self._prepare_bins()

    def _count(self, sample: NDArray[np.float32], group: int) -> None:
        for chunk in self._chunks:
            part = sample[:, chunk.columns]
            index = np.multiply(part, self._scale[chunk.columns])
            np.floor(index, out=index)  # before the shift, which would round a tiny negative value up to zero
            index -= self._offset[chunk.columns]
            bins = index.astype(np.int64)
            np.copyto(bins, self.bins, where=part == 0)
            bins += self._base[chunk.columns]
            shape = (len(chunk.weight), self.bins + 1)
            counted = np.bincount(bins.ravel(), minlength=math.prod(shape)).reshape(shape) * chunk.weight
            merged = np.add.reduceat(counted, chunk.starts, axis=0)
            self.counts[chunk.tensors, group] += merged[:, : self.bins]
            self.zeros[chunk.tensors, group] += merged[:, self.bins]
        if len(self.channel_sum):
            sums = sample.sum(axis=0, dtype=np.float64)
            sums *= self.columns.share
            self.channel_sum[:, group] += np.bincount(self._channel, weights=sums, minlength=len(self.channel_sum) + 1)[
                :-1
            ]

    def _prepare_bins(self) -> None:
        columns = self.columns
        tensor = columns.tensor
        self._scale = np.ldexp(np.float32(1), -self.exponent[tensor]).astype(np.float32)
        self._offset = self.first[tensor].astype(np.float32)
        self._channel = np.where(columns.channel < 0, len(self.channel_sum), columns.channel)
        self._chunks = []
        self._base = np.zeros(len(tensor), dtype=np.int64)
        start = 0
        while start < columns.tensors:
            end = start + 1
            limit = columns.tensor_start[start] + CHUNK
            while end < columns.tensors and columns.tensor_start[end + 1] <= limit:
                end += 1
            here = slice(int(columns.tensor_start[start]), int(columns.tensor_start[end]))
            slots = np.flatnonzero((columns.slot_tensor >= start) & (columns.slot_tensor < end))
            self._base[here] = (columns.slot[here] - slots[0]) * (self.bins + 1)
            starts = np.flatnonzero(np.diff(columns.slot_tensor[slots], prepend=-1))
            self._chunks.append(_Chunk(here, slice(start, end), columns.slot_weight[slots, None], starts))
            start = end

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
