"""What stratified and minority sampling take of each group."""

from __future__ import annotations

import numpy as np
import pytest
from fqbench.calib.shares import apportion
from hypothesis import given
from hypothesis import strategies as st

from fqbench import plugins
from fqbench.data.samples import group_labels
from fqbench.testing.sampler_suite import FEATURES, make_samples

GROUPS = {("light", "young"): 640, ("light", "old"): 160, ("dark", "young"): 40, ("dark", "old"): 10}


def taken(sampler: str, n: int, seed: int = 0) -> dict[str, int]:
    table = make_samples(GROUPS, seed=1)
    rows = plugins.sampler(sampler).sample(table, n, by=FEATURES, rng=np.random.default_rng(seed))
    names, counts = np.unique(group_labels(table, FEATURES)[rows], return_counts=True)
    return dict(zip(map(str, names), map(int, counts), strict=True))


def test_stratified_keeps_the_proportions_exactly() -> None:
    assert taken("stratified", 85) == {"light×young": 64, "light×old": 16, "dark×young": 4, "dark×old": 1}


def test_stratified_gives_every_group_one() -> None:
    assert min(taken("stratified", 20).values()) == 1


def test_minority_gives_small_groups_more_than_balance() -> None:
    counts = taken("minority", 80)
    assert counts["dark×old"] > counts["dark×young"] > counts["light×old"] > counts["light×young"]
    assert counts["dark×old"] / counts["light×young"] == pytest.approx(8, rel=0.2)  # the root of 640 / 10


def test_as_many_images_as_groups_are_one_for_each() -> None:
    assert apportion(np.array([100.0, 0.01, 0.01]), 3, np.random.default_rng(0)).tolist() == [1, 1, 1]


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=12), st.integers(1, 300))
def test_shares_add_up_and_are_near_their_weights(weights: list[float], n: int) -> None:
    shares = apportion(np.array(weights), n, np.random.default_rng(0))
    assert shares.sum() == n
    assert (shares >= 0).all()
    exact = np.array(weights) / sum(weights) * n
    if n >= len(weights):
        assert (shares >= 1).all()
    if (exact >= 1).all():
        assert (np.abs(shares - exact) < 1).all()
