"""The exported graph: names by module, the head, external data, and parity on every architecture of the study."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest

from fqbench.config import ModelOptions, Preprocessing, PreprocessingOptions
from fqbench.errors import DataError, InputError
from fqbench.models import adopt, export, zoo
from fqbench.models.graph_names import head_of, name_missing
from fqbench.models.preprocessing import preprocessing_of
from tests.conftest import write_classifier

torch = pytest.importorskip("torch")

CLASSES = ("no", "yes")


class Small(torch.nn.Module):
    """Convolutions with BatchNorm, a linear layer on a sequence, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, stride=2), torch.nn.BatchNorm2d(8), torch.nn.ReLU())
        self.mix = torch.nn.Linear(8, 64)
        self.head = torch.nn.Linear(64, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.stem(images).flatten(2).transpose(1, 2)
        return self.head(torch.nn.functional.gelu(self.mix(tokens)).mean(1))


def images(count: int = 4, size: int = 32) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, 3, size, size)).astype(np.float32)


def made(out: Path, **options: object) -> dict[str, object]:
    out.mkdir(exist_ok=True)
    torch.manual_seed(0)
    return export.export(Small().eval(), images(), Preprocessing(size=32), CLASSES, out, **options)


def test_nodes_are_named_after_modules_and_the_head_is_known(tmp_path: Path) -> None:
    facts = made(tmp_path)
    graph = onnx.load(tmp_path / "model.onnx").graph
    names = [node.name for node in graph.node]
    assert len(set(names)) == len(names)
    assert {"stem.0/Conv", "mix/MatMul", "head/Gemm"} <= set(names)
    assert {"stem.0.weight", "mix.weight_t", "head.weight"} <= {tensor.name for tensor in graph.initializer}
    assert facts["head"] == export.head_name(tmp_path / "model.onnx") == "head/Gemm"
    assert facts["files"] == ["model.onnx"]


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    digests = set()
    for name in ("a", "b"):
        made(tmp_path / name)
        digests.add(hashlib.sha256((tmp_path / name / "model.onnx").read_bytes()).hexdigest())
    assert len(digests) == 1


def test_weights_above_the_limit_lie_beside_the_graph(tmp_path: Path) -> None:
    facts = made(tmp_path / "model", external_above=500)
    folder = tmp_path / "model"
    assert facts["files"] == ["model.onnx", "model.onnx.data"] == sorted(path.name for path in folder.iterdir())
    assert facts["parity_max_abs"] < 1e-4
    inside = onnx.load(folder / "model.onnx", load_external_data=False)
    external = {tensor.name for tensor in inside.graph.initializer if tensor.data_location == tensor.EXTERNAL}
    assert external == {"mix.weight_t"}  # what is below a kilobyte stays
    out = tmp_path / "adopted"
    out.mkdir()
    source = adopt.read_source(folder / "model.onnx", ModelOptions(), PreprocessingOptions())
    again = adopt.adopt(source, np.zeros((2, 32, 32, 3), np.uint8), adopt.Meaning(CLASSES), out)
    assert again.preprocessing.mean == pytest.approx(Preprocessing().mean)
    assert again.facts["files"] == ["model.onnx"]


def test_a_graph_of_another_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = export.trace

    def other(_model: torch.nn.Module, batch: np.ndarray) -> onnx.ModelProto:
        torch.manual_seed(1)
        return trace(Small().eval(), batch)

    monkeypatch.setattr(export, "trace", other)
    with pytest.raises(DataError, match="the exported model's logits differ from torch's by up to"):
        made(tmp_path)


class Undecided(torch.nn.Module):
    """A forward whose path depends on the values, which no graph can follow."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        means = x.mean((2, 3))
        return means if means.sum() > 0 else -means


def test_a_model_that_torch_cannot_export_is_refused_with_its_reason(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"torch .* cannot export Undecided to ONNX \(.+\); .* with --onnx") as refused:
        export.trace(Undecided().eval(), np.zeros((2, 3, 8, 8), np.float32))
    assert "\x1b" not in str(refused.value)
    assert "\n" not in str(refused.value)
    assert capfd.readouterr() == ("", "")


def test_the_head_of_a_users_graph(tmp_path: Path) -> None:
    model = onnx.load(write_classifier(tmp_path / "own.onnx"))
    name_missing(model.graph.node)
    assert head_of(model.graph) == "classifier"
    assert all(node.name for node in model.graph.node)
    del model.graph.node[-1]
    model.graph.output[0].name = "f"
    assert head_of(model.graph) == "Conv_2"  # nothing but pooling follows


HEADS = {
    "resnet50": "fc/Gemm",
    "mobilenet_v2": "classifier/Gemm",
    "efficientnet_b0": "classifier/Gemm",
    "vit_small": "head/Gemm",
    "squeezenet1_1": "classifier.1/Conv",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo.STUDY)
def test_the_studys_models_at_their_own_size(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    architecture = zoo.find(name)
    preprocessing = preprocessing_of(architecture, PreprocessingOptions(), drawn_size=None)
    assert preprocessing.size == (224, 224)
    model = zoo.build(architecture, classes=2, size=224).eval()
    facts = export.export(model, images(2, 224), preprocessing, CLASSES, tmp_path)
    assert facts["parity_max_abs"] < 1e-4
    assert facts["head"] == HEADS[name]
    graph = onnx.load(tmp_path / "model.onnx").graph
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    modules = {path for path, _module in model.named_modules()}
    weighted = [node.name for node in graph.node if node.op_type in {"Conv", "Gemm"}]
    assert {name.rpartition("/")[0] for name in weighted} <= modules
