"""AIF360 as a second reference, between two groups, where every rate is defined."""

from __future__ import annotations

import logging
import warnings

import numpy as np
import pandas as pd
import pytest

from fqbench.fairness import count, gap


@pytest.fixture(scope="module")
def aif360() -> object:
    """AIF360 warns at import of the learning frameworks that it lacks, and of what pandas deprecates."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pytest.importorskip("aif360.sklearn.metrics")
    finally:  # also where it is not installed, or every later test would miss its warnings
        logging.disable(logging.NOTSET)


@pytest.mark.parametrize("seed", range(8))
def test_gaps_are_aif360s(aif360: object, seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = np.where(rng.random(200) < 0.4, "dark", "light")
    truth, answers = rng.integers(0, 2, 200), rng.integers(0, 2, 200)
    counts = count(truth, answers, groups)
    labels = pd.Series(truth, index=pd.Index(groups, name="tone"))
    asked = {"prot_attr": "tone", "priv_group": "light"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parity = aif360.statistical_parity_difference(labels, answers, **asked)  # type: ignore[attr-defined]
        impact = aif360.disparate_impact_ratio(labels, answers, **asked)  # type: ignore[attr-defined]
        opportunity = aif360.equal_opportunity_difference(labels, answers, **asked)  # type: ignore[attr-defined]
        average = aif360.average_odds_difference(labels, answers, **asked)  # type: ignore[attr-defined]
    assert gap("demographic_parity_difference", counts).value == pytest.approx(abs(parity), abs=1e-12)
    assert gap("demographic_parity_ratio", counts).value == pytest.approx(min(impact, 1 / impact), abs=1e-12)
    assert gap("equal_opportunity_difference", counts).value == pytest.approx(abs(opportunity), abs=1e-12)
    # AIF360 averages the two signed differences whose larger one is equalized odds: FPR is what is left of the mean.
    false_positive = abs(2 * average - opportunity)
    assert gap("predictive_equality_difference", counts).value == pytest.approx(false_positive, abs=1e-12)
    odds = max(abs(opportunity), false_positive)
    assert gap("equalized_odds_difference", counts).value == pytest.approx(odds, abs=1e-12)
