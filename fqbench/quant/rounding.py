"""Rounding that minimizes the error of a layer's outputs, not of its weights: for 4 and 2 bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fqbench.quant.weights import levels_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

DAMPING = 0.01  # share of the mean diagonal that is added to it, as the paper has it
LAZY = 128  # columns whose errors reach the columns after them in one matrix product
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
    levels = np.empty(rows.shape, dtype=np.int8)
    start = 0
    for block in moments or [np.zeros((1, rows.shape[1], rows.shape[1]))]:
        end = start + block.shape[-1]
        levels[:, start:end] = _rounded_block(rows[:, start:end], scale, bits, np.asarray(block, dtype=np.float64))
        start = end
    if start != rows.shape[1]:
        raise ValueError(f"the moments describe {start} inputs, and the weights have {rows.shape[1]}")
    return levels


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
    levels = round_rows(rows, scale, bits, moments)
    if not moments:
        return levels, scale
    error = output_error(rows, scale, levels, moments)
    for _ in range(rounds):
        fitted = _fitted(rows, scale, levels, moments)
        scale = np.where(output_error(rows, fitted, levels, moments) < error, fitted, scale)
        again = round_rows(rows, scale, bits, moments)
        error, found = (output_error(rows, scale, tried, moments) for tried in (levels, again))
        levels = np.where((found < error)[:, None], again, levels)
        if not (found < error).any():
            break
        error = np.minimum(found, error)
    return levels, scale


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
    return _product(change, change, moments)


def _product(
    left: NDArray[np.float64], right: NDArray[np.float64], moments: Sequence[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Return the mean over the inputs of the products of what each row of `left` and of `right` makes of them."""
    total, start = np.zeros(len(left)), 0
    for block in moments:
        end = start + block.shape[-1]
        mine, other = (_by_group(rows[:, start:end], len(block)) for rows in (left, right))
        total += np.einsum("gri,gri->gr", mine @ block, other).reshape(-1)
        start = end
    return total


def _fitted(
    rows: NDArray[np.float32],
    scale: NDArray[np.float32],
    levels: NDArray[np.int8],
    moments: Sequence[NDArray[np.float64]],
) -> NDArray[np.float32]:
    """Return the best scales of given integers; the old one where it would be none, or not positive."""
    integers = levels.astype(np.float64)
    power = _product(integers, integers, moments)
    along = _product(rows.astype(np.float64), integers, moments)
    usable = np.isfinite(power) & np.isfinite(along) & (power > 0) & (along > power * np.finfo(np.float32).tiny)
    fitted = scale.astype(np.float64)
    np.divide(along, power, out=fitted, where=usable)
    single: NDArray[np.float32] = fitted.astype(np.float32)
    return single


def _rounded_block(
    rows: NDArray[np.float32], scale: NDArray[np.float32], bits: int, moments: NDArray[np.float64]
) -> NDArray[np.int8]:
    """Round the columns of one block; `moments` has the shape (convolution groups, n, n)."""
    nearest = levels_of(rows, scale, bits)
    usable = np.isfinite(moments).all(axis=(1, 2)) & (np.einsum("gii->gi", moments).max(axis=1) > 0)
    if not usable.any():
        return nearest
    groups = len(moments)
    problem = _Problem(
        _by_group(rows.astype(np.float64), groups)[usable],
        _by_group(scale.astype(np.float64)[:, None], groups)[usable],
        2 ** (bits - 1),
        moments[usable],
    )
    plain = _by_group(nearest.astype(np.float64), groups)
    rounded = plain.copy()
    rounded[usable] = problem.solved(plain[usable])
    levels: NDArray[np.int8] = rounded.reshape(rows.shape).astype(np.int8)
    return levels


def _by_group(rows: NDArray[np.float64], groups: int) -> NDArray[np.float64]:
    return rows.reshape(groups, len(rows) // groups, -1)


class _Problem:
    """The rows of all convolution groups, solved in parallel: (groups, rows of a group, columns)."""

    def __init__(
        self, weights: NDArray[np.float64], scale: NDArray[np.float64], half: int, moments: NDArray[np.float64]
    ) -> None:
        self.weights, self.scale, self.half, self.moments = weights, scale, half, moments
        self.columns = weights.shape[2]

    def solved(self, nearest: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the integers, which are never worse than `nearest`."""
        try:
            levels = self._fed_back()
        except np.linalg.LinAlgError:  # not positive semidefinite by more than the damping
            levels = nearest
        for _ in range(SWEEPS):
            levels = self._swept(levels)
        better = self._error(levels) < self._error(nearest)
        return np.where(better[:, :, None], levels, nearest)

    def _fed_back(self) -> NDArray[np.float64]:
        """Round column by column; later columns compensate for the error of earlier ones."""
        diagonal = np.einsum("gii->gi", self.moments)
        order = np.argsort(-diagonal, axis=1, kind="stable")
        ordered = np.take_along_axis(self.moments, order[:, :, None], axis=1)
        ordered = np.take_along_axis(ordered, order[:, None, :], axis=2)
        rows, columns = np.arange(self.columns), np.arange(self.columns)
        ordered[:, rows, columns] += np.maximum(DAMPING * diagonal.mean(axis=1, keepdims=True), 1e-30)
        upper = np.swapaxes(np.linalg.cholesky(np.linalg.inv(ordered)), 1, 2)
        weights = np.take_along_axis(self.weights, order[:, None, :], axis=2)
        levels = np.empty_like(weights)
        for start in range(0, self.columns, LAZY):
            end = min(start + LAZY, self.columns)
            errors = np.empty((*weights.shape[:2], end - start))
            for column in range(start, end):
                levels[:, :, column] = self._clipped(weights[:, :, column] / self.scale[:, :, 0])
                off = weights[:, :, column] - levels[:, :, column] * self.scale[:, :, 0]
                off /= upper[:, None, column, column]
                weights[:, :, column + 1 : end] -= off[:, :, None] * upper[:, None, column, column + 1 : end]
                errors[:, :, column - start] = off
            weights[:, :, end:] -= errors @ upper[:, start:end, end:]
        back = np.empty_like(levels)
        np.put_along_axis(back, np.broadcast_to(order[:, None, :], back.shape), levels, axis=2)
        return back

    def _swept(self, levels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Move each integer once to its best value, given all others."""
        levels = levels.copy()
        scale = self.scale[:, :, 0]
        slope = (levels * self.scale - self.weights) @ self.moments
        for start in range(0, self.columns, LAZY):
            end = min(start + LAZY, self.columns)
            moves = np.zeros((*levels.shape[:2], end - start))
            for column in range(start, end):
                own = self.moments[:, None, column, column]
                wanted = np.divide(slope[:, :, column], own * scale, out=np.zeros_like(scale), where=own > 0)
                moved = self._clipped(levels[:, :, column] - wanted)
                step = (moved - levels[:, :, column]) * scale
                levels[:, :, column] = moved
                slope[:, :, column:end] += step[:, :, None] * self.moments[:, None, column, column:end]
                moves[:, :, column - start] = step
            slope[:, :, end:] += moves @ self.moments[:, start:end, end:]
        return levels

    def _error(self, levels: NDArray[np.float64]) -> NDArray[np.float64]:
        change = levels * self.scale - self.weights
        error: NDArray[np.float64] = np.einsum("gri,gri->gr", change @ self.moments, change)
        return error

    def _clipped(self, levels: NDArray[np.float64]) -> NDArray[np.float64]:
        clipped: NDArray[np.float64] = np.clip(np.rint(levels), -self.half, self.half - 1)
        return clipped
