"""Predicted labels: from logits, or from the table of another program, to one class per image."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fqbench.contracts.runtime import Level
from fqbench.contracts.task import two_classes
from fqbench.data.answers import READING, read_answers
from fqbench.data.samples import Samples
from fqbench.errors import DataError, InputError
from fqbench.fairness.decisions import DecisionRule, probabilities
from fqbench.predictions import ArtifactPredictions
from fqbench.storage import file_digest, text_digest

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Output:
    """One of several attributes: its number among the outputs, its name, and how many there are."""

    index: int
    name: str
    count: int


@dataclass(frozen=True)
class PredictedLabels:
    """Predicted classes of one artifact, or of a table made elsewhere.

    Attributes
    ----------
    id, label, predictions_id, runtime : str
        What they came from.
    digest : str
        SHA-256 of the predictions and of the rule that decided.
    frame : DataFrame
        The rows of the table of samples, one per image.
    labels : ndarray of int64, shape (images,)
        Index of the predicted class of each.
    logits : ndarray of float32, shape (images, classes), or None
        None where the table held classes only.
    level : Level
        How the artifact was executed.
    """

    id: str
    label: str
    predictions_id: str
    runtime: str
    digest: str
    frame: pd.DataFrame
    labels: NDArray[np.int64]
    logits: NDArray[np.float32] | None
    level: Level = Level.NATIVE

    def where(self, feature: str, value: str) -> PredictedLabels:
        """Return the part with one value of a feature."""
        mask = (self.frame[feature].astype(str) == value).to_numpy()
        logits = None if self.logits is None else self.logits[mask]
        return replace(self, frame=self.frame[mask], labels=self.labels[mask], logits=logits)


def predicted_labels(
    predictions: Sequence[ArtifactPredictions],
    samples: Samples,
    *,
    threshold: float | None = None,
    positive: str | None = None,
    files: Sequence[Path] = (),
    output: Output | None = None,
) -> list[PredictedLabels]:
    """Return the labels that artifacts and tables of other programs predict, all on the same images.

    Parameters
    ----------
    predictions : sequence of ArtifactPredictions
        At least one.
    samples : Samples
        The data set, with one label.
    threshold : float, optional
        Probability from which the positive class is predicted, in place of an artifact's own rule.
    positive : str, optional
        The positive class.
    files : sequence of Path
        Predictions of other programs, as CSV or Parquet.
    output : Output, optional
        The attribute that is looked at, if several are predicted.

    Raises
    ------
    InputError
        A threshold with more than two classes, or a table without the columns.
    DataError
        A table of other images than those of the split.
    """
    if threshold is not None and len(samples.classes) != 2:
        raise InputError(f"--threshold needs two classes, and {samples.name} has {len(samples.classes)}.")
    rule = None if threshold is None else DecisionRule.single(samples.classes.index(str(positive)), threshold)
    if output is not None:
        predictions = [answer.of_attribute(output.index, output.name) for answer in predictions]
    decided = [_of_artifact(answer, rule or _stored_rule(answer)) for answer in predictions]
    decided += [_of_file(file, samples, decided[0].frame, rule, output) for file in files]
    _same_images(decided)
    return decided


def _stored_rule(answer: ArtifactPredictions) -> DecisionRule | None:
    stored = answer.artifact.decision
    return DecisionRule.from_dict(stored) if stored else None


def _of_artifact(answer: ArtifactPredictions, rule: DecisionRule | None) -> PredictedLabels:
    facts, logits = answer.entry.manifest.determined_by, answer.predictions.logits
    return PredictedLabels(
        id=answer.artifact.id,
        label=answer.artifact.label,
        predictions_id=answer.entry.id,
        runtime=f"{facts['backend']} {facts['runtime']} on {facts['device']}",
        digest=_digest(answer.entry.digest, rule),
        frame=answer.frame,
        labels=answer.predictions.labels if rule is None else rule.decide(probabilities(logits), answer.frame),
        logits=logits,
        level=answer.level,
    )


def _of_file(
    file: Path, samples: Samples, expected: pd.DataFrame, rule: DecisionRule | None, output: Output | None
) -> PredictedLabels:
    table = read_answers(file, None if output is None else output.name)
    rows = table.rows_of(expected["sample_id"].tolist())
    logits = table.logits
    if logits is not None:
        count = len(samples.classes) if output is None else output.count
        if logits.shape[1] != count:
            what = "class" if output is None else "attribute"
            raise DataError(f"{file} has {logits.shape[1]} logits per image; {count} are needed, one per {what}.")
        logits = logits[rows]
        if output is not None:
            logits = two_classes(logits[:, output.index]).astype(np.float32)
    if logits is not None and (table.predictions is None or rule is not None):
        labels = logits.argmax(axis=1) if rule is None else rule.decide(probabilities(logits), expected)
    elif rule is not None:
        raise InputError(f"{file} holds no logits, so --threshold cannot be applied to it; add a column logits.")
    else:
        labels = table.classes_of(samples.classes)[rows]
        if logits is not None and output is None:
            _compare(file, labels, logits, samples.classes)
    digest = file_digest(file)
    name = f"file:{digest[:10]}"
    return PredictedLabels(
        id=name,
        label=file.stem,
        predictions_id=name,
        runtime=f"made elsewhere ({file.name})",
        digest=_digest(f"{digest} {READING}", rule),
        frame=expected,
        labels=np.asarray(labels, dtype=np.int64),
        logits=logits,
    )


def _compare(file: Path, labels: NDArray[np.int64], logits: NDArray[np.float32], classes: Sequence[str]) -> None:
    """Warn where most predictions are not the class of the largest logit: the logits are in another order, perhaps."""
    differ = int((logits.argmax(axis=1) != labels).sum())
    if differ > len(labels) / 2:
        logger.warning(
            "%s: the prediction is not the class of the largest logit for %d of %d images; logits must be in the order "
            "%s.",
            file,
            differ,
            len(labels),
            ", ".join(classes),
        )


def _digest(predictions: str, rule: DecisionRule | None) -> str:
    return text_digest(f"{predictions} {rule.to_dict() if rule else None}")


def _same_images(decided: Sequence[PredictedLabels]) -> None:
    first = decided[0].frame["sample_id"].to_numpy()
    for one in decided[1:]:
        if not np.array_equal(one.frame["sample_id"].to_numpy(), first):
            raise DataError(
                f"{one.label} was run on other images than {decided[0].label}; "
                "evaluate artifacts of one data set together."
            )
