"""Squared quantization error from histograms, and the range that minimizes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fqbench.contracts.numerics import IntegerFormat

ONE_SIDED = 128  # candidates of the first pass for ranges with one free end
TWO_SIDED = 24  # along each end, for ranges with two
FINER = 5  # candidates along each end of a later pass
PASSES = 6
COARSER = 4  # bins merged for the first passes
LEADING = 32  # candidates of the first pass that are looked at with all bins: merged ones may mislead
CHUNK = 1 << 22  # values of the error matrix at a time


@dataclass(frozen=True)
class GroupHistograms:
    """Histograms of some groups of some tensors.

    Attributes
    ----------
    edges : ndarray, shape (tensors, bins + 1)
        Edges of the bins; values are taken as evenly spread inside their bin, and the error is integrated over it
        (at the middles alone, scales that are a multiple of the width would look better than they are).
    counts : ndarray, shape (tensors, groups, bins)
        Without exact zeros, which have no error.
    totals : ndarray, shape (tensors, groups)
        With exact zeros.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.float64]
    totals: NDArray[np.float64]

    def of(self, tensors: NDArray[np.bool_]) -> GroupHistograms:
        """Return those of some tensors."""
        return GroupHistograms(self.edges[tensors], self.counts[tensors], self.totals[tensors])

    def coarser(self, factor: int) -> GroupHistograms:
        """Return the same with ``factor`` neighbouring bins merged, where their number allows it."""
        tensors, groups, bins = self.counts.shape
        if bins % factor:
            return self
        merged = self.counts.reshape(tensors, groups, bins // factor, factor).sum(axis=3)
        return GroupHistograms(self.edges[:, ::factor], merged, self.totals)

    def errors(self, ranges: NDArray[np.float64], quantizer: IntegerFormat) -> NDArray[np.float64]:
        """Return the mean squared quantization error of each group of each tensor, for several ranges.

        Parameters
        ----------
        ranges : ndarray, shape (tensors, candidates, 2)
            Ranges to try.
        quantizer : IntegerFormat
            Bits and symmetry.

        Returns
        -------
        ndarray, shape (tensors, candidates, groups)
        """
        scale, lowest, highest = quantizer.grid(ranges[..., 0], ranges[..., 1])
        tensors, candidates = scale.shape
        groups, bins = self.counts.shape[1:]
        errors = np.empty((tensors, candidates, groups))
        at_once = max(1, CHUNK // (candidates * bins))
        for start in range(0, tensors, at_once):
            part = slice(start, start + at_once)
            edges, step = self.edges[part, None, :], scale[part, :, None]
            at = edges / step
            level = np.rint(at)
            np.clip(level, lowest[part, :, None], highest[part, :, None], out=level)
            at -= level
            # The integral of the squared error up to each edge, in steps: a whole level has 1/12, the rest a cube.
            integral = at * at
            integral *= at
            integral /= 3
            level /= 12
            integral += level
            per_bin = np.diff(integral, axis=2)
            per_bin *= step**3 / (edges[:, :, 1:2] - edges[:, :, :1])
            errors[part] = per_bin @ np.swapaxes(self.counts[part], 1, 2)
        totals = self.totals[:, None, :]
        return np.divide(errors, totals, out=np.zeros_like(errors), where=totals > 0)


def mse_range(
    seen: GroupHistograms,
    extremes: NDArray[np.float64],
    quantizer: IntegerFormat,
    others: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Return, per tensor, the range that minimizes the largest error over the groups.

    A grid of ranges inside the extremes first, then finer ones around the best; with one group this is the least mean
    squared error, with several it is minimax.

    Parameters
    ----------
    seen : GroupHistograms
        What was observed.
    extremes : ndarray, shape (tensors, 2)
        The lowest and the highest value.
    quantizer : IntegerFormat
        Bits and symmetry.
    others : ndarray, shape (tensors, n, 2), optional
        More ranges to consider: the result is not worse than any of them.

    Returns
    -------
    ndarray, shape (tensors, 2)
    """
    one_ended = np.full(len(extremes), quantizer.symmetric) | (extremes[:, 0] >= 0) | (extremes[:, 1] <= 0)
    found = np.empty_like(extremes)
    for mask, shares in ((one_ended, _line()), (~one_ended, _square())):
        if mask.any():
            more = None if others is None else others[mask]
            found[mask] = _Search(seen.of(mask), extremes[mask], quantizer, more).run(shares)
    if quantizer.symmetric:
        largest = np.abs(found).max(axis=1)
        found = np.stack([-largest, largest], axis=1)
    return found


def _line() -> NDArray[np.float64]:
    share = np.arange(1, ONE_SIDED + 1) / ONE_SIDED
    return np.stack([share, share], axis=1)


def _square() -> NDArray[np.float64]:
    share = np.arange(1, TWO_SIDED + 1) / TWO_SIDED
    return np.stack(np.meshgrid(share, share, indexing="ij"), axis=-1).reshape(-1, 2)


@dataclass(frozen=True)
class _Search:
    seen: GroupHistograms
    extremes: NDArray[np.float64]
    quantizer: IntegerFormat
    others: NDArray[np.float64] | None

    def run(self, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """Search from these shares of the extremes, (candidates, 2)."""
        line = bool((shares[:, 0] == shares[:, 1]).all())
        rough = replace(self, seen=self.seen.coarser(COARSER))
        leading = rough.leading(self.extremes[:, None, :] * shares)
        known = [leading, self.extremes[:, None, :], *([] if self.others is None else [self.others])]
        if not line:
            best, _error = self.best(leading)
            best, _error = rough.along_each_end(*rough.best(best[:, None, :]))
            known.insert(0, best[:, None, :])
        best, error = self.best(np.concatenate(known, axis=1))
        reach = 1 / (ONE_SIDED if line else TWO_SIDED)
        offsets = np.linspace(-1, 1, FINER)
        ends = [offsets, offsets] if line else np.meshgrid(offsets, offsets, indexing="ij")
        around = np.stack(ends, axis=-1).reshape(-1, 2)
        for _ in range(PASSES):
            moved = best[:, None, :] + reach * around * self.extremes[:, None, :]
            best, error = self.better(best, error, self._inside(moved))
            reach /= 2
        return best

    def leading(self, candidates: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the candidates with the least errors of the worst group, per tensor: (tensors, `LEADING`, 2)."""
        worst = self.seen.errors(candidates, self.quantizer).max(axis=2)
        order = np.argsort(worst, axis=1, kind="stable")[:, :LEADING]
        return np.take_along_axis(candidates, order[..., None], axis=1)

    def along_each_end(
        self, best: NDArray[np.float64], error: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Scan one end over all values while the other is fixed, since outliers cause distant local minima."""
        for end in (0, 1, 0, 1):
            candidates = np.repeat(best[:, None, :], ONE_SIDED, axis=1)
            candidates[:, :, end] = self.extremes[:, None, end] * (np.arange(1, ONE_SIDED + 1) / ONE_SIDED)
            best, error = self.better(best, error, candidates)
        return best, error

    def better(
        self, best: NDArray[np.float64], error: NDArray[np.float64], candidates: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the best so far, or a candidate (tensors, candidates, 2) that is better, and its error."""
        now, now_error = self.best(candidates)
        improved = now_error < error
        return np.where(improved[:, None], now, best), np.where(improved, now_error, error)

    def best(self, candidates: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the candidate with the least error of the worst group, per tensor, and that error."""
        worst = self.seen.errors(candidates, self.quantizer).max(axis=2)
        index, rows = worst.argmin(axis=1), np.arange(len(worst))
        return candidates[rows, index], worst[rows, index]

    def _inside(self, candidates: NDArray[np.float64]) -> NDArray[np.float64]:
        """Keep the ends between zero and the extremes."""
        ends = self.extremes[:, None, :]
        return np.clip(candidates, np.minimum(ends, 0), np.maximum(ends, 0))
