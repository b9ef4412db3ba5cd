"""Histograms that grow: the same whatever the order and the batches, and equal to numpy's on the final bins."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fqbench.quant.activations import Activation, strides
from fqbench.quant.histogram import Histograms, Seen, grid
from fqbench.quant.layout import Layout
from fqbench.testing.records import record_of

BINS = 64
floats = st.floats(-(2.0**40), 2.0**40, width=32).map(lambda x: 0.0 if abs(x) < 1e-20 else x)  # else it underflows
images = hnp.arrays(np.float32, st.tuples(st.integers(1, 6), st.just(5)), elements=floats)


def folded(values: np.ndarray, order: np.ndarray, batch: int) -> Histograms:
    observed = (Activation("t", (values.shape[1],), False, None, 0),)
    histograms = Histograms(Layout.of(observed), 1, bins=BINS)
    for start in range(0, len(order), batch):
        part = values[order[start : start + batch]]
        seen = Seen((part.max(axis=1, keepdims=True),), (part.min(axis=1, keepdims=True),), (part,))
        histograms.fold(seen, np.zeros(len(part), dtype=np.int64))
    return histograms


@settings(deadline=None, max_examples=200)
@given(images, st.randoms(use_true_random=False), st.integers(1, 6))
def test_order_and_batches_do_not_matter(values: np.ndarray, random: object, batch: int) -> None:
    order = np.arange(len(values))
    random.shuffle(order)  # type: ignore[attr-defined]
    one, other = folded(values, np.arange(len(values)), 1), folded(values, order, batch)
    for name in ("counts", "zeros", "exponent", "first", "low", "high", "images"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    np.testing.assert_allclose(one.channel_sum, other.channel_sum, rtol=1e-12, atol=1e-3)


@settings(deadline=None, max_examples=200)
@given(images)
def test_counts_equal_numpy_on_the_final_bins(values: np.ndarray) -> None:
    histograms = folded(values, np.arange(len(values)), 2)
    width = 2.0 ** int(histograms.exponent[0])
    edges = (int(histograms.first[0]) + np.arange(BINS + 1)) * width
    scaled = np.floor(values[values != 0].astype(np.float64) / width) - histograms.first[0]
    np.testing.assert_array_equal(histograms.counts[0, 0], np.bincount(scaled.astype(int), minlength=BINS))
    assert histograms.counts.sum() + histograms.zeros.sum() == values.size
    assert edges[0] <= min(values.min(), 0)
    assert edges[-1] >= max(values.max(), 0)
    assert histograms.low[0, 0] == values.min()
    assert histograms.high[0, 0] == values.max()


@given(floats, floats)
def test_the_grid_is_the_finest_that_holds_both(low: float, high: float) -> None:
    low, high = min(low, high, 0.0), max(low, high, 0.0)
    exponent, first = grid(low, high, BINS)
    assert first <= low / 2.0**exponent
    assert high / 2.0**exponent < first + BINS
    if exponent > -126:
        finer = 2.0 ** (exponent - 1)
        assert np.floor(high / finer) - np.floor(low / finer) >= BINS


@pytest.mark.parametrize("shape", [(4, 112, 112), (64, 56, 56), (2048, 7, 7), (8, 5, 9), (3, 224, 224), (197, 384)])
def test_strata_give_every_value_its_share(shape: tuple[int, ...]) -> None:
    pixels, step, lattice = strides(shape, 1024)
    activation = Activation("map", shape, True, None, None, pixels, step, lattice)
    layout = Layout.of((activation,))
    assert layout.weight.sum() == pytest.approx(np.prod(shape))
    assert len(layout.stratum) <= 1.1 * 1024
    assert activation.sets <= max(1.3 * 1024, shape[0], shape[-1])
    if pixels > 1:  # what the borders of all maps hold, they hold in the sample
        edge = np.zeros(shape[1:], dtype=bool)
        edge[[0, -1], :] = edge[:, [0, -1]] = True
        mass = layout.weight[layout.stratum > 0].sum()
        assert mass == pytest.approx(edge.mean() * np.prod(shape), rel=0.01)


def test_another_position_is_met_in_every_channel() -> None:
    activation = Activation("map", (2048, 7, 7), True, None, 0, *strides((2048, 7, 7), 8192))
    assert activation.pixels == 1
    index = np.arange(0, np.prod(activation.shape), activation.step)
    assert len(np.unique(index % 49)) == 49
    assert len(np.unique(index // 49)) == 2048
    assert np.bincount(index % 49).std() < 2


def test_zeros_are_counted_apart_and_channel_means_are_kept() -> None:
    values = np.array([[0.0, 1.0, -2.0], [0.0, 3.0, 0.0]], dtype=np.float32)
    record = record_of({"t": {"a": values}})
    assert record.zeros[0, 0] == 3
    means = record.channel_means("t", np.ones(1))
    np.testing.assert_allclose(means, [0.0, 2.0, -1.0])


def test_memory_does_not_grow_with_images() -> None:
    rng = np.random.default_rng(0)
    sizes = []
    for count in (4, 64):
        record = record_of({"t": {"a": rng.normal(size=(count, 32)).astype(np.float32)}})
        sizes.append(sum(array.nbytes for array in record.arrays.values()))
    assert sizes[0] == sizes[1]
