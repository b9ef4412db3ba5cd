"""Thresholds against fairlearn's own ThresholdOptimizer and against brute force."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from fqbench.errors import DataError
from fqbench.fairness.decisions import (
    DecisionRule,
    Mixture,
    Step,
    fit_group_thresholds,
    fit_single_threshold,
    probabilities,
)


def sample(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """Scores that are shifted down in one group, as a quantized model might."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    tone = np.where(rng.random(n) < 0.3, "dark", "light")
    score = 1 / (1 + np.exp(-(2.0 * labels - 1 + rng.normal(0, 1, n) - 0.8 * (tone == "dark"))))
    frame = pd.DataFrame({"sample_id": [f"s{index}" for index in range(n)], "tone": tone})
    return np.stack([1 - score, score], axis=1), labels, frame


@settings(max_examples=30)
@given(st.integers(0, 1000), st.floats(0.05, 0.95))
def test_a_single_threshold_includes_its_own_value(seed: int, threshold: float) -> None:
    scores, _labels, frame = sample(50, seed)
    scores[0] = (1 - threshold, threshold)
    decided = DecisionRule.single(1, threshold).decide(scores, frame)
    np.testing.assert_array_equal(decided, (scores[:, 1] >= threshold).astype(int))


@pytest.mark.parametrize("positive", [0, 1])
def test_either_class_can_be_the_positive_one(positive: int) -> None:
    scores, labels, frame = sample(300)
    decided = DecisionRule.single(positive, 0.7).decide(scores, frame)
    np.testing.assert_array_equal(decided == positive, scores[:, positive] >= 0.7)
    assert set(decided) == {0, 1}
    mirrored = fit_single_threshold(scores[:, ::-1], 1 - labels, 1 - positive)
    same = fit_single_threshold(scores, labels, positive)
    np.testing.assert_array_equal(mirrored.decide(scores[:, ::-1], frame), 1 - same.decide(scores, frame))


def test_between_equally_good_thresholds_the_middle_one_is_taken() -> None:
    score = np.array([0.1, 0.2, 0.6, 0.9])
    rule = fit_single_threshold(np.stack([1 - score, score], axis=1), np.array([0, 0, 1, 1]), 1)
    assert rule.mixtures["all"].step0.threshold == pytest.approx(0.4)


@pytest.mark.parametrize("chance", [0.1, 0.5, 0.75])
def test_a_mixture_is_decided_by_a_hash_of_the_sample_alone(chance: float) -> None:
    """The first 14 hexadecimal digits of the SHA-256, as a fraction, are below the chance."""
    frame = pd.DataFrame({"sample_id": [f"face-{index}" for index in range(2000)]})
    never = Step(">", np.inf)
    rule = DecisionRule(1, (), {"all": Mixture(1.0, never, 0.0, never, p_ignore=chance, constant=1.0)})
    decided = rule.decide(np.full((2000, 2), 0.5), frame)
    digits = [hashlib.sha256(name.encode()).hexdigest()[:14] for name in frame["sample_id"]]
    np.testing.assert_array_equal(decided == 1, [int(each, 16) / 16**14 < chance for each in digits])
    assert binomtest(int(decided.sum()), 2000, chance).pvalue > 1e-3


@pytest.mark.parametrize("seed", range(5))
def test_the_fitted_threshold_is_as_good_as_brute_force(seed: int) -> None:
    scores, labels, frame = sample(300, seed)

    def balanced(decided: np.ndarray) -> float:
        return float(np.mean([np.mean(decided[labels == label] == label) for label in (0, 1)]))

    fitted = balanced(fit_single_threshold(scores, labels, 1).decide(scores, frame))
    best = max(balanced((scores[:, 1] > cut).astype(int)) for cut in np.unique(scores[:, 1]) - 1e-12)
    assert fitted == pytest.approx(best)


@pytest.mark.parametrize("constraint", ["demographic_parity", "equalized_odds", "true_positive_rate_parity"])
def test_chances_are_fairlearns(constraint: str) -> None:
    from fairlearn.postprocessing import ThresholdOptimizer
    from sklearn.base import BaseEstimator

    scores, labels, frame = sample(800)

    class Known(BaseEstimator):
        def fit(self, *_: object) -> None: ...

        def __sklearn_is_fitted__(self) -> bool:
            return True

        def predict(self, values: np.ndarray) -> np.ndarray:
            return values[:, 0]

    optimizer = ThresholdOptimizer(
        estimator=Known(),
        constraints=constraint,
        objective="balanced_accuracy_score",
        prefit=True,
        predict_method="predict",
    )
    optimizer.fit(scores[:, [1]], labels, sensitive_features=frame["tone"])
    expected = optimizer._pmf_predict(scores[:, [1]], sensitive_features=frame["tone"])[:, 1]
    rule = fit_group_thresholds(scores, labels, frame, positive=1, features=("tone",), constraint=constraint)  # type: ignore[arg-type]
    for group, mixture in rule.mixtures.items():
        rows = (frame["tone"] == group).to_numpy()
        np.testing.assert_allclose(mixture.chance(scores[rows, 1]), expected[rows], atol=1e-12)
    decided = rule.decide(scores, frame)
    assert decided.mean() == pytest.approx(expected.mean(), abs=0.05)


def test_a_rule_survives_json_and_decides_alike_in_any_order() -> None:
    scores, labels, frame = sample(400)
    rule = fit_group_thresholds(scores, labels, frame, positive=1, features=("tone",), constraint="equalized_odds")
    again = DecisionRule.from_dict(json.loads(json.dumps(rule.to_dict())))
    decided = rule.decide(scores, frame)
    np.testing.assert_array_equal(again.decide(scores, frame), decided)
    order = np.random.default_rng(1).permutation(len(frame))
    np.testing.assert_array_equal(rule.decide(scores[order], frame.iloc[order]), decided[order])


def test_the_constraint_narrows_the_gap_it_is_about() -> None:
    scores, labels, frame = sample(4000)
    dark = (frame["tone"] == "dark").to_numpy()

    def gap(decided: np.ndarray) -> float:
        return abs(float(decided[dark].mean() - decided[~dark].mean()))

    rule = fit_group_thresholds(scores, labels, frame, positive=1, features=("tone",), constraint="demographic_parity")
    assert gap(rule.decide(scores, frame)) < 0.05 < gap((scores[:, 1] > 0.5).astype(int))


def test_what_cannot_be_fitted_or_decided_is_an_error() -> None:
    scores, labels, frame = sample(100)
    with pytest.raises(DataError, match="both classes"):
        fit_single_threshold(scores, np.zeros_like(labels), 1)
    one_sided = np.where(frame["tone"] == "dark", 0, labels)
    with pytest.raises(DataError, match="group dark has validation images of one class only"):
        fit_group_thresholds(scores, one_sided, frame, positive=1, features=("tone",), constraint="equalized_odds")
    rule = fit_group_thresholds(scores, labels, frame, positive=1, features=("tone",), constraint="equalized_odds")
    with pytest.raises(DataError, match="no threshold was fitted for group"):
        rule.decide(scores, frame.assign(tone="green"))


def test_probabilities_are_a_softmax_that_does_not_overflow() -> None:
    values = probabilities(np.array([[1000.0, 1000.0], [-1e30, 0.0]], dtype=np.float32))
    np.testing.assert_allclose(values, [[0.5, 0.5], [0.0, 1.0]])
