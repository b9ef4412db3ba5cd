r"""Turn probabilities into decisions: the largest, a threshold, or thresholds per group.

Thresholds per group are those of fairlearn's ``ThresholdOptimizer`` (Hardt, Price and Srebro 2016): per group a
mixture of two thresholds, with which the chance of a positive decision is

.. math:: p_{ignore} c + (1 - p_{ignore}) (p_0 [s \gtrless t_0] + p_1 [s \gtrless t_1]).

The dice of a mixture are a hash of the sample id, so that the same image is always decided alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fqbench.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

Constraint = Literal["demographic_parity", "equalized_odds", "true_positive_rate_parity", "false_positive_rate_parity"]


@dataclass(frozen=True)
class Step:
    """Positive where the score is above (``>``) or below (``<``) a threshold; the threshold may be infinite."""

    operator: Literal[">", "<"]
    threshold: float

    def __call__(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return 1.0 where positive, else 0.0."""
        above = scores > self.threshold if self.operator == ">" else scores < self.threshold
        return np.asarray(above, dtype=np.float64)


@dataclass(frozen=True)
class Mixture:
    """Two steps and a constant, as weighted by ``ThresholdOptimizer``; a single threshold is ``p0 = 1``."""

    p0: float
    step0: Step
    p1: float
    step1: Step
    p_ignore: float = 0.0
    constant: float = 0.0

    def chance(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probability of a positive decision for each score."""
        mixed = self.p0 * self.step0(scores) + self.p1 * self.step1(scores)
        return np.asarray(self.p_ignore * self.constant + (1 - self.p_ignore) * mixed)


@dataclass(frozen=True)
class DecisionRule:
    """How a positive or negative decision is made; two classes.

    Attributes
    ----------
    positive : int
        Index of the positive class.
    features : tuple of str
        Sensitive features that the decision looks at; empty for a single threshold.
    mixtures : mapping of str to Mixture
        By group; the key "all" for a single threshold.
    """

    positive: int
    features: tuple[str, ...]
    mixtures: Mapping[str, Mixture]

    @classmethod
    def single(cls, positive: int, threshold: float) -> DecisionRule:
        """Return the rule "positive from this probability on", whatever the group."""
        below = float(np.nextafter(threshold, -np.inf))
        return cls(positive, (), {"all": Mixture(1.0, Step(">", below), 0.0, Step(">", below))})

    def decide(self, scores: NDArray[np.float64], frame: pd.DataFrame) -> NDArray[np.int64]:
        """Return the class of each image.

        Parameters
        ----------
        scores : ndarray of float64, shape (images, 2)
            Probabilities.
        frame : DataFrame
            Their rows: ``sample_id`` and the sensitive features.

        Raises
        ------
        DataError
            A group that the rule was not fitted on.
        """
        from fqbench.data.samples import group_labels

        groups = group_labels(frame, self.features)
        unknown = sorted(set(groups) - set(self.mixtures))
        if unknown:
            raise DataError(f"no threshold was fitted for group(s) {', '.join(unknown)}; fit it on data that has them.")
        positive = np.zeros(len(scores), dtype=bool)
        for group, mixture in self.mixtures.items():
            rows = np.flatnonzero(groups == group)
            chance = mixture.chance(scores[rows, self.positive])
            positive[rows] = chance >= 1
            mixed = rows[(chance > 0) & (chance < 1)]
            dice = np.array([_dice(sample_id) for sample_id in frame["sample_id"].iloc[mixed]])
            positive[mixed] = dice < chance[(chance > 0) & (chance < 1)]
        return np.where(positive, self.positive, 1 - self.positive).astype(np.int64)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; an infinite threshold is text."""
        mixtures = {
            group: {
                "p0": mixture.p0,
                "step0": [mixture.step0.operator, str(mixture.step0.threshold)],
                "p1": mixture.p1,
                "step1": [mixture.step1.operator, str(mixture.step1.threshold)],
                "p_ignore": mixture.p_ignore,
                "constant": mixture.constant,
            }
            for group, mixture in self.mixtures.items()
        }
        return {"positive": self.positive, "features": list(self.features), "mixtures": mixtures}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DecisionRule:
        """Return the rule that `to_dict` wrote."""
        mixtures = {
            group: Mixture(
                p0=one["p0"],
                step0=Step(one["step0"][0], float(one["step0"][1])),
                p1=one["p1"],
                step1=Step(one["step1"][0], float(one["step1"][1])),
                p_ignore=one["p_ignore"],
                constant=one["constant"],
            )
            for group, one in values["mixtures"].items()
        }
        return cls(values["positive"], tuple(values["features"]), mixtures)


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the softmax of logits (images, classes) in float64."""
    from scipy.special import softmax

    return np.asarray(softmax(logits.astype(np.float64), axis=1))


def fit_single_threshold(scores: NDArray[np.float64], labels: NDArray[np.int64], positive: int) -> DecisionRule:
    """Find the threshold with the best balanced accuracy; the middle one, where several are equally good.

    Parameters
    ----------
    scores : ndarray of float64, shape (images, 2)
        Probabilities on the validation split.
    labels : ndarray of int64, shape (images,)
        True classes.
    positive : int
        Index of the positive class.

    Raises
    ------
    DataError
        Only one class occurs.
    """
    truth, score = labels == positive, scores[:, positive]
    if truth.all() or not truth.any():
        raise DataError("a threshold needs validation images of both classes; add some of the missing one.")
    values = np.unique(score)
    cuts = np.concatenate([[0.0], (values[1:] + values[:-1]) / 2, [1.0]])
    above_true = np.searchsorted(np.sort(score[truth]), cuts, side="left")
    above_false = np.searchsorted(np.sort(score[~truth]), cuts, side="left")
    balanced = (1 - above_true / truth.sum() + above_false / (~truth).sum()) / 2
    best = np.flatnonzero(balanced >= balanced.max() - 1e-12)
    return DecisionRule.single(positive, float(np.clip(cuts[best[len(best) // 2]], 1e-9, 1 - 1e-9)))


def fit_group_thresholds(
    scores: NDArray[np.float64],
    labels: NDArray[np.int64],
    frame: pd.DataFrame,
    *,
    positive: int,
    features: Sequence[str],
    constraint: Constraint,
) -> DecisionRule:
    """Fit fairlearn's ``ThresholdOptimizer`` for balanced accuracy under a constraint, and keep its mixtures.

    Parameters
    ----------
    scores : ndarray of float64, shape (images, 2)
        Probabilities on the validation split.
    labels : ndarray of int64, shape (images,)
        True classes.
    frame : DataFrame
        Rows of the table of samples.
    positive : int
        Index of the positive class.
    features : sequence of str
        Sensitive features whose intersections are the groups.
    constraint : str
        What is to be equal between groups.

    Raises
    ------
    DataError
        A group lacks images of one class.
    """
    from fairlearn.postprocessing import ThresholdOptimizer
    from sklearn.base import BaseEstimator

    from fqbench.data.samples import group_labels

    class Known(BaseEstimator):  # type: ignore[misc]
        """An estimator that answers with its input: the probabilities are known already."""

        def fit(self, *_arguments: object) -> None:
            """Learn nothing."""

        def __sklearn_is_fitted__(self) -> bool:
            return True

        def predict(self, known: NDArray[np.float64]) -> NDArray[np.float64]:
            """Return the scores."""
            return np.asarray(known)[:, 0]

    groups, truth = group_labels(frame, features), (labels == positive).astype(int)
    for group in np.unique(groups):
        if len(np.unique(truth[groups == group])) < 2:
            raise DataError(
                f"group {group} has validation images of one class only; group by fewer features with --by."
            )
    optimizer = ThresholdOptimizer(
        estimator=Known(),
        constraints=constraint,
        objective="balanced_accuracy_score",
        prefit=True,
        predict_method="predict",
    )
    optimizer.fit(scores[:, [positive]], truth, sensitive_features=groups)
    fitted = optimizer.interpolated_thresholder_.interpolation_dict
    return DecisionRule(positive, tuple(features), {str(group): _mixture(one) for group, one in fitted.items()})


def _mixture(fitted: Any) -> Mixture:
    def step(operation: Any) -> Step:
        return Step(operation.operator, float(operation.threshold))

    return Mixture(
        p0=float(fitted.p0),
        step0=step(fitted.operation0),
        p1=float(fitted.p1),
        step1=step(fitted.operation1),
        p_ignore=float(fitted.get("p_ignore", 0.0)),
        constant=float(fitted.get("prediction_constant", 0.0)),
    )


def _dice(sample_id: str) -> float:
    """Uniform in [0, 1), a function of the sample id alone."""
    return int.from_bytes(hashlib.sha256(sample_id.encode()).digest()[:7], "big") / 2**56
