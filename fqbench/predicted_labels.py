"""Predicted labels: from logits, or from the table of another program, to one class per image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fqbench.contracts.runtime import Level
from fqbench.contracts.task import two_classes
from fqbench.data.samples import Samples
from fqbench.errors import DataError, InputError, did_you_mean
from fqbench.fairness.decisions import DecisionRule, probabilities
from fqbench.predictions import ArtifactPredictions
from fqbench.storage import file_digest, text_digest

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

SHOWN = 3


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
    table = _read(file) if output is None else _of_output(file, output)
    if table["sample_id"].duplicated().any():
        twice = table["sample_id"][table["sample_id"].duplicated()].iloc[0]
        raise DataError(f"{file} has two predictions for {twice}; give one row per image.")
    known, given = set(expected["sample_id"]), set(table["sample_id"])
    for what, names in (("lacks", known - given), ("holds images that are not in this split:", given - known)):
        if names:
            first = ", ".join(sorted(names)[:SHOWN])
            raise DataError(
                f"{file} {what} {len(names)} image(s), {first} first; predict exactly the images of the split."
            )
    table = table.set_index("sample_id").loc[expected["sample_id"]]
    logits = None
    if "logits" in table:
        logits = np.stack([np.asarray(row, dtype=np.float32) for row in table["logits"]])
        if logits.shape[1] != len(samples.classes) or not np.isfinite(logits).all():
            raise DataError(f"{file} needs {len(samples.classes)} finite logits per image, one per class.")
    if logits is not None and ("prediction" not in table or rule is not None):
        labels = logits.argmax(axis=1) if rule is None else rule.decide(probabilities(logits), expected)
    elif rule is not None:
        raise InputError(f"{file} holds no logits, so --threshold cannot be applied to it; add a column logits.")
    else:
        labels = _class_indices(file, table["prediction"].tolist(), samples.classes)
    digest = file_digest(file)
    name = f"file:{digest[:10]}"
    return PredictedLabels(
        id=name,
        label=file.stem,
        predictions_id=name,
        runtime=f"made elsewhere ({file.name})",
        digest=_digest(digest, rule),
        frame=expected,
        labels=np.asarray(labels, dtype=np.int64),
        logits=logits,
    )


def _of_output(file: Path, output: Output) -> pd.DataFrame:
    """Return the predictions of one attribute: its own column, or its logit among those of all."""
    table = _table(file)
    if "sample_id" in table and output.name in table:
        return table[["sample_id", output.name]].rename(columns={output.name: "prediction"})
    if not {"sample_id", "logits"} <= set(table.columns):
        columns = ", ".join(map(str, table.columns))
        raise InputError(f"{file} needs the columns sample_id and {output.name} (or logits), and has: {columns}.")
    logits = [np.asarray(row, dtype=np.float32) for row in table["logits"]]
    wrong = next((row.size for row in logits if row.size != output.count), None)
    if wrong is not None:
        raise DataError(f"{file} has {wrong} logits for an image; {output.count} are needed, one per attribute.")
    pairs = two_classes(np.array([row[output.index] for row in logits], dtype=np.float32))
    return table[["sample_id"]].assign(logits=list(pairs))


def _read(file: Path) -> pd.DataFrame:
    table = _table(file)
    if "sample_id" not in table or not {"prediction", "logits"} & set(table.columns):
        columns = ", ".join(map(str, table.columns))
        raise InputError(f"{file} needs the columns sample_id and prediction (or logits), and has: {columns}.")
    return table


def _table(file: Path) -> pd.DataFrame:
    import pandas as pd

    if not file.is_file():
        raise InputError(f"no predictions file {file}; check --predictions.")
    try:
        table = pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_csv(file, dtype={"sample_id": str})
    except Exception as error:
        raise DataError(f"{file} is neither Parquet nor CSV ({str(error).splitlines()[0][:100]}).") from error
    return table


def _class_indices(file: Path, values: list[object], classes: tuple[str, ...]) -> list[int]:
    places = {name: index for index, name in enumerate(classes)}
    found = []
    for value in values:
        if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and 0 <= value < len(classes):
            found.append(int(value))
        elif str(value) in places:
            found.append(places[str(value)])
        else:
            raise DataError(f"{file} predicts {value!r}, which is not a class: {did_you_mean(str(value), classes)}")
    return found


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
