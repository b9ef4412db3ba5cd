"""Rounding that minimizes the error of a layer's outputs, not of its weights: for 4 and 2 bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.quant.weights import levels_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

DAMPING = 0.01  # share of the mean diagonal that is added to it, as the paper has it
LEAF = 16  # columns that are gone through one by one; what they change in later ones is a matrix product
SWEEPS = 2
FITS = 3


def round_rows(
    rows: NDArray[np.float32],
    scale: NDArray[np.float32],
    bits: int,
    moments: Sequence[NDArray[np.float64]] | None = None,
) -> NDArray[np.int8]:
    r"""Round weights to integers so that the layer's outputs change little on the inputs that `moments` describe.

    Minimises, for each row separately, :math:`(w - s q) H (w - s q)^T` over the integers q, with H the second moments
    of the inputs: the mean squared change of the output. Columns are rounded one after the other, and the error of
    each is made good by those that are still to be rounded [1]_; then each integer is moved to the best value given
    all others, `SWEEPS` times [2]_. The error on `moments` is never larger than that of rounding to nearest: a row
    for which it would be is rounded to nearest.

    Parameters
    ----------
    rows : ndarray of float32, shape (channels, n)
        Weights, one output channel per row.
    scale : ndarray of float32, shape (channels,)
        Scale of each row.
    bits : int
        Integers are from ``-2**(bits-1)`` to ``2**(bits-1) - 1``.
    moments : sequence of ndarray, shape (convolution groups, n_i, n_i), optional
        Second moments of the inputs, block after block along the rows (`fqbench.quant.moments`). Moments between
        blocks count as zero. Rounding is to nearest where there are none, and for a convolution group whose moments
        are all zero or not finite.

    Returns
    -------
    ndarray of int8, shape (channels, n)
        The integers.

    References
    ----------
    .. [1] E. Frantar et al., "GPTQ: Accurate post-training quantization for generative pre-trained transformers",
       ICLR 2023, algorithm 1; columns with large moments first.
    .. [2] K. Behdin et al., "QuantEase: Optimization-based quantization for language models", 2023, section 3.
    """
    if not moments:
        return levels_of(rows, scale, bits)
    return _by_row([block.rounded(scale) for block in _blocks(rows, bits, moments)])


def fit_rows(
    rows: NDArray[np.float32],
    scale: NDArray[np.float32],
    bits: int,
    moments: Sequence[NDArray[np.float64]] | None = None,
    rounds: int = FITS,
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    r"""Round weights as `round_rows` does, and fit the scale of each row to its integers, in turn.

    With integers q and weights w, the scale that keeps the outputs best is :math:`w H q^T / q H q^T`. New scales
    and integers are kept for the rows for which they lower the error on `moments`.

    Parameters
    ----------
    rows, scale, bits, moments
        As for `round_rows`; `scale` is where the search begins.
    rounds : int
        How often a scale is fitted and the row rounded again.

    Returns
    -------
    levels : ndarray of int8, shape (channels, n)
        The integers.
    scale : ndarray of float32, shape (channels,)
        Their scales; `scale` itself where there are no moments.
    """
    if not moments:
        return levels_of(rows, scale, bits), scale
    blocks = _blocks(rows, bits, moments)
    kept = [block.rounded(scale) for block in blocks]
    first, fitted, error = _by_row(kept), scale, _total_error(blocks, scale, kept)
    for _ in range(rounds):
        tried = _fitted(blocks, fitted, kept)
        found = _total_error(blocks, tried, kept)
        moved = blocks[0].together(np.flatnonzero(found < error))  # other rows would be rounded as before
        if not moved.size:
            break
        fitted, error = np.where(found < error, tried, fitted), np.fmin(found, error)
        parts = [block.at(moved) for block in blocks]
        again = [part.rounded(fitted[moved]) for part in parts]
        found = _total_error(parts, fitted[moved], again)
        better = np.flatnonzero(found < error[moved])
        if not better.size:
            break
        error[moved[better]] = found[better]
        for mine, other in zip(kept, again, strict=True):
            mine.put(moved[better], other, better)
    levels = _by_row(kept)
    # The errors above are differences of products; what is kept has to be better by the plain formula, too.
    gained = output_error(rows, fitted, levels, moments) < output_error(rows, scale, first, moments)
    return np.where(gained[:, None], levels, first), np.where(gained, fitted, scale)


def output_error(
    rows: NDArray[np.float32],
    scale: NDArray[np.float32],
    levels: NDArray[np.int8],
    moments: Sequence[NDArray[np.float64]],
) -> NDArray[np.float64]:
    """Return the mean squared change of each row's output on the inputs that `moments` describe.

    Parameters
    ----------
    rows, scale, moments
        As for `round_rows`.
    levels : ndarray of int8, shape (channels, n)
        The integers.

    Returns
    -------
    ndarray of float64, shape (channels,)
        0 is ideal.
    """
    change = levels.astype(np.float64) * scale[:, None] - rows.astype(np.float64)
    total, start = np.zeros(len(rows)), 0
    for block in moments:
        end = start + block.shape[-1]
        mine = change[:, start:end].reshape(len(block), len(rows) // len(block), -1)
        total += np.einsum("gri,gri->gr", mine @ block, mine).reshape(-1)
        start = end
    return total


@dataclass(frozen=True)
class _Rounding:
    """Integers of a block and the moments times them: (convolution groups, columns, rows of a group)."""

    levels: NDArray[np.float64]
    through: NDArray[np.float64]

    def put(self, rows: NDArray[np.intp], other: _Rounding, theirs: NDArray[np.intp]) -> None:
        """Overwrite some rows with rows of another rounding."""
        (own, place), (own_there, place_there) = (
            np.divmod(numbers, one.levels.shape[2]) for numbers, one in ((rows, self), (theirs, other))
        )
        self.levels[own, :, place] = other.levels[own_there, :, place_there]
        self.through[own, :, place] = other.through[own_there, :, place_there]


@dataclass(frozen=True)
class _Block:
    """Some columns of all rows; the convolution groups are solved in parallel.

    Columns come before rows, so that what is done to one column for all rows is contiguous in memory.

    Attributes
    ----------
    rows : ndarray of float32, shape (channels, n)
        The weights.
    bits : int
        Of the integers.
    moments : ndarray, shape (convolution groups, n, n)
        All zero for a group whose moments are not finite.
    weights, through : ndarray, shape (convolution groups, n, rows of a group)
        The weights once more, and the moments times them.
    order : ndarray of int64, shape (convolution groups, n)
        Columns with large moments first.
    feedback : ndarray or None, shape (convolution groups, n, n)
        What the error of a column, in this order, asks of later ones; None where the moments are not positive
        semidefinite by more than the damping.
    """

    rows: NDArray[np.float32]
    bits: int
    moments: NDArray[np.float64]
    weights: NDArray[np.float64]
    through: NDArray[np.float64]
    order: NDArray[np.intp]
    feedback: NDArray[np.float64] | None

    @classmethod
    def of(cls, rows: NDArray[np.float32], bits: int, given: NDArray[np.float64]) -> _Block:
        usable = np.isfinite(given).all(axis=(1, 2), keepdims=True)
        moments: NDArray[np.float64] = np.where(usable, given, 0.0).astype(np.float64)
        weights = _columns_first(rows, len(moments))
        order = np.argsort(-np.einsum("gii->gi", moments), axis=1, kind="stable")
        return cls(rows, bits, moments, weights, moments @ weights, order, _feedback(moments, order))

    def together(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Add the rows that can only be rounded together with these: those of the same convolution groups."""
        groups, _columns, size = self.weights.shape
        if groups == 1:
            return rows
        whole: NDArray[np.intp] = (np.unique(rows // size)[:, None] * size + np.arange(size)).reshape(-1)
        return whole

    def at(self, rows: NDArray[np.intp]) -> _Block:
        """Return the block of these rows, which are as `together` gives them."""
        groups, _columns, size = self.weights.shape
        if groups == 1:
            return replace(self, rows=self.rows[rows], weights=self.weights[..., rows], through=self.through[..., rows])
        own = np.unique(rows // size)
        return replace(
            self,
            rows=self.rows[rows],
            moments=self.moments[own],
            weights=self.weights[own],
            through=self.through[own],
            order=self.order[own],
            feedback=None if self.feedback is None else self.feedback[own],
        )

    def rounded(self, scale: NDArray[np.float32]) -> _Rounding:
        """Return integers that are never worse than the nearest ones, row by row."""
        units = scale.astype(np.float64).reshape(len(self.moments), 1, -1)
        nearest = self._rounding(_columns_first(levels_of(self.rows, scale, self.bits), len(self.moments)))
        found = nearest if self.feedback is None else self._rounding(self._fed_back(units, self.feedback))
        for _ in range(SWEEPS):
            found = self._rounding(self._swept(found, units))
        better = (self.error(scale, found) < self.error(scale, nearest)).reshape(units.shape)
        return _Rounding(
            np.where(better, found.levels, nearest.levels), np.where(better, found.through, nearest.through)
        )

    def error(self, scale: NDArray[np.float32], given: _Rounding) -> NDArray[np.float64]:
        """Return the mean squared change of each row's output."""
        units = scale.astype(np.float64).reshape(len(self.moments), 1, -1)
        change = given.levels * units - self.weights
        through = given.through * units - self.through
        error: NDArray[np.float64] = np.einsum("gir,gir->gr", change, through).reshape(-1)
        return error

    def _rounding(self, levels: NDArray[np.float64]) -> _Rounding:
        return _Rounding(levels, self.moments @ levels)

    def _fed_back(self, units: NDArray[np.float64], feedback: NDArray[np.float64]) -> NDArray[np.float64]:
        """Round column by column; later columns compensate for the error of earlier ones."""
        weights = np.take_along_axis(self.weights, self.order[:, :, None], axis=1)
        levels, errors = np.empty_like(weights), np.empty_like(weights)

        def leaf(start: int, end: int) -> None:
            for column in range(start, end):
                levels[:, column] = self._clipped(weights[:, column] / units[:, 0])
                off = weights[:, column] - levels[:, column] * units[:, 0]
                off /= feedback[:, column, column, None]
                weights[:, column + 1 : end] -= feedback[:, column, column + 1 : end, None] * off[:, None]
                errors[:, column] = off

        def spread(start: int, middle: int, end: int) -> None:
            later = np.swapaxes(feedback[:, start:middle, middle:end], 1, 2)
            weights[:, middle:end] -= later @ errors[:, start:middle]

        _in_turn(0, weights.shape[1], leaf, spread)
        back = np.empty_like(levels)
        np.put_along_axis(back, np.broadcast_to(self.order[:, :, None], back.shape), levels, axis=1)
        return back

    def _swept(self, given: _Rounding, units: NDArray[np.float64]) -> NDArray[np.float64]:
        """Move each integer once to its best value, given all others."""
        levels = given.levels.copy()
        slope = given.through * units - self.through
        moves = np.empty_like(slope)
        own = np.einsum("gii->gi", self.moments)
        own = np.where(own > 0, own, np.inf)

        def leaf(start: int, end: int) -> None:
            for column in range(start, end):
                wanted = slope[:, column] / (own[:, column, None] * units[:, 0])
                moved = self._clipped(levels[:, column] - wanted)
                step = (moved - levels[:, column]) * units[:, 0]
                levels[:, column], moves[:, column] = moved, step
                slope[:, column + 1 : end] += self.moments[:, column + 1 : end, column, None] * step[:, None]

        def spread(start: int, middle: int, end: int) -> None:
            slope[:, middle:end] += self.moments[:, middle:end, start:middle] @ moves[:, start:middle]

        _in_turn(0, levels.shape[1], leaf, spread)
        return levels

    def _clipped(self, levels: NDArray[np.float64]) -> NDArray[np.float64]:
        half = 2 ** (self.bits - 1)
        clipped: NDArray[np.float64] = np.maximum(np.minimum(np.rint(levels), half - 1), -half)
        return clipped


def _blocks(rows: NDArray[np.float32], bits: int, moments: Sequence[NDArray[np.float64]]) -> list[_Block]:
    ends = np.cumsum([block.shape[-1] for block in moments])
    if ends[-1] != rows.shape[1]:
        raise ValueError(f"the moments describe {ends[-1]} inputs, and the weights have {rows.shape[1]}")
    parts = np.split(rows, ends[:-1], axis=1)
    return [_Block.of(part, bits, np.asarray(block)) for part, block in zip(parts, moments, strict=True)]


def _feedback(moments: NDArray[np.float64], order: NDArray[np.intp]) -> NDArray[np.float64] | None:
    """Return the upper Cholesky factors of the inverses of the ordered, damped moments."""
    ordered = np.take_along_axis(moments, order[:, :, None], axis=1)
    ordered = np.take_along_axis(ordered, order[:, None, :], axis=2)
    diagonal = np.einsum("gii->gi", ordered)  # a view that can be written to
    diagonal += np.maximum(DAMPING * diagonal.mean(axis=1, keepdims=True), 1e-30)
    try:
        factors: NDArray[np.float64] = np.swapaxes(np.linalg.cholesky(np.linalg.inv(ordered)), 1, 2)
    except np.linalg.LinAlgError:
        return None
    return np.ascontiguousarray(factors)


def _in_turn(start: int, end: int, leaf: Callable[[int, int], None], spread: Callable[[int, int, int], None]) -> None:
    """Go through columns from ``start`` to ``end``: ``leaf`` on a few, ``spread`` from one half to the other."""
    if end - start <= LEAF:
        leaf(start, end)
        return
    middle = (start + end) // 2
    _in_turn(start, middle, leaf, spread)
    spread(start, middle, end)
    _in_turn(middle, end, leaf, spread)


def _columns_first(rows: NDArray[Any], groups: int) -> NDArray[np.float64]:
    """Bring (channels, n) to (convolution groups, n, rows of a group)."""
    grouped = rows.reshape(groups, len(rows) // groups, -1)
    return np.ascontiguousarray(np.swapaxes(grouped, 1, 2), dtype=np.float64)


def _by_row(blocks: Sequence[_Rounding]) -> NDArray[np.int8]:
    """Bring the integers of all blocks back to (channels, n)."""
    parts = [np.swapaxes(block.levels, 1, 2) for block in blocks]
    return np.concatenate([part.reshape(-1, part.shape[2]) for part in parts], axis=1).astype(np.int8)


def _total_error(
    blocks: Sequence[_Block], scale: NDArray[np.float32], given: Sequence[_Rounding]
) -> NDArray[np.float64]:
    errors = [block.error(scale, one) for block, one in zip(blocks, given, strict=True)]
    total: NDArray[np.float64] = np.sum(errors, axis=0)
    return total


def _fitted(blocks: Sequence[_Block], scale: NDArray[np.float32], given: Sequence[_Rounding]) -> NDArray[np.float32]:
    """Return the best scales of given integers; the old one where it would be none, or not positive."""
    power, along = np.zeros(len(scale)), np.zeros(len(scale))
    for block, one in zip(blocks, given, strict=True):
        power += np.einsum("gir,gir->gr", one.levels, one.through).reshape(-1)
        along += np.einsum("gir,gir->gr", block.weights, one.through).reshape(-1)
    least, most = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
    usable = np.isfinite(power) & (power > 0) & (along > power * least) & (along < power * most)
    fitted = scale.astype(np.float64)
    np.divide(along, power, out=fitted, where=usable)
    single: NDArray[np.float32] = fitted.astype(np.float32)
    return single
