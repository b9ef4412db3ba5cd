"""How one row of the augmented graph's outputs is laid out: which column is what, and how many values it stands for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fqbench.quant.activations import Activation

CHUNK = 1 << 15  # columns counted at a time, so that what is counted stays in the CPU's caches


@dataclass(frozen=True)
class Chunk:
    """Columns of some neighbouring tensors, which are counted together.

    Attributes
    ----------
    columns, tensors : slice
        Which.
    base : ndarray of int, shape (columns,)
        Number of each column's slot, from 0.
    weight : ndarray, shape (slots, 1)
        How many values of the tensor one value of each slot stands for.
    starts : ndarray of int
        First slot of each tensor.
    """

    columns: slice
    tensors: slice
    base: NDArray[np.int64]
    weight: NDArray[np.float64]
    starts: NDArray[np.int64]


@dataclass(frozen=True)
class Stream:
    """The columns of one output.

    Attributes
    ----------
    start : ndarray of int, shape (tensors + 1,)
        First column of each tensor, then the number of columns; a tensor that is not in this output has none.
    slot : ndarray of int, shape (columns,)
        Columns of one slot stand for the same number of values.
    slot_tensor, slot_weight : ndarray, shape (slots,)
        Its tensor, and that number.
    """

    start: NDArray[np.int64]
    slot: NDArray[np.int64]
    slot_tensor: NDArray[np.int64]
    slot_weight: NDArray[np.float64]

    @cached_property
    def tensor(self) -> NDArray[np.int64]:
        """Tensor of each column."""
        return self.slot_tensor[self.slot]

    @cached_property
    def weight(self) -> NDArray[np.float64]:
        """How many values each column stands for."""
        return self.slot_weight[self.slot]

    @cached_property
    def counts(self) -> NDArray[np.bool_]:
        """Whether each column counts: those of slots without weight do not."""
        return self.weight > 0

    @cached_property
    def chunks(self) -> list[Chunk]:
        """All columns that count, a part at a time; those of slots without weight are left out."""
        found, first, tensors = [], 0, len(self.start) - 1
        counts = np.zeros(tensors, dtype=bool)
        counts[self.slot_tensor[self.slot_weight > 0]] = True
        while first < tensors:
            end = first + 1
            if counts[first]:
                while end < tensors and counts[end] and self.start[end + 1] - self.start[first] <= CHUNK:
                    end += 1
                found.append(self._chunk(first, end))
            first = end
        return found

    def _chunk(self, first: int, end: int) -> Chunk:
        columns = slice(int(self.start[first]), int(self.start[end]))
        slots = np.flatnonzero((self.slot_tensor >= first) & (self.slot_tensor < end))
        starts = np.flatnonzero(np.diff(self.slot_tensor[slots], prepend=-1))
        return Chunk(columns, slice(first, end), self.slot[columns] - slots[0], self.slot_weight[slots, None], starts)


@dataclass(frozen=True)
class Layout:
    """All columns of the three outputs.

    A strided sample of a map meets its border too often (row 0 is always among the rows taken), so its columns are
    counted in three strata, inner, edge and corner, and each is given the share that it has in the whole map.

    Attributes
    ----------
    tensors : int
        Number of tensors.
    sample, maxima, minima : Stream
        The three outputs; extremes count as one value each, and not at all where the sample is complete.
    signed : ndarray of int
        The tensors that minima are given of.
    largest, smallest : ndarray of int, shape (columns of the sample,)
        Column of the maxima, and of the minima, that belongs to the set that a sampled value is in; for a tensor
        without minima, the column after the last.
    ceiling : ndarray of float32, shape (columns of the maxima,)
        Upper bound of the Clip that a maximum comes from; infinite where there is none.
    channel : ndarray of int, shape (columns of the sample,)
        Channel of each column, counted over all tensors; -1 where nobody asks for its mean.
    channel_start : ndarray of int, shape (tensors + 1,)
        First channel of each tensor; a tensor whose channels nobody asks for has none.
    """

    tensors: int
    sample: Stream
    maxima: Stream
    minima: Stream
    signed: NDArray[np.int64]
    largest: NDArray[np.int64]
    smallest: NDArray[np.int64]
    ceiling: NDArray[np.float32]
    channel: NDArray[np.int64]
    channel_start: NDArray[np.int64]

    @cached_property
    def share(self) -> NDArray[np.float64]:
        """Share of each column of the sample in the mean of its channel."""
        wanted = self.channel >= 0
        share = np.zeros(len(self.channel))
        if wanted.any():
            total = np.bincount(self.channel[wanted], weights=self.sample.weight[wanted])
            share[wanted] = self.sample.weight[wanted] / total[self.channel[wanted]]
        return share

    @classmethod
    def of(cls, observed: tuple[Activation, ...]) -> Layout:
        """Lay out the columns of these activations."""
        signed = np.array([n for n, activation in enumerate(observed) if not activation.non_negative], dtype=np.int64)
        maxima = _extremes(observed, np.arange(len(observed)))
        minima = _extremes(observed, signed)
        channels = [_channels(activation) for activation in observed]
        channel_start = np.concatenate([[0], np.cumsum([count for count, _ids in channels])]).astype(np.int64)
        sets = [activation.sampled(activation.set_of_each()) for activation in observed]
        with_minima, none = set(signed.tolist()), int(minima.start[-1])
        return cls(
            tensors=len(observed),
            sample=_sample(observed),
            maxima=maxima,
            minima=minima,
            signed=signed,
            largest=np.concatenate([ids + maxima.start[n] for n, ids in enumerate(sets)]),
            smallest=np.concatenate(
                [ids + minima.start[n] if n in with_minima else np.full(len(ids), none) for n, ids in enumerate(sets)]
            ),
            ceiling=np.concatenate(
                [np.full(a.sets, np.inf if a.ceiling is None else a.ceiling, np.float32) for a in observed]
            ),
            channel=np.concatenate(
                [
                    ids + start if count else ids
                    for (count, ids), start in zip(channels, channel_start[:-1], strict=True)
                ]
            ),
            channel_start=channel_start,
        )


def _sample(observed: tuple[Activation, ...]) -> Stream:
    slots, tensors = [], []
    weights: list[float] = []
    for number, activation in enumerate(observed):
        stratum, stratum_weights = _strata(activation)
        slots.append(stratum + len(weights))
        tensors += [number] * len(stratum_weights)
        weights += stratum_weights
    start = np.cumsum([0, *(len(slot) for slot in slots)])
    return Stream(start, np.concatenate(slots), np.array(tensors, dtype=np.int64), np.array(weights))


def _extremes(observed: tuple[Activation, ...], tensors: NDArray[np.int64]) -> Stream:
    sizes = np.zeros(len(observed), dtype=np.int64)
    sizes[tensors] = [observed[number].sets for number in tensors]
    weight = [0.0 if observed[number].complete else 1.0 for number in tensors]
    slot = np.repeat(np.arange(len(tensors)), sizes[tensors])
    return Stream(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64), slot, tensors, np.array(weight))


def _strata(activation: Activation) -> tuple[NDArray[np.int64], list[float]]:
    """Return the stratum of each sampled value, and how many values one of each stratum stands for."""
    stratum = np.zeros(activation.shape, dtype=np.int64)
    wanted = [1.0]
    if activation.pixels > 1:
        rows, columns = activation.shape[1:]
        at_row, at_column = (np.isin(np.arange(size), [0, size - 1]).astype(np.int64) for size in (rows, columns))
        stratum += at_row[:, None] + at_column[None, :]
        row_share, column_share = at_row.mean(), at_column.mean()
        both = float(row_share * column_share)
        wanted = [float((1 - row_share) * (1 - column_share)), float(row_share + column_share) - 2 * both, both]
    sampled = activation.sampled(stratum)
    taken = np.bincount(sampled, minlength=len(wanted)).astype(np.float64)
    present = taken > 0
    share = np.where(present, wanted, 0.0)
    share /= share.sum()  # a stratum that the stride misses (no inner pixel in a tiny map) is left to the others
    total = float(np.prod(activation.shape))
    weights = np.divide(share * total, taken, out=np.zeros_like(share), where=present)
    return sampled, [float(weight) for weight in weights]


def _channels(activation: Activation) -> tuple[int, NDArray[np.int64]]:
    """Return the number of channels whose means are kept, and the channel of each sampled value, -1 for none."""
    axis = activation.channel_axis
    if axis is not None:
        channels = activation.shape[axis]
        ids = np.arange(channels).reshape([-1 if a == axis else 1 for a in range(len(activation.shape))])
        sampled = activation.sampled(np.broadcast_to(ids, activation.shape))
        if len(np.unique(sampled)) == channels:
            return channels, sampled
    return 0, np.full(len(activation.sampled(np.zeros(activation.shape, dtype=np.int64))), -1)
