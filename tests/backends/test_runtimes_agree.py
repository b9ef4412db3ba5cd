"""OpenVINO's and ONNX Runtime's INT8 answers on one recipe, image by image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fqbench import plugins
from fqbench.contracts.artifacts import ExportedModel
from fqbench.contracts.scheme import Override, Scheme
from fqbench.errors import SchemeNotSupported
from fqbench.execution import logits_of
from fqbench.plugins import require_support
from fqbench.reference_executor import reference_logits
from fqbench.storage import file_digest
from fqbench.testing.planned import write_artifact
from fqbench.testing.study_models import study_model
from fqbench.testing.sums import exact
from fqbench.testing.tiny_model import Pictures, calibration_set, pictures, tiny_model
from fqbench.testing.uneven_model import write_uneven

SIZE = 64


def compared(model: ExportedModel, images: np.ndarray, folder: Path, scheme: Scheme) -> tuple[float, float]:
    """Agreement of the labels, and the largest difference of a logit as a share of the largest logit."""
    answers = []
    for name in ("ort", "openvino"):
        out = folder / name
        out.mkdir()
        calibration = calibration_set(n=len(images), images=Pictures(images))
        artifact = write_artifact(plugins.backend(name), model, scheme, out, calibration)
        session = plugins.backend(name).load(artifact, threads=1, device="cpu")
        answers.append(np.concatenate([session.run(image[None]) for image in images]))
    ort, openvino = answers
    agreement = float((ort.argmax(axis=1) == openvino.argmax(axis=1)).mean())
    largest = float(np.abs(ort - openvino).max() / np.abs(ort).max())
    return agreement, largest


def test_on_a_small_network(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    (tmp_path / "model").mkdir()
    recipe = exact(Scheme(bias_correction="off", overrides=(Override(role="first", range_rule="mse"),)))
    agreement, largest = compared(tiny_model(tmp_path / "model"), pictures(64, seed=7), tmp_path, recipe)
    assert agreement >= 0.95, f"largest difference {largest:.2%}"
    assert 0 < largest < 0.05, "the same integers, rounded at other places"


@pytest.mark.slow
def test_on_efficientnet(tmp_path: Path) -> None:
    """Drawn weights, whose two logits are nearly equal: labels may change where the logits hardly do."""
    pytest.importorskip("openvino", reason="openvino is not installed")
    pytest.importorskip("torch", reason="torch is not installed")
    (tmp_path / "model").mkdir()
    images = np.random.default_rng(0).standard_normal((16, 3, SIZE, SIZE)).astype(np.float32)
    model = study_model("efficientnet_b0", tmp_path / "model", size=SIZE)
    agreement, largest = compared(model, images, tmp_path, exact(Scheme(bias_correction="off")))
    assert agreement >= 0.75, f"largest difference {largest:.2%}"
    assert largest < 0.35


@pytest.mark.parametrize("name", ["ort", "openvino", "trt"])
def test_rescaling_is_the_same_for_every_runtime_of_graphs(name: str, tmp_path: Path) -> None:
    """Of a depthwise network with uneven channels, whose answers one range per tensor loses."""
    backend = plugins.backend(name)
    path = write_uneven(tmp_path / "uneven.onnx")
    (tmp_path / "tiny").mkdir()
    model = replace(tiny_model(tmp_path / "tiny"), path=path, digest=file_digest(path), classes=("no", "yes"))
    images, moved = pictures(64, seed=2), []
    wrong = {}
    for asked in ("off", "on"):
        (tmp_path / asked).mkdir()
        scheme = exact(Scheme(rescaling=asked))  # type: ignore[arg-type]
        artifact = write_artifact(backend, model, scheme, tmp_path / asked, calibration_set())
        moved.append(artifact.details.get("rescaled", {}).get("moves"))
        answers = logits_of(artifact, iter([images]))
        if answers is not None:  # the runtime, or what emulates it, is installed
            wrong[asked] = (answers.argmax(axis=1) != reference_logits(path, [images]).argmax(axis=1)).mean()
    first, second = ("stem.weight", "deep.weight"), ("deep.weight", "wide.weight")
    assert moved == [None, [{"divided": one, "multiplied": [other]} for one, other in (first, second)]]
    if wrong:
        assert wrong["off"] > 0.1
        assert wrong["on"] < 0.02


@pytest.mark.parametrize("name", ["torch_fx", "torch_compile"])
def test_runtimes_of_torch_networks_refuse_rescaling(name: str) -> None:
    with pytest.raises(SchemeNotSupported, match=r"quantizes the torch network itself.*try --rescaling off"):
        require_support(plugins.backend(name), Scheme(rescaling="on"))
