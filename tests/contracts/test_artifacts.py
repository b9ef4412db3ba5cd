"""An exported model and the files that belong to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from fqbench import plugins
from fqbench.contracts.artifacts import ExportedModel
from fqbench.contracts.scheme import Scheme
from fqbench.reference_executor import reference_session
from fqbench.testing.tiny_model import pictures, tiny_model


@pytest.fixture
def large(tmp_path: Path) -> ExportedModel:
    """Write the suite's model as `export` writes those above 2 GB."""
    folder = tmp_path / "model"
    folder.mkdir()
    model = tiny_model(folder)
    onnx.save(
        onnx.load(model.path), model.path, save_as_external_data=True, location="model.onnx.data", size_threshold=0
    )
    return model


def answers(model: Path) -> NDArray[np.float32]:
    """Run a file in its folder, where its external data have to be."""
    logits: NDArray[np.float32] = reference_session(model).run(None, {"images": pictures(4, seed=2)})[0]
    return logits


def test_copied_files_keep_their_names_and_answer_alike(large: ExportedModel, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    out.mkdir()
    assert large.copy_files(out) == ("model.onnx", "model.onnx.data")
    np.testing.assert_array_equal(answers(out / "model.onnx"), answers(large.path))


@pytest.mark.parametrize("name", ["ort", "openvino", "trt"])
def test_a_float_artifact_has_its_external_data(name: str, large: ExportedModel, tmp_path: Path) -> None:
    out = tmp_path / name
    out.mkdir()
    artifact = plugins.backend(name).quantize(large, Scheme.float32(), None, out)
    assert artifact.main_file == out / "model.onnx"
    assert "model.onnx.data" in artifact.files
    np.testing.assert_array_equal(answers(artifact.main_file), answers(large.path))
