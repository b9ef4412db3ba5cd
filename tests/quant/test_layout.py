"""What each sampled value stands for, counted pixel by pixel, and where the columns of a tensor are."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from fqbench.quant.activations import Activation
from fqbench.quant.layout import Layout


def activation(shape: tuple[int, ...], axis: int = 0, *, positive: bool = False, **strides: Any) -> Activation:
    return Activation("map", shape, positive, None, axis, **strides)


def kinds(height: int, width: int) -> np.ndarray:
    """How many borders of a map each pixel is on: 0 inside, 1 on an edge, 2 in a corner."""
    places = product(range(height), range(width))
    found = [(row in (0, height - 1)) + (column in (0, width - 1)) for row, column in places]
    return np.array(found).reshape(height, width)


@pytest.mark.parametrize(("shape", "pixels"), [((2, 8, 6), 2), ((3, 9, 7), 2), ((4, 10, 10), 3)])
def test_each_part_of_a_map_has_the_weight_of_its_pixels(shape: tuple[int, int, int], pixels: int) -> None:
    layout = Layout.of((activation(shape, pixels=pixels),))
    channels, *size = shape
    all_of_them = kinds(*size)
    seen = np.tile(all_of_them[::pixels, ::pixels].ravel(), channels)
    for kind in (0, 1, 2):
        weights = layout.weight[seen == kind]
        assert weights.sum() == pytest.approx(channels * np.count_nonzero(all_of_them == kind))
        assert np.ptp(weights) == 0


def test_a_part_that_the_stride_misses_is_left_to_the_others() -> None:
    """Of a map of 3x3 only corners are met; of one row, edges and corners."""
    for shape in ((5, 3, 3), (5, 1, 9)):
        layout = Layout.of((activation(shape, pixels=2),))
        assert layout.weight.sum() == pytest.approx(np.prod(shape))
        assert (layout.weight > 0).all()


def test_columns_and_channels_are_counted_over_all_tensors() -> None:
    shapes, lattice = [(2, 4, 4), (3, 4, 6)], (2, 3)
    observed = (
        activation(shapes[0], lattice=lattice, positive=True),
        activation(shapes[1], lattice=lattice, pixels=2),
        activation((6, 5), axis=1, step=5),  # only the first of its channels is ever met
    )
    layout = Layout.of(observed)
    sizes = [2 * 16, 3 * 2 * 3, 6]
    assert layout.sample.start.tolist() == [0, *np.cumsum(sizes)]
    assert [activation.sets for activation in observed] == [2 * 6, 3 * 6, 5]
    assert layout.signed.tolist() == [1, 2]
    assert layout.partial.tolist() == [False, True, True]
    channel, row, column = np.meshgrid(np.arange(3), np.arange(0, 4, 2), np.arange(0, 6, 2), indexing="ij")
    sets = (channel * 6 + row % 2 * 3 + column % 3).ravel()
    part = layout.sample.of(1)
    np.testing.assert_array_equal(layout.sets[part], sets)
    np.testing.assert_array_equal(layout.channel[part], 2 + channel.ravel())
    assert layout.channel_start.tolist() == [0, 2, 5, 5]
    assert (layout.channel[layout.sample.of(2)] == -1).all()
    for number in range(5):
        assert layout.share[layout.channel == number].sum() == pytest.approx(1)
    assert not layout.share[layout.channel < 0].any()
