"""Integer formats as data: what a runtime's kernels take, from which the core computes scales and zero points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fqbench.contracts.scheme import Scheme


@dataclass(frozen=True)
class IntegerFormat:
    """Uniform quantization to integers with one scale per tensor or per channel.

    Attributes
    ----------
    bits : int
        8, 4 or 2.
    symmetric : bool
        The zero point is the middle of the levels (0 where they are signed), with as many levels above as below.
    signed : bool
        Stored as signed integers; the levels are the same, the stored zero point differs by ``2**(bits - 1)``.
    narrow_range : bool
        The lowest level is not used, so that negating a value never overflows.
    """

    bits: int = 8
    symmetric: bool = False
    signed: bool = False
    narrow_range: bool = False

    @property
    def steps(self) -> int:
        """Number of steps from the lowest to the highest level."""
        return 2 * self.signed_levels - (2 if self.symmetric or self.narrow_range else 1)

    @property
    def signed_levels(self) -> int:
        """Levels for magnitudes of a tensor with both signs."""
        levels: int = 2 ** (self.bits - 1)
        return levels

    @property
    def levels_of_one_side(self) -> int:
        """Levels for magnitudes of a tensor without negative values."""
        return self.signed_levels if self.symmetric else 2 * self.signed_levels

    def grid(
        self, low: NDArray[np.float64], high: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return scale, lowest and highest level of ranges, all in float; zero is always a level."""
        low, high = np.minimum(low, 0), np.maximum(high, 0)
        if self.symmetric:
            largest = np.maximum(-low, high)
            scale = 2 * largest / self.steps
            lowest = np.full_like(scale, -(self.steps // 2))
        else:
            scale = (high - low) / self.steps
            zero = np.divide(-low, scale, out=np.zeros_like(scale), where=scale > 0)
            lowest = -np.rint(zero)
        return np.where(scale > 0, scale, 1.0), lowest, lowest + self.steps


@dataclass(frozen=True)
class Numerics:
    """What a runtime's integer kernels take for one scheme.

    Attributes
    ----------
    activations : IntegerFormat
        One scale per tensor.
    weights : IntegerFormat
        One scale per output channel where ``per_channel``.
    per_channel : bool
        Granularity of the weights' scales; False is one per tensor.
    """

    activations: IntegerFormat = IntegerFormat()
    weights: IntegerFormat = IntegerFormat(symmetric=True, signed=True)
    per_channel: bool = True

    @classmethod
    def of(cls, scheme: Scheme, *, symmetric: bool = False) -> Numerics:
        """Return the formats for a scheme's bits; with ``symmetric``, activations are signed with the zero point 0."""
        activations = IntegerFormat(min(scheme.act_bits, 8), symmetric=symmetric, signed=symmetric)
        return cls(activations, IntegerFormat(min(scheme.bits, 8), symmetric=True, signed=True))
