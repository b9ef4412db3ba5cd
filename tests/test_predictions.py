"""Predictions on disk and back, and a runtime that answers NaN."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fqbench.config import Preprocessing
from fqbench.data.images import PreparedImages
from fqbench.errors import DataError
from fqbench.plugins import Arithmetic
from fqbench.predictions import Predictions, predict, read_predictions, write_predictions


class Mean:
    """Answers the mean of each channel; with ``spoil`` NaN for one image."""

    arithmetic = Arithmetic(0, 1)

    def __init__(self, spoil: int | None = None) -> None:
        self.spoil, self.seen = spoil, 0
        self.buffer = np.empty((64, 3), np.float32)

    def run(self, images: np.ndarray) -> np.ndarray:
        answer = self.buffer[: len(images)]
        answer[:] = images.mean(axis=(2, 3))
        if self.spoil is not None and self.seen <= self.spoil < self.seen + len(images):
            answer[self.spoil - self.seen] = np.nan
        self.seen += len(images)
        return answer


def store(count: int) -> PreparedImages:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return PreparedImages(pixels, np.array([f"s{index}" for index in range(count)]), Preprocessing(size=8))


@pytest.mark.parametrize("batch_size", [1, 3, 7, 64])
def test_order_and_batches(batch_size: int) -> None:
    """The session writes every answer into the same buffer, as some runtimes do."""
    images, rows = store(7), np.array([6, 0, 3, 3, 5])
    result = predict(Mean(), images, rows, batch_size=batch_size)
    assert result.sample_ids.tolist() == ["s6", "s0", "s3", "s3", "s5"]
    np.testing.assert_allclose(result.logits, images.batch(rows).mean(axis=(2, 3)), rtol=1e-6)


def test_nan_names_the_first_image() -> None:
    with pytest.raises(DataError, match="returns NaN or infinity for 1 images, the first is s4"):
        predict(Mean(spoil=4), store(9), np.arange(9), batch_size=2)


@settings(max_examples=25)
@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 20), st.integers(2, 5)), elements=st.floats(-1e6, 1e6, width=32))
)
def test_what_is_written_is_what_is_read(tmp_path_factory: pytest.TempPathFactory, logits: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("predictions") / "predictions.parquet"
    ids = np.array([f"image/{index}.jpg" for index in range(len(logits))])
    write_predictions(Predictions(ids, logits), path)
    back = read_predictions(path, expected=ids.tolist())
    np.testing.assert_array_equal(back.logits, logits)
    assert back.sample_ids.tolist() == ids.tolist()
    assert pd.read_parquet(path)["prediction"].tolist() == logits.argmax(axis=1).tolist()


def test_another_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "predictions.parquet"
    write_predictions(Predictions(np.array(["a", "b"]), np.zeros((2, 2), np.float32)), path)
    with pytest.raises(DataError, match="does not hold the images of this split in order"):
        read_predictions(path, expected=["b", "a"])
    pd.DataFrame({"sample_id": ["a"]}).to_parquet(path)
    with pytest.raises(DataError, match="has no column logits"):
        read_predictions(path)
