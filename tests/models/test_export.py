"""A user's own ONNX file: what is taken, and how each thing that does not fit is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from fqbench.config import Preprocessing, PreprocessingOptions
from fqbench.errors import InputError
from fqbench.models.export import adopt, read_preprocessing
from tests.conftest import write_classifier

STATED = PreprocessingOptions(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


def test_preprocessing_and_classes_travel_inside_the_file(classifier: Path, tmp_path: Path) -> None:
    preprocessing, facts = adopt(classifier, STATED, ("no", "yes"), tmp_path)
    assert preprocessing == Preprocessing(size=32, mean=STATED.mean, std=STATED.std)
    assert read_preprocessing(tmp_path / "model.onnx") == (preprocessing, ("no", "yes"))
    assert facts["opset"] == 21


def test_a_file_that_fqbench_wrote_needs_no_flags(classifier: Path, tmp_path: Path) -> None:
    preprocessing, _facts = adopt(classifier, STATED, ("no", "yes"), tmp_path)
    again = tmp_path / "again"
    again.mkdir()
    assert adopt(tmp_path / "model.onnx", PreprocessingOptions(), ("no", "yes"), again)[0] == preprocessing


def test_every_node_gets_a_name(classifier: Path, tmp_path: Path) -> None:
    adopt(classifier, STATED, ("no", "yes"), tmp_path)
    names = [node.name for node in onnx.load(tmp_path / "model.onnx").graph.node]
    assert all(names)
    assert len(set(names)) == len(names)


def test_a_dynamic_size_needs_the_flag(tmp_path: Path) -> None:
    path = write_classifier(tmp_path / "any.onnx", side="side")
    with pytest.raises(InputError, match="give --size"):
        adopt(path, STATED, ("no", "yes"), tmp_path)
    preprocessing, _facts = adopt(path, STATED.model_copy(update={"size": 48}), ("no", "yes"), tmp_path)
    assert preprocessing.size == 48


@pytest.mark.parametrize(
    ("model", "asked", "classes", "message"),
    [
        ({"batch": 1}, STATED, ("no", "yes"), "has a fixed batch of 1; export it with a dynamic batch"),
        ({}, PreprocessingOptions(), ("no", "yes"), "give --mean --std"),
        ({}, STATED.model_copy(update={"size": 64}), ("no", "yes"), "--size 64 contradicts the input of .* 32x32"),
        ({}, STATED, ("a", "b", "c"), "the data have 3 classes"),
        ({"classes": 3}, STATED, ("no", "yes"), r"answers with shape \(2, 3\) for 2 images"),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    tmp_path: Path, model: dict, asked: PreprocessingOptions, classes: tuple[str, ...], message: str
) -> None:
    path = write_classifier(tmp_path / "other.onnx", **model)
    with pytest.raises(InputError, match=message):
        adopt(path, asked, classes, tmp_path)


def test_another_input_shape_is_refused(tmp_path: Path) -> None:
    path = write_classifier(tmp_path / "flat.onnx")
    model = onnx.load(path)
    del model.graph.input[0].type.tensor_type.shape.dim[3]
    onnx.save(model, path)
    with pytest.raises(
        InputError,
        match=r"takes images of shape \['batch', 3, 32\]; float32 \(N, 3, H, W\) is needed|is not a valid ONNX",
    ):
        adopt(path, STATED, ("no", "yes"), tmp_path)


def test_no_onnx_at_all(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(InputError, match="no ONNX file"):
        adopt(path, STATED, ("no", "yes"), tmp_path)
    path.write_bytes(np.random.default_rng(0).bytes(100))
    with pytest.raises(InputError, match="is not a valid ONNX model"):
        adopt(path, STATED, ("no", "yes"), tmp_path)
