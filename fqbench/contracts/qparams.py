"""The levels of one quantized activation: scale, zero point, bits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class QParams:
    """Levels ``(q - zero_point) * scale`` for q from 0 to ``2**bits - 1``.

    Attributes
    ----------
    scale : float
        A float32 number.
    zero_point : int
        The level that is zero.
    bits : int
        8, 4 or 2.
    """

    scale: float
    zero_point: int
    bits: int = 8

    @classmethod
    def of(cls, low: float, high: float, bits: int, *, symmetric: bool = False) -> QParams:
        """Return the levels of a range, widened to hold zero.

        With ``symmetric``, zero is level ``2**(bits - 1)`` and the magnitudes up to the larger end have
        ``2**(bits - 1) - 1`` levels on each side: the same as signed levels with zero point 0.
        """
        low, high = min(low, 0.0), max(high, 0.0)
        top = 2**bits - 1
        if symmetric:
            half = 2 ** (bits - 1)
            return cls(_single(max(-low, high) / (half - 1)), half, bits)
        scale = _single((high - low) / top)
        return cls(scale, min(top, max(0, round(-low / scale))), bits)

    @property
    def low(self) -> float:
        """The lowest level."""
        return -self.zero_point * self.scale

    @property
    def high(self) -> float:
        """The highest level."""
        top: int = 2**self.bits - 1
        return (top - self.zero_point) * self.scale


def _single(scale: float) -> float:
    """Round a scale to float32; that of an empty range is 1."""
    single = float(np.float32(scale))
    smallest = float(np.finfo(np.float32).tiny)
    return single if single > smallest else 1.0
