"""The convention that a model was written for is found on labelled images, and only where they decide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fqbench.config import configure
from fqbench.models.adopt import Meaning, read_source
from fqbench.models.adopt.check import Checked, check
from tests.models.adopt.network import Written, pictures, write


def checked(folder: Path, how: Written, count: int = 400, labels: np.ndarray | None = None) -> Checked:
    pixels, attributes = pictures(count, seed=21)
    config = configure(onnx=write(folder / "a.onnx", how), layout=how.layout, mean="none")
    source = read_source(folder / "a.onnx", config.model, config.preprocessing)
    return check(source, pixels, attributes[:, 1] if labels is None else labels, Meaning(("no", "yes")))


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_values_to_255_with_preprocessing_inside(tmp_path: Path, layout: str) -> None:
    found = checked(tmp_path, Written(layout=layout, preprocessing="inside"))
    best = found.tried[0]
    assert best.accuracy > 0.9
    assert "--channels rgb --scale-pixels 255 --mean none" in best.options
    assert ("--layout nhwc" in best.options) == (layout == "nhwc")
    assert found.p_value < 0.05
    assert found.verdict.startswith("400 images speak for RGB, values from 0 to 255: ")


def test_few_images_do_not_decide(tmp_path: Path) -> None:
    found = checked(tmp_path, Written(), count=12)
    assert found.p_value >= 0.05
    assert "cannot tell the best from the next" in found.verdict or "constant answer" in found.verdict


def test_labels_of_something_else_speak_for_nothing(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 2, 400)
    assert "No convention is better than a constant answer" in checked(tmp_path, Written(), labels=labels).verdict
