"""Predictions: a loaded artifact and prepared images in, logits and predicted classes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fqbench.errors import DataError
from fqbench.reporter import Reporter, Silent

if TYPE_CHECKING:
    import pandas as pd
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
    """

    sample_ids: NDArray[np.str_]
    logits: NDArray[np.float32]

    @property
    def labels(self) -> NDArray[np.int64]:
        """Index of the largest logit of each row, the first where several are equal; shape (n,)."""
        return np.asarray(np.argmax(self.logits, axis=1), dtype=np.int64)


@dataclass(frozen=True)
class ArtifactPredictions:
    """An artifact's predictions on a split, with the table rows that they belong to."""

    artifact: Artifact
    frame: pd.DataFrame
    predictions: Predictions
    entry: Entry[PredictionFacts]

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
    return Predictions(ids, logits)


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
            "prediction": pa.array(predictions.labels, type=pa.int64()),
        }
    )
    assert table.num_rows == count  # noqa: S101  # columns of unequal length would have raised above
    parquet.write_table(table, path)


def read_predictions(path: Path, *, expected: Sequence[str] | None = None) -> Predictions:
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
    return Predictions(ids, logits)
