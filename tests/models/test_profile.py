"""What a classifier costs, counted by hand where that can be done."""

from __future__ import annotations

import json

import pytest

from fqbench.cli import main
from fqbench.errors import InputError
from fqbench.models.profile import list_models, profile

pytest.importorskip("torch")


def test_squeezenet_counted_by_hand() -> None:
    found = profile("squeezenet1_1", size=64, classes=2)
    assert found.parameters == 1_235_496 - (512 * 998 + 998)  # torchvision's own count, less 998 of its 1000 classes
    assert found.weight_bytes == 4 * found.parameters
    first = 2 * 31 * 31 * 64 * 3 * 9  # 3x3 convolution with stride 2
    assert first < found.flops < 2 * 1e9 * 0.349 * (64 / 224) ** 2  # torchvision's published GFLOPS are multiply-adds
    assert found.operators["Conv"] == 26
    assert found.head == "classifier.1/Conv"
    assert found.largest_layer_bytes < found.activation_bytes
    json.dumps(found.to_dict())


def test_lists() -> None:
    assert [model.name for model in list_models()] == [
        "resnet50", "mobilenet_v2", "efficientnet_b0", "vit_small", "squeezenet1_1"
    ]  # fmt: skip
    assert {model.library for model in list_models("squeezenet")} == {"torchvision"}
    with pytest.raises(InputError, match="no model name contains 'resnet5O'"):
        list_models("resnet5O")


def test_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, expected in (
        (("list",), "vit_small_patch16_224"),
        (("list", "mnasnet"), "mnasnet"),
        (("list", "--json"), '"study": true'),
        (("profile", "squeezenet1_1", "--size", "64"), "Conv 26"),
        (("profile", "squeezenet1_1", "--size", "64", "--json"), '"flops"'),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["models", *arguments])
        assert not stop.value.code
        assert expected in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        main(["models", "profile", "squeezenet9"])
    assert stop.value.code == 2
    assert "did you mean" in capsys.readouterr().err
