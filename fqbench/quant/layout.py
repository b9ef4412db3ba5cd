"""The layout of one row of the augmented graph's outputs: columns, and how many values each stands for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fqbench.quant.activations import Activation


@dataclass(frozen=True)
class Stream:
    """The columns of one output.

    Attributes
    ----------
    start : ndarray of int, shape (tensors + 1,)
        First column of each tensor, then the number of columns; a tensor that is not in this output has none.
    """

    start: NDArray[np.int64]

    def of(self, tensor: int) -> slice:
        """Return the columns of a tensor."""
        return slice(int(self.start[tensor]), int(self.start[tensor + 1]))


@dataclass(frozen=True)
class Layout:
    """The columns of all samples, tensor after tensor, and which extremes are to be had.

    A strided sample of a map meets its border too often (row 0 is always among the rows taken), so its columns are
    counted in three strata, inner, edge and corner, and each is given the share that it has in the whole map.

    Attributes
    ----------
    tensors : int
        Number of tensors.
    sample : Stream
        The columns of each tensor.
    stratum : ndarray of int, shape (columns of the sample,)
        Stratum of each sampled value, counted from 0 for each tensor.
    strata : tuple of ndarray
        Per tensor and stratum, how many values one sampled value stands for.
    partial : ndarray of bool, shape (tensors,)
        Whether the sample leaves values out, so that the extremes of the sets have something to add.
    signed : ndarray of int
        The tensors that minima are given of.
    sets : ndarray of int, shape (columns of the sample,)
        Set that each sampled value is in, counted from 0 for each tensor.
    ceiling : ndarray of float32, shape (tensors,)
        Upper bound of a Clip; infinite where there is none.
    channel : ndarray of int, shape (columns of the sample,)
        Channel of each column, counted over all tensors; -1 where nobody asks for its mean.
    channel_start : ndarray of int, shape (tensors + 1,)
        First channel of each tensor; a tensor whose channels nobody asks for has none.
    """

    tensors: int
    sample: Stream
    stratum: NDArray[np.int64]
    strata: tuple[NDArray[np.float64], ...]
    partial: NDArray[np.bool_]
    signed: NDArray[np.int64]
    sets: NDArray[np.int64]
    ceiling: NDArray[np.float32]
    channel: NDArray[np.int64]
    channel_start: NDArray[np.int64]

    @cached_property
    def weight(self) -> NDArray[np.float64]:
        """How many values each column of the sample stands for."""
        parts = [self.strata[number][self.stratum[self.sample.of(number)]] for number in range(self.tensors)]
        return np.concatenate(parts)

    @cached_property
    def share(self) -> NDArray[np.float64]:
        """Share of each column of the sample in the mean of its channel."""
        wanted = self.channel >= 0
        share = np.zeros(len(self.channel))
        if wanted.any():
            total = np.bincount(self.channel[wanted], weights=self.weight[wanted])
            share[wanted] = self.weight[wanted] / total[self.channel[wanted]]
        return share

    @classmethod
    def of(cls, observed: tuple[Activation, ...]) -> Layout:
        """Lay out the columns of these activations."""
        signed = [not activation.non_negative for activation in observed]
        channels = [_channels(activation) for activation in observed]
        channel_start = np.concatenate([[0], np.cumsum([count for count, _ids in channels])]).astype(np.int64)
        sets = [activation.sampled(activation.set_of_each()) for activation in observed]
        strata = [_strata(activation) for activation in observed]
        return cls(
            tensors=len(observed),
            sample=_stream([len(ids) for ids in sets]),
            stratum=np.concatenate([stratum for stratum, _weights in strata]),
            strata=tuple(weights for _stratum, weights in strata),
            partial=np.array([not activation.complete for activation in observed]),
            signed=np.flatnonzero(signed),
            sets=np.concatenate(sets),
            ceiling=np.array([np.inf if a.ceiling is None else a.ceiling for a in observed], dtype=np.float32),
            channel=np.concatenate(
                [
                    ids + start if count else ids
                    for (count, ids), start in zip(channels, channel_start[:-1], strict=True)
                ]
            ),
            channel_start=channel_start,
        )


def _stream(sizes: list[int]) -> Stream:
    return Stream(np.cumsum([0, *sizes]).astype(np.int64))


def _strata(activation: Activation) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
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
    return sampled, np.divide(share * total, taken, out=np.zeros_like(share), where=present)


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
