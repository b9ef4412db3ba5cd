"""Hugging Face's folders through the command line: taken as they are, quantized, trained on."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers", reason="transformers is not installed; it comes with fqbench[hf]")

from tests.models.test_huggingface import NAMES, save  # noqa: E402 - it is skipped without transformers as well
from tests.stages.test_own_torch import call, entries, photos, refused, tensors  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::SyntaxWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FQBENCH_WORKSPACE", str(tmp_path / "workspace"))
    torch.set_num_threads(1)
    photos(tmp_path / "photos")
    return tmp_path


def options(name: str, *more: str) -> tuple[str, ...]:
    return ("--data", "imagefolder", "--root", "photos", "--model", f"hf:{name}", "--epochs", "0", *more)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_folder_is_quantized_as_it_is(here: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    even = {
        "size": {"height": 32, "width": 32},
        "do_center_crop": False,
        "image_mean": [0.5] * 3,
        "image_std": [0.25] * 3,
    }
    network = save(here / name, name, **even)
    asked = options(name)
    float_one, told = call(capsys, "quantize", *asked, "--method", "none")
    assert "the model's outputs are reordered to the classes of the data: dark, light" in " ".join(told.split())
    made = [float_one["id"], call(capsys, "quantize", *asked, "--calib-n", "8")[0]["id"]]
    call(capsys, "eval", *made, *asked, "--replicates", "100")
    with torch.inference_mode():
        expected = network(pixel_values=tensors(here / "photos", "test")[0]).logits.numpy()[:, [1, 0]]
    (fp32,) = [path for path in entries("predictions") if "fp32" in path.name]
    logits = np.stack(pd.read_parquet(fp32 / "predictions.parquet").sort_values("sample_id")["logits"])
    np.testing.assert_allclose(logits, expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet", "vit"])
def test_torch_backends_load_without_the_folder_and_name_what_was_not_traced(
    here: Path, name: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    save(here / name, name)
    with caplog.at_level(logging.WARNING):
        made, _told = call(capsys, "quantize", *options(name), "--backend", "torch_fx", "--calib-n", "8")
    assert f"{name}: FX cannot trace these modules, which stay in float: model." in caplog.text
    facts = made["facts"]["details"]
    assert any(part.startswith("model.") for part in facts["not_traced"])
    assert facts["quantized_layers"] >= 1
    assert (
        f"{facts['quantized_layers']} of {facts['layers']} layers, {100 * facts['quantized_macs']:.0f} %" in caplog.text
    )
    assert facts["quantized_layers"] < facts["layers"]
    assert 0 < facts["quantized_macs"] < 0.9
    (here / name).rename(here / "elsewhere")
    call(capsys, "bench", made["id"], *options("elsewhere"), "--rounds", "5", "--seconds", "0")


def test_other_classes_are_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(here / "resnet", "resnet")
    (here / "photos" / "train" / "light").rename(here / "photos" / "train" / "lit")
    code, error = refused(capsys, "train", *options("resnet"))
    assert code == 2
    assert "has 2 classes (light, dark), but the data have 3 (dark, light, lit)" in error


def test_random_weights_are_refused_as_they_are(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(here / "resnet", "resnet")
    code, error = refused(capsys, "train", *options("resnet", "--weights", "none"))
    assert (code, "would leave resnet untrained" in error) == (2, True), error
