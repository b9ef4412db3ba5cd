"""Packed weights: the bytes of files that are out in the world, and their way back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fqbench.quant.packing import pack_bits, unpack_bits


@pytest.mark.parametrize(
    ("bits", "levels", "expected"),
    [(2, [-2, -1, 0, 1, 1], b"\xe4\x03"), (4, [-8, 7, 0], b"\xf0\x08"), (8, [-128, 0, 127], b"\x00\x80\xff")],
)
def test_the_first_integer_is_in_the_lowest_bits(bits: int, levels: list[int], expected: bytes) -> None:
    assert pack_bits(np.array(levels, np.int8), bits).tobytes() == expected


@given(st.sampled_from([8, 4, 2]), st.tuples(st.integers(1, 5), st.integers(1, 9)), st.data())
def test_packed_integers_are_the_digits_of_one_number(bits: int, shape: tuple[int, int], data: st.DataObject) -> None:
    base, count = 2**bits, shape[0] * shape[1]
    levels = data.draw(st.lists(st.integers(-base // 2, base // 2 - 1), min_size=count, max_size=count))
    packed = pack_bits(np.array(levels, np.int8).reshape(shape), bits)
    number = sum((level + base // 2) * base**place for place, level in enumerate(levels))
    assert packed.dtype == np.uint8
    assert packed.tobytes() == number.to_bytes(-(-count * bits // 8), "little")
    unpacked = unpack_bits(packed, bits, shape)
    assert unpacked.dtype == np.int8
    np.testing.assert_array_equal(unpacked, np.array(levels).reshape(shape))
