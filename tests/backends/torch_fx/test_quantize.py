"""What an FX artifact holds: ranges and integers of the calibration engine, the same as on ONNX Runtime."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from fqbench.backends.torch_fx.fx import prepare
from fqbench.backends.torch_fx.matching import match
from fqbench.backends.torch_fx.quantizing import network_of
from fqbench.backends.torch_fx.storage import DESCRIPTION, TENSORS
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper
from safetensors.torch import load_file, save_file

from fqbench import plugins
from fqbench.contracts.artifacts import Artifact, ExportedModel
from fqbench.contracts.qparams import QParams
from fqbench.contracts.scheme import Method, Override, Scheme
from fqbench.errors import DataError, InputError, SchemeNotSupported
from fqbench.models import export as exporting
from fqbench.models import zoo
from fqbench.quant.packing import pack_bits, unpack_bits
from fqbench.quant.ranges import tensor_ranges
from fqbench.testing.planned import write_artifact
from fqbench.testing.sampling import sampled
from fqbench.testing.tiny_model import calibration_set, pictures, tiny_model
from tests.backends.torch_fx.trained import trained

STUDY_SIZE = 64


@pytest.fixture
def model(tmp_path: Path) -> ExportedModel:
    (tmp_path / "model").mkdir()
    return trained("test_resnet", tmp_path / "model")


def quantized(model: ExportedModel, scheme: Scheme, folder: Path, backend: str = "torch_fx") -> Artifact:
    out = folder / f"{backend}-{scheme.label}"
    out.mkdir()
    return write_artifact(plugins.backend(backend), model, scheme, out, calibration_set())


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "vit_tiny_patch16_224"])
def test_every_quantized_activation_is_found_in_the_exported_graph(name: str, tmp_path: Path) -> None:
    model = trained(name, tmp_path)
    prepared = prepare(network_of(model), torch.zeros(2, 3, 32, 32), act_bits=8)
    matched = match(prepared, model.path, pictures(2, seed=5))
    assert len(prepared.sites) > 5
    assert len(matched) >= 0.95 * len(prepared.sites)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            Override(op="Relu", quantize=False),
            r"places the quantization of Relu \(.*\) itself; let overrides name layers",
        ),
        (Override(role="head", act_bits=4), r"same activation bits in all layers, but the recipe gives .* 4"),
    ],
)
def test_what_fx_cannot_be_told_is_refused(override: Override, said: str, model: ExportedModel, tmp_path: Path) -> None:
    with pytest.raises(SchemeNotSupported, match=said) as refused:
        quantized(model, Scheme(range_rule="minmax", overrides=(override,)), tmp_path)
    assert refused.value.exit_code == 2


def test_ranges_are_those_of_the_calibration_record(model: ExportedModel, tmp_path: Path) -> None:
    scheme = Scheme(range_rule="percentile=99.9", calib_policy="balanced")
    artifact = quantized(model, scheme, tmp_path)
    assert artifact.details["own_ranges"] == []
    known = {QParams.of(*ends, 8) for ends in tensor_ranges(model, scheme, calibration_set()).by_name.values()}
    activations = json.loads((artifact.root / DESCRIPTION).read_text())["activations"]
    shared = [QParams(*values) for values in activations.values()]
    assert sum(grid in known for grid in shared) >= len(shared) - 1  # what one quantizer shares is a union
    assert QParams.of(*tensor_ranges(model, scheme, calibration_set()).by_name["images"], 8) in shared


@pytest.mark.parametrize("scheme", [Scheme(), Scheme(weight_rule="minmax"), Scheme(bias_correction="on")])
def test_integers_are_those_of_onnxruntime(model: ExportedModel, scheme: Scheme, tmp_path: Path) -> None:
    ours = load_file(quantized(model, scheme, tmp_path).root / TENSORS)
    graph = onnx.load(quantized(model, scheme, tmp_path, "ort").main_file).graph
    theirs = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    compared = 0
    for name, value in ours.items():
        if not name.startswith("levels/"):
            continue
        path = name.removeprefix("levels/")
        levels = theirs.get(f"{path}.weight_quantized")
        if levels is None:
            continue
        compared += 1
        shape = levels.shape
        np.testing.assert_array_equal(unpack_bits(value.numpy(), 8, shape), levels, err_msg=path)
        np.testing.assert_array_equal(ours[f"scale/{path}"].numpy(), theirs[f"{path}.weight_scale"], err_msg=path)
    assert compared > 5


def test_answers_are_nearly_those_of_onnxruntime(model: ExportedModel, tmp_path: Path) -> None:
    images = pictures(128, seed=11)
    logits = [
        plugins.backend(name).load(quantized(model, Scheme(), tmp_path, name), threads=1, device="cpu").run(images)
        for name in ("torch_fx", "ort")
    ]
    assert (logits[0].argmax(axis=1) == logits[1].argmax(axis=1)).mean() >= 0.97
    assert np.abs(logits[0] - logits[1]).max() < 0.1 * np.abs(logits[1]).max()


@pytest.mark.parametrize("scheme", [Scheme(bits=4), Scheme(bits=2)])
def test_fewer_bits_take_less_room(model: ExportedModel, scheme: Scheme, tmp_path: Path) -> None:
    few, eight = (quantized(model, one, tmp_path) for one in (scheme, Scheme()))
    sizes = [
        sum(v.numel() for k, v in load_file(a.root / TENSORS).items() if k.startswith("levels/")) for a in (few, eight)
    ]
    assert sizes[0] == pytest.approx(sizes[1] * scheme.bits / 8, rel=0.01)


def test_dynamic_quantizes_linear_layers_alone(model: ExportedModel, tmp_path: Path) -> None:
    artifact = quantized(model, Scheme(method=Method.PTQ_DYNAMIC), tmp_path)
    assert artifact.details["linear_layers"] == 1
    arithmetic = plugins.backend("torch_fx").load(artifact, threads=1, device="cpu").arithmetic
    assert 0 < arithmetic.integer_share < 0.1


def test_a_model_that_came_as_onnx_is_refused_with_a_way_on(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(InputError, match=r"came as ONNX.*--backend ort"):
        quantized(tiny_model(tmp_path / "model"), Scheme(), tmp_path)


def test_a_checkpoint_of_another_architecture_is_refused(model: ExportedModel, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = trained("test_efficientnet", tmp_path / "other")
    with pytest.raises(DataError, match=r"do not fit the model: .*conv"):
        quantized(replace(model, checkpoint=other.checkpoint), Scheme(), tmp_path)


@pytest.mark.parametrize("damage", ["stored", "format", "tensors", "missing", "node"])
def test_a_damaged_artifact_is_an_error(model: ExportedModel, damage: str, tmp_path: Path) -> None:
    artifact = quantized(model, Scheme(), tmp_path)
    stored, tensors = artifact.root / DESCRIPTION, artifact.root / TENSORS
    values = json.loads(stored.read_text())
    if damage == "stored":
        stored.write_text("{")
    elif damage == "format":
        stored.write_text(json.dumps(values | {"format": 99}))
    elif damage == "node":
        stored.write_text(json.dumps(values | {"activations": {}}))
    elif damage == "tensors":
        tensors.write_bytes(tensors.read_bytes()[:100])
    else:
        kept = load_file(tensors)
        kept.pop(next(name for name in kept if name.startswith("levels/")))
        save_file(kept, tensors)
    with pytest.raises(DataError):
        plugins.backend("torch_fx").load(artifact, threads=1, device="cpu")


@given(st.sampled_from([8, 4, 2]), st.integers(1, 70), st.integers(0, 2**31))
def test_packed_levels_come_back(bits: int, count: int, seed: int) -> None:
    half = 2 ** (bits - 1)
    levels = np.random.default_rng(seed).integers(-half, half, size=count).astype(np.int8)
    packed = pack_bits(levels, bits)
    assert packed.nbytes == -(-count * bits // 8)
    np.testing.assert_array_equal(unpack_bits(packed, bits, (count,)), levels)


@pytest.mark.slow
@pytest.mark.parametrize("name", sampled(zoo.STUDY))
def test_every_model_of_the_study_becomes_integers(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = zoo.build(zoo.find(name), classes=4, size=STUDY_SIZE)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.4, 1.2)
            module.momentum = None
    images = torch.randn(16, 3, STUDY_SIZE, STUDY_SIZE)
    with torch.no_grad():
        network.train()(images)
    network.eval()
    (tmp_path / "model").mkdir()
    model = trained_like(network, name, tmp_path / "model")
    calibration = calibration_set(images=_Resized(images.numpy()), n=16)
    out = tmp_path / "out"
    out.mkdir()
    artifact = write_artifact(plugins.backend("torch_fx"), model, Scheme(), out, calibration)
    assert artifact.details["not_traced"] == {}
    session = plugins.backend("torch_fx").load(artifact, threads=1, device="cpu")
    assert session.arithmetic.integer_share > (0.85 if name == "vit_small" else 0.99)
    with torch.inference_mode():
        expected = network(images).numpy()
    found = session.run(images.numpy())  # weights are random, so that rounding is felt more than in a trained network
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.6


def trained_like(network: torch.nn.Module, name: str, folder: Path) -> ExportedModel:
    from fqbench.config import Preprocessing
    from fqbench.models.train import CHECKPOINT, save_checkpoint

    classes = tuple("abcd")
    preprocessing = Preprocessing(size=STUDY_SIZE)
    save_checkpoint(network, folder / CHECKPOINT)
    exporting.export(network, np.zeros((2, 3, STUDY_SIZE, STUDY_SIZE), np.float32), preprocessing, classes, folder)
    path = folder / exporting.MODEL
    return ExportedModel(
        name, name, path, "0" * 64, classes, preprocessing, architecture=name, checkpoint=folder / CHECKPOINT
    )


class _Resized:
    def __init__(self, images: np.ndarray) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, rows: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(self.images[rows])
