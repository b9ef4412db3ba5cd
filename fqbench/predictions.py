"""Predictions: a loaded artifact and prepared images in, logits and predicted classes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fqbench.contracts.task import PredictionTask, two_classes
from fqbench.data.samples import attribute_column
from fqbench.errors import DataError
from fqbench.reporter import Reporter, Silent

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray

    from fqbench.contracts.artifacts import Artifact
    from fqbench.contracts.runtime import Arithmetic, Level
    from fqbench.data.images import PreparedImages
    from fqbench.plugins import Session
    from fqbench.workspace import Entry
    from fqbench.workspace.kinds import PredictionFacts

PREDICTIONS = "predictions.parquet"


@dataclass(frozen=True)
class Predictions:
    """The predictions of an artifact.

    Attributes
    ----------
    sample_ids : ndarray of str, shape (n,)
        Which image each row is.
    logits : ndarray of float32, shape (n, classes)
        As the runtime gave them.
    task : PredictionTask
        Whether they are of classes or of attributes.
    """

    sample_ids: NDArray[np.str_]
    logits: NDArray[np.float32]
    task: PredictionTask = PredictionTask.CLASSES

    @property
    def labels(self) -> NDArray[np.int64]:
        """Index of the largest logit of each row, the first where several are equal; or 0 and 1 of each attribute."""
        return self.task.answers(self.logits)

    def of_output(self, index: int) -> Predictions:
        """Return the predictions of one attribute, as logits of two classes: no and yes."""
        return Predictions(self.sample_ids, two_classes(self.logits[:, index]).astype(np.float32))


@dataclass(frozen=True)
class ArtifactPredictions:
    """An artifact's predictions on a split, with the table rows that they belong to."""

    artifact: Artifact
    frame: pd.DataFrame
    predictions: Predictions
    entry: Entry[PredictionFacts]

    def of_attribute(self, index: int, name: str) -> ArtifactPredictions:
        """Return the predictions of one attribute with its own labels, as if nothing else had been predicted."""
        frame = self.frame.assign(label=self.frame[attribute_column(name)])
        return replace(self, frame=frame, predictions=self.predictions.of_output(index))

    @property
    def arithmetic(self) -> Arithmetic:
        """Where the multiply-accumulates ran."""
        return self.entry.facts.arithmetic

    @property
    def level(self) -> Level:
        """How the artifact was executed."""
        return self.entry.facts.level


def predict(
    session: Session,
    images: PreparedImages,
    rows: NDArray[np.int64],
    *,
    batch_size: int,
    what: str = "predicting",
    task: PredictionTask = PredictionTask.CLASSES,
    reporter: Reporter | None = None,
) -> Predictions:
    """Run a session over prepared images; the next batch is prepared while one runs.

    Parameters
    ----------
    session : Session
        A loaded artifact.
    images : PreparedImages
        The prepared store.
    rows : ndarray of int64, shape (n,)
        Rows of the store, in the order of the result.
    batch_size : int
        Images a call.
    what : str
        Name of the work in the progress bar.
    task : PredictionTask
        Whether the logits are of classes or of attributes.
    reporter : Reporter, optional
        Shown progress.

    Raises
    ------
    DataError
        The runtime answered with NaN or infinity; the message names the first image.
    """
    reporter = reporter or Silent()
    answers: list[NDArray[np.float32]] = []
    with reporter.track(what, len(rows), "images") as advance:
        for batch in images.batches(rows, batch_size):
            answers.append(np.array(session.run(batch), dtype=np.float32))
            advance(len(batch))
    logits = np.concatenate(answers)
    ids = images.sample_ids[rows]
    broken = ~np.isfinite(logits).all(axis=1)
    if broken.any():
        first = ids[int(np.argmax(broken))]
        raise DataError(
            f"the model returns NaN or infinity for {int(broken.sum())} images, the first is {first}; "
            "its weights or ranges are damaged: train or quantize it again."
        )
    return Predictions(ids, logits, task)


def write_predictions(predictions: Predictions, path: Path) -> None:
    """Write ``sample_id, logits, prediction`` as Parquet."""
    import pyarrow as pa
    from pyarrow import parquet

    count, classes = predictions.logits.shape
    flat = pa.array(predictions.logits.ravel(), type=pa.float32())
    table = pa.table(
        {
            "sample_id": pa.array(predictions.sample_ids.tolist(), type=pa.string()),
            "logits": pa.FixedSizeListArray.from_arrays(flat, classes),
            "prediction": _column(predictions.labels),
        }
    )
    assert table.num_rows == count  # noqa: S101  # columns of unequal length would have raised above
    parquet.write_table(table, path)


def _column(labels: NDArray[np.int64]) -> pa.Array:
    """Return classes as numbers, and attributes as a list of 0 and 1 per image."""
    import pyarrow as pa

    flat = pa.array(labels.ravel(), type=pa.int64())
    return flat if labels.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, labels.shape[1])


def read_predictions(
    path: Path, *, expected: Sequence[str] | None = None, task: PredictionTask = PredictionTask.CLASSES
) -> Predictions:
    """Read what `write_predictions` wrote.

    Raises
    ------
    DataError
        The table lacks a column, or its sample ids are not the ``expected`` ones, in that order.
    """
    from pyarrow import parquet

    table = parquet.read_table(path)
    missing = {"sample_id", "logits"} - set(table.column_names)
    if missing:
        raise DataError(f"{path} has no column {', '.join(sorted(missing))}; it needs sample_id and logits.")
    ids = np.asarray(table["sample_id"].to_pylist(), dtype=np.str_)
    logits = np.stack(table["logits"].to_numpy(zero_copy_only=False)).astype(np.float32)
    if expected is not None and list(expected) != ids.tolist():
        raise DataError(f"{path} does not hold the images of this split in order; predict again.")
    return Predictions(ids, logits, task)
