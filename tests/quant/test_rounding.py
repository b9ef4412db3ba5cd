"""Rounding from second moments: never worse than to nearest, near the optimum, and exact where it has to be."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fqbench.quant.rounding import LEAF, fit_rows, output_error, round_rows
from fqbench.quant.weights import rounded, scales

BITS = st.sampled_from([8, 4, 2])
FINITE = st.floats(-4, 4, width=32, allow_subnormal=False)


def layer(groups: int, rows: int, columns: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Weights, and moments of inputs that depend on each other and have a mean."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(groups, columns, max(columns // 3, 2))) @ rng.normal(
        size=(groups, max(columns // 3, 2), 4 * columns)
    )
    inputs = mixed + rng.normal(0.5, 0.3, (groups, columns, 4 * columns))
    weights = rng.normal(size=(groups * rows, columns)).astype(np.float32)
    return weights, inputs @ np.swapaxes(inputs, 1, 2) / inputs.shape[2]


@given(
    hnp.arrays(np.float32, (4, 6), elements=FINITE),
    hnp.arrays(np.float64, (2, 6, 5), elements=st.floats(-3, 3)),
    BITS,
    st.sampled_from(["minmax", "mse"]),
)
def test_no_row_is_ever_worse_than_rounded_to_nearest(
    weights: np.ndarray, inputs: np.ndarray, bits: int, rule: str
) -> None:
    """Two convolution groups with moments of rank 5 at most: always singular."""
    moments = [inputs @ np.swapaxes(inputs, 1, 2)]
    scale = scales(weights, bits, rule)
    levels = round_rows(weights, scale, bits, moments)
    assert levels.dtype == np.int8
    assert levels.min() >= -(2 ** (bits - 1))
    assert levels.max() <= 2 ** (bits - 1) - 1
    nearest = round_rows(weights, scale, bits)
    worse = output_error(weights, scale, levels, moments) - output_error(weights, scale, nearest, moments)
    assert (worse <= 1e-9 * (1 + output_error(weights, scale, nearest, moments))).all()


@given(hnp.arrays(np.float32, (3, 7), elements=FINITE), BITS)
def test_without_moments_it_is_rounding_to_nearest(weights: np.ndarray, bits: int) -> None:
    scale = scales(weights, bits, "mse")
    nearest = round_rows(weights, scale, bits)
    np.testing.assert_array_equal(nearest * scale[:, None], rounded(weights, scale, bits))
    for moments in (np.zeros((1, 7, 7)), np.full((1, 7, 7), np.nan), np.eye(7)[None]):
        np.testing.assert_array_equal(round_rows(weights, scale, bits, [moments]), nearest)


def test_one_dead_convolution_group_leaves_the_other_alone() -> None:
    weights, moments = layer(2, 3, 9)
    scale = scales(weights, 4, "mse")
    moments[0] = 0
    levels = round_rows(weights, scale, 4, [moments])
    np.testing.assert_array_equal(levels[:3], round_rows(weights[:3], scale[:3], 4))
    np.testing.assert_array_equal(levels[3:], round_rows(weights[3:], scale[3:], 4, [moments[1:]]))
    assert (levels[3:] != round_rows(weights[3:], scale[3:], 4)).any()


@pytest.mark.parametrize("bits", [4, 2])
def test_it_is_near_the_best_of_all_integers(bits: int) -> None:
    """Six inputs: every choice of levels next to the weight can be tried."""
    weights, moments = layer(1, 12, 6)
    scale = scales(weights, bits, "mse")
    half = 2 ** (bits - 1)
    nearest = round_rows(weights, scale, bits)
    steps = np.array(list(itertools.product((-1, 0, 1), repeat=6)))
    tried = np.clip(nearest[:, None, :] + steps, -half, half - 1)
    change = tried * scale[:, None, None] - weights[:, None, :]
    best = np.einsum("rti,ij,rtj->rt", change, moments[0], change).min(axis=1)
    found = output_error(weights, scale, round_rows(weights, scale, bits, [moments]), [moments])
    plain = output_error(weights, scale, nearest, [moments])
    assert (found - best).sum() < 0.3 * (plain - best).sum()


@pytest.mark.parametrize(("bits", "most"), [(8, 0.5), (4, 0.25), (2, 0.3)])
def test_it_takes_most_of_the_error_away(bits: int, most: float) -> None:
    """More columns than are gone through one by one, so that errors are passed on in products, too."""
    weights, moments = layer(1, 16, 10 * LEAF + 8)
    scale = scales(weights, bits, "mse")
    errors = [
        output_error(weights, scale, levels, [moments]).sum()
        for levels in (round_rows(weights, scale, bits, [moments]), round_rows(weights, scale, bits))
    ]
    assert errors[0] < most * errors[1]


def test_output_error_is_the_mean_square_of_what_comes_out() -> None:
    rng = np.random.default_rng(3)
    inputs = rng.normal(1, 1, (2, 5, 50)).astype(np.float32)  # two convolution groups
    weights = rng.normal(size=(6, 5)).astype(np.float32)
    scale = scales(weights, 2, "mse")
    levels = round_rows(weights, scale, 2)
    change = (levels * scale[:, None] - weights).reshape(2, 3, 5) @ inputs
    moments = inputs.astype(np.float64) @ np.swapaxes(inputs, 1, 2) / 50
    np.testing.assert_allclose(
        output_error(weights, scale, levels, [moments]), (change**2).mean(axis=2).reshape(-1), rtol=1e-5
    )


def test_blocks_are_rounded_one_by_one() -> None:
    weights, moments = layer(1, 4, 12)
    scale = scales(weights, 4, "mse")
    blocks = [moments[:, :7, :7], moments[:, 7:, 7:]]
    levels = round_rows(weights, scale, 4, blocks)
    np.testing.assert_array_equal(levels[:, 7:], round_rows(weights[:, 7:], scale, 4, blocks[1:]))
    with pytest.raises(ValueError, match="describe 7 inputs, and the weights have 12"):
        round_rows(weights, scale, 4, blocks[:1])


@given(
    hnp.arrays(np.float32, (4, 6), elements=FINITE), hnp.arrays(np.float64, (2, 6, 5), elements=st.floats(-3, 3)), BITS
)
def test_fitted_scales_are_never_worse(weights: np.ndarray, inputs: np.ndarray, bits: int) -> None:
    moments = [inputs @ np.swapaxes(inputs, 1, 2)]
    scale = scales(weights, bits, "minmax")
    levels, fitted = fit_rows(weights, scale, bits, moments)
    assert fitted.dtype == np.float32
    assert (fitted > 0).all()
    before = output_error(weights, scale, round_rows(weights, scale, bits, moments), moments)
    assert (output_error(weights, fitted, levels, moments) <= before).all()


def test_a_fitted_scale_is_the_best_for_its_integers() -> None:
    weights, moments = layer(2, 8, 12)
    scale = scales(weights, 2, "minmax")
    levels, fitted = fit_rows(weights, scale, 2, [moments], rounds=20)
    errors = [output_error(weights, fitted * np.float32(by), levels, [moments]) for by in (0.99, 1, 1.01)]
    assert (errors[1] <= np.minimum(errors[0], errors[2]) * (1 + 1e-6)).all()
    plain = output_error(weights, scale, round_rows(weights, scale, 2, [moments]), [moments])
    assert errors[1].sum() < 0.8 * plain.sum()
    unchanged, same = fit_rows(weights, scale, 2)
    np.testing.assert_array_equal(same, scale)
    np.testing.assert_array_equal(unchanged, round_rows(weights, scale, 2))
