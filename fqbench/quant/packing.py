"""Integers of 8, 4 or 2 bits in bytes, the first in the lowest bits, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def pack_bits(levels: NDArray[np.int8], bits: int) -> NDArray[np.uint8]:
    """Pack signed integers of 8, 4 or 2 bits, any shape, into ``ceil(size * bits / 8)`` bytes."""
    codes = (levels.reshape(-1).astype(np.int16) + 2 ** (bits - 1)).astype(np.uint8)
    a_byte = 8 // bits
    codes = np.pad(codes, (0, -len(codes) % a_byte)).reshape(-1, a_byte)
    shifts = np.arange(a_byte, dtype=np.uint8) * np.uint8(bits)
    packed: NDArray[np.uint8] = np.bitwise_or.reduce(codes << shifts, axis=1)
    return packed


def unpack_bits(packed: NDArray[np.uint8], bits: int, shape: tuple[int, ...]) -> NDArray[np.int8]:
    """Return the integers that `pack_bits` packed, in their shape."""
    shifts = np.arange(8 // bits, dtype=np.uint8) * np.uint8(bits)
    codes = (packed[:, None] >> shifts) & np.uint8(2**bits - 1)
    levels = codes.reshape(-1)[: int(np.prod(shape))].astype(np.int16) - 2 ** (bits - 1)
    unpacked: NDArray[np.int8] = levels.astype(np.int8).reshape(shape)
    return unpacked
