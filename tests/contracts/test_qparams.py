"""The levels of a quantized activation, beside ONNX Runtime's own arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fqbench.contracts.qparams import QParams

ENDS = st.floats(-1e4, 1e4, width=32)
BITS = st.sampled_from([2, 4, 8])


@given(ENDS, ENDS, BITS)
def test_zero_is_a_level_and_the_range_is_covered_to_half_a_step(first: float, second: float, bits: int) -> None:
    low, high = min(first, second), max(first, second)
    grid = QParams.of(low, high, bits)
    assert 0 <= grid.zero_point <= 2**bits - 1
    step = grid.scale * 0.501 + 1e-30
    assert grid.low <= min(low, 0) + step
    assert grid.high >= max(high, 0) - step


@given(ENDS, ENDS, BITS)
def test_a_symmetric_grid_is_the_signed_one_with_zero_point_zero(first: float, second: float, bits: int) -> None:
    grid = QParams.of(min(first, second), max(first, second), bits, symmetric=True)
    largest = max(abs(first), abs(second))
    signed_top = 2 ** (bits - 1) - 1
    assert grid.zero_point == 2 ** (bits - 1)
    if largest > 1e-30:
        assert grid.scale * signed_top == pytest.approx(largest, rel=1e-6)


@given(ENDS, ENDS)
def test_it_is_what_onnxruntime_makes_of_the_same_range(first: float, second: float) -> None:
    from onnxruntime.quantization.quant_utils import compute_scale_zp

    low, high = np.float32(min(first, second)), np.float32(max(first, second))
    if high - low < 1e-30:
        return
    zero_point, scale = compute_scale_zp(low, high, np.array(0, np.uint8), np.array(255, np.uint8))
    grid = QParams.of(float(low), float(high), 8)
    assert grid.scale == pytest.approx(float(scale), rel=1e-6)
    assert abs(grid.zero_point - int(zero_point)) <= 1  # a half is rounded from single precision there


def test_an_empty_range_has_a_usable_scale() -> None:
    assert QParams.of(0.0, 0.0, 8) == QParams(1.0, 0, 8)
