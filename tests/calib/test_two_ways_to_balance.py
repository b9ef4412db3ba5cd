"""Balanced by the sampler and balanced by re-weighting a random draw: the same ranges in expectation, over seeds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fqbench import plugins
from fqbench.contracts.numerics import IntegerFormat
from fqbench.data.samples import group_labels
from fqbench.quant.calibration import CalibrationSet
from fqbench.quant.observe import observe
from fqbench.quant.policies import Policy
from fqbench.quant.ranges import ranges_of
from fqbench.quant.record import CalibrationRecord
from fqbench.quant.rules import Distribution, Rule
from fqbench.testing.tiny_model import Pictures, pictures, tiny_model

SEEDS = 24
DRAWN = 64
SIZES = {"many": 420, "few": 80}


@pytest.mark.slow
@pytest.mark.parametrize("figure", ["mean_minmax", "values beyond a bound"])
def test_the_sampler_and_the_policy_agree_in_expectation(
    figure: str, draws: dict[str, list[CalibrationRecord]]
) -> None:
    """Both figures are means over images, so that expectations agree for any size of a draw.

    A rule of the tail (percentile, mse) is no such mean: a group of few images shows less of its tail, however it is
    weighted, and the two ways agree only as draws grow.
    """
    of = mean_ranges if figure == "mean_minmax" else beyond
    sampled = np.array([of(record, "as-sampled") for record in draws["balanced"]])
    weighted = np.array([of(record, "balanced") for record in draws["random"]])
    ignored = np.array([of(record, "as-sampled") for record in draws["random"]])
    error = np.hypot(sampled.std(axis=0, ddof=1), weighted.std(axis=0, ddof=1)) / np.sqrt(SEEDS)
    assert (np.abs(weighted.mean(axis=0) - sampled.mean(axis=0)) < 4 * error).all()
    # Without the weights the many, whose pictures are dull, decide: the test can fail.
    assert (sampled.mean(axis=0) - ignored.mean(axis=0) > 4 * error).all()


def mean_ranges(record: CalibrationRecord, policy: str) -> np.ndarray:
    ranges = ranges_of(record, Rule("mean_minmax"), Policy(policy), IntegerFormat())
    return ranges.high - ranges.low


def beyond(record: CalibrationRecord, policy: str) -> np.ndarray:
    """Share of the values of each activation above 2."""
    values = Distribution.of(record, Policy(policy).image_weights(record))
    return (values.counts * (values.edges[:, :-1] >= 2)).sum(axis=1) / values.total


@pytest.fixture(scope="module")
def draws(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[CalibrationRecord]]:
    """Draws of each sampler, observed, from a table in which the few have pictures of three times the contrast."""
    model = tiny_model(tmp_path_factory.mktemp("model"))
    tone = np.repeat(list(SIZES), list(SIZES.values()))
    images = pictures(len(tone), seed=3) * np.where(tone == "few", 3, 1).astype(np.float32)[:, None, None, None]
    table = pd.DataFrame({"sample_id": [f"{row:04d}" for row in range(len(tone))], "tone": tone})
    records: dict[str, list[CalibrationRecord]] = {"balanced": [], "random": []}
    for name, kept in records.items():
        for seed in range(SEEDS):
            rows = plugins.sampler(name).sample(table, DRAWN, by=("tone",), rng=np.random.default_rng(seed))
            chosen = table.iloc[rows].reset_index(drop=True)
            frame = chosen[["sample_id"]].assign(group=group_labels(chosen, ("tone",)))
            kept.append(observe(model, CalibrationSet(name, frame, Pictures(images), rows), threads=1))
    return records
