"""Threshold: an artifact's decision threshold fitted on the validation split, stored as a decision of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

import numpy as np

from fqbench.catalogue import artifact_named, open_artifact
from fqbench.contracts.artifacts import Artifact
from fqbench.errors import InputError, did_you_mean
from fqbench.fairness import decisions
from fqbench.fairness.decisions import Constraint, DecisionRule, probabilities
from fqbench.fairness.evaluated import Evaluation
from fqbench.run import Run
from fqbench.stages.evaluate import evaluate
from fqbench.stages.named import positive_class
from fqbench.stages.predict import predict_split
from fqbench.stages.quantize import quantize, reference
from fqbench.stages.read import read
from fqbench.workspace import Derivation
from fqbench.workspace.kinds import DECISIONS, DecisionFacts

if TYPE_CHECKING:
    from numpy.typing import NDArray

FITTED_ON = "val"


def calibrate_threshold(run: Run, artifact_id: str | None, constraint: str | None) -> Evaluation:
    """Fit a threshold on the validation split and evaluate artifact and result on the configured split.

    Parameters
    ----------
    run : Run
        The experiment; ``by`` says which groups a constraint is about.
    artifact_id : str, optional
        The artifact; the configured one by default.
    constraint : str, optional
        None fits one threshold with the best balanced accuracy; else fairlearn's ``ThresholdOptimizer`` fits thresholds
        per group under this constraint.

    Returns
    -------
    Evaluation
        FP32, the artifact as it was, and with the fitted decision.

    Raises
    ------
    InputError
        More than two classes, or an unknown constraint.
    """
    known = get_args(Constraint)
    if constraint is not None and constraint not in known:
        raise InputError(f"unknown constraint {constraint!r}: {did_you_mean(constraint, known)}")
    samples = read(run)
    samples.require_one_label("calibrate-threshold")
    if len(samples.classes) != 2:
        raise InputError(f"a threshold needs two classes, and {samples.name} has {len(samples.classes)}.")
    positive_class(run, samples)
    artifact = artifact_named(run.workspace, artifact_id) if artifact_id else quantize(run)
    fitted = with_threshold(run, artifact, cast("Constraint | None", constraint))
    baseline = reference(run, artifact.backend)
    return evaluate(run, list({one.id: one for one in (baseline, artifact, fitted)}.values()))


def with_threshold(run: Run, artifact: Artifact, constraint: Constraint | None) -> Artifact:
    """Return the artifact that decides by a rule fitted on its own validation predictions."""
    samples = read(run)
    answered = predict_split(run.with_options("eval", split=FITTED_ON), artifact)
    positive = samples.classes.index(cast(str, positive_class(run, samples)))
    features = samples.features(run.config.eval.by) if constraint else ()
    derivation = Derivation(
        kind=DECISIONS,
        slug=f"{artifact.id.rpartition('-')[0]}-{'thresholds' if constraint else 'threshold'}",
        determined_by={
            "artifact": artifact.digest,
            "predictions": answered.entry.digest,
            "positive": positive,
            "features": list(features),
            "constraint": constraint,
        },
        inputs={
            "model": artifact.model_id,
            "artifact": artifact.id,
            "predictions": answered.entry.id,
        },
    )

    def build(_out: Path) -> DecisionFacts:
        scores = probabilities(answered.predictions.logits)
        rule = _fit(scores, answered.frame["label"].to_numpy(dtype=np.int64))
        return DecisionFacts(rule=rule.to_dict(), constraint=constraint, fitted_on=answered.entry.id)

    def _fit(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> DecisionRule:
        if constraint is None:
            return decisions.fit_single_threshold(scores, labels, positive)
        return decisions.fit_group_thresholds(
            scores, labels, answered.frame, positive=positive, features=features, constraint=constraint
        )

    what = f"thresholds per group for {constraint}" if constraint else "a threshold"
    doing = f"fitting {what} of {artifact.label} on the validation split"
    return open_artifact(run.workspace, run.produce(derivation, build, doing))
