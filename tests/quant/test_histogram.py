"""Histograms that grow: the same whatever the order and the batches, and equal to numpy's on the final bins."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fqbench.quant.graph import Activation, _steps
from fqbench.quant.histogram import Columns, Histograms, grid
from fqbench.testing.records import record_of

BINS = 64
floats = st.floats(-(2.0**40), 2.0**40, width=32).map(lambda x: 0.0 if abs(x) < 1e-20 else x)  # else it underflows
images = hnp.arrays(np.float32, st.tuples(st.integers(1, 6), st.just(5)), elements=floats)


def folded(values: np.ndarray, order: np.ndarray, batch: int) -> Histograms:
    observed = (Activation("t", (values.shape[1],), False, (1,), 0),)
    histograms = Histograms(Columns.of(observed), 1, bins=BINS)
    for start in range(0, len(order), batch):
        part = values[order[start : start + batch]]
        histograms.fold(
            part.max(axis=1, keepdims=True), part.min(axis=1, keepdims=True), part, np.zeros(len(part), dtype=np.int64)
        )
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


def test_strata_give_every_pixel_its_share() -> None:
    for shape in ((4, 112, 112), (64, 56, 56), (2048, 7, 7), (8, 5, 9), (3, 224, 224)):
        steps = _steps(shape, 1024)
        columns = Columns.of((Activation("map", shape, True, steps, 0),))
        assert columns.weight.sum() == pytest.approx(np.prod(shape))
        rows = np.arange(0, shape[1], steps[1])
        corner = columns.slot[0]
        mass = columns.weight[columns.slot == corner].sum() / shape[0]
        if max(steps[1:]) > 1 and len(rows) > 2:
            assert mass == pytest.approx(4, rel=0.3), shape  # four corners of a map, up to strata that are missing


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
