"""Training and export on a few drawn faces: the same seed gives the same bytes, and ONNX agrees with torch."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from fqbench.config import configure
from fqbench.errors import DataError, InputError
from fqbench.models.preprocessing import preprocessing_of
from fqbench.models.zoo import find
from fqbench.run import Run
from fqbench.stages.export import export
from fqbench.stages.train import train
from fqbench.workspace import Workspace
from fqbench.workspace.kinds import MODELS

torch = pytest.importorskip("torch")


def small(root: Path, **flags: object) -> Run:
    asked = {"images": 192, "image_size": 32, "epochs": 1, "batch_size": 32, "model": "resnet10t"}
    return Run(configure(**(asked | flags)), Workspace(root))


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_the_same_graph(tmp_path: Path) -> None:
    one, other = small(tmp_path / "a"), small(tmp_path / "b")
    assert train(one).digest == train(other).digest
    assert export(one).digest == export(other).digest
    assert train(small(tmp_path / "a", train_seed=1)).digest != train(one).digest


@pytest.mark.slow
def test_the_exported_model(tmp_path: Path) -> None:
    run = small(tmp_path)
    model = export(run)
    facts = run.workspace.get(model.id, MODELS).facts
    assert 0 <= facts.parity_max_abs < 1e-4
    graph = onnx.load(model.path)
    assert graph.opset_import[0].version >= 21
    assert graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert str(tmp_path).encode() not in model.path.read_bytes()
    assert b"site-packages" not in model.path.read_bytes()
    assert model.classes == ("not smiling", "smiling")


def test_unknown_model_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match="unknown model 'resnet10tt': did you mean 'resnet10t'"):
        find("resnet10tt")


@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v2", "efficientnet_b0", "vit_small", "squeezenet1_1"])
def test_the_five_models_of_the_study_by_plain_name(name: str) -> None:
    from fqbench.config import PreprocessingOptions

    preprocessing = preprocessing_of(find(name), PreprocessingOptions(), drawn_size=None)
    assert preprocessing.size == (224, 224)


def test_too_few_images_for_one_batch(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="less than one batch; lower --batch-size"):
        train(small(tmp_path, images=32, batch_size=512))
