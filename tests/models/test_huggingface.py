"""Folders that transformers itself writes, of five architectures with random weights."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from fqbench.config import PreprocessingOptions
from fqbench.errors import DataError, FqbenchError, InputError, UnavailableError
from fqbench.models import zoo
from fqbench.models.huggingface import order_of
from fqbench.models.preprocessing import preprocessing_of

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", reason="transformers is not installed; it comes with fqbench[hf]")

# Of torchao's sources, which transformers imports, when they are compiled for the first time.
pytestmark = pytest.mark.filterwarnings("ignore::SyntaxWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")

SIZE = 32
LABELS = {0: "light", 1: "dark"}


def configurations() -> dict[str, Any]:
    shared = {"num_labels": 2, "id2label": LABELS, "label2id": {name: index for index, name in LABELS.items()}}
    return {
        "vit": transformers.ViTConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=SIZE,
            patch_size=8, **shared,
        ),
        "resnet": transformers.ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", **shared
        ),
        "mobilenet_v2": transformers.MobileNetV2Config(image_size=SIZE, depth_multiplier=0.35, **shared),
        "convnext": transformers.ConvNextConfig(
            hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, image_size=SIZE, **shared
        ),
        "swin": transformers.SwinConfig(
            image_size=SIZE, patch_size=4, embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=4, **shared
        ),
    }  # fmt: skip


NAMES = ("vit", "resnet", "mobilenet_v2", "convnext", "swin")
PREPROCESSOR = {
    "do_resize": True,
    "size": {"shortest_edge": 40},
    "do_center_crop": True,
    "crop_size": {"height": SIZE, "width": SIZE},
    "resample": 3,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.25, 0.3],
}


def save(folder: Path, name: str, **preprocessor: Any) -> Any:
    """Write a folder as `save_pretrained` does, and return the network."""
    torch.manual_seed(0)
    network = transformers.AutoModelForImageClassification.from_config(configurations()[name]).eval()
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR | preprocessor))
    return network


@pytest.mark.parametrize("name", NAMES)
def test_the_network_of_a_folder_answers_as_transformers_does(tmp_path: Path, name: str) -> None:
    network = save(tmp_path / name, name)
    found = zoo.find(f"hf:{tmp_path / name}")
    assert (found.title, found.labels) == (name, ("light", "dark"))
    made = zoo.build(found, classes=2, size=SIZE, weights=zoo.OWN).eval()
    images = torch.randn(3, 3, SIZE, SIZE)
    with torch.inference_mode():
        expected = network(pixel_values=images).logits
        torch.testing.assert_close(made(images), expected, atol=1e-5, rtol=1e-4)
        again = zoo.build(
            zoo.find(found.reference), classes=2, size=SIZE
        ).eval()  # as an artifact does, without the folder
        again.load_state_dict(made.state_dict())
        torch.testing.assert_close(again(images), made(images), atol=0, rtol=0)
    other = zoo.build(found, classes=5, size=SIZE, weights=zoo.OWN).eval()  # to be trained on, with a new head
    head = zoo.head_parameters(found, classes=5, size=SIZE)
    assert {value.shape[0] for key, value in other.state_dict().items() if key in head} == {5}
    assert all(
        torch.equal(value, made.state_dict()[key]) for key, value in other.state_dict().items() if key not in head
    )


@pytest.mark.parametrize("name", ["vit", "mobilenet_v2"])
def test_classes_in_another_order(tmp_path: Path, name: str) -> None:
    save(tmp_path, name)
    found = zoo.find(f"hf:{tmp_path}")
    order = order_of(found.labels, ("dark", "light"), "it")
    assert order == (1, 0)
    made = zoo.build(found, classes=2, size=SIZE, weights=zoo.OWN).eval()
    images = torch.randn(3, 3, SIZE, SIZE)
    with torch.inference_mode():
        before = made(images)
        zoo.reorder(made, zoo.head_parameters(found, classes=2, size=SIZE), order)
        torch.testing.assert_close(made(images), before[:, [1, 0]], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {},
            {
                "size": (SIZE, SIZE),
                "crop": 0.8,
                "fit": "crop",
                "mean": (0.5, 0.4, 0.3),
                "std": (0.2, 0.25, 0.3),
                "interpolation": "bicubic",
            },
        ),
        (
            {"do_center_crop": False, "size": {"height": 48, "width": 48}, "resample": 2},
            {"size": (48, 48), "fit": "squash"},
        ),
        ({"do_center_crop": False, "size": 56}, {"size": (56, 56)}),
        (
            {"do_center_crop": False, "size": {"shortest_edge": 56}, "crop_pct": 0.875},
            {"size": (56, 56), "crop": 0.875, "fit": "crop"},
        ),
        ({"do_normalize": False}, {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}),
    ],
)
def test_preprocessing_is_read(tmp_path: Path, changes: dict[str, Any], expected: dict[str, Any]) -> None:
    save(tmp_path, "resnet", **changes)
    made = preprocessing_of(zoo.find(f"hf:{tmp_path}"), PreprocessingOptions(), drawn_size=None, trained=True)
    assert {key: getattr(made, key) for key in expected} == expected


def broken(folder: Path, **config: Any) -> None:
    save(folder, "resnet")
    path = folder / "config.json"
    values = json.loads(path.read_text()) | config
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda folder: None, InputError, r"there is no folder .*/gone"),
        (lambda folder: folder.mkdir(), InputError, r"has no config.json; give the folder that save_pretrained wrote"),
        (
            lambda folder: (folder.mkdir(), (folder / "config.json").write_text("{")),
            DataError,
            "config.json cannot be read",
        ),
        (
            lambda folder: broken(folder, model_type=None, architecture="resnet10t"),
            InputError,
            "use --model timm/resnet10t",
        ),
        (lambda folder: broken(folder, auto_map={"AutoModel": "x.Y"}), InputError, "needs code of its own .* not run"),
        (
            lambda folder: broken(folder, architectures=["ViTModel"]),
            InputError,
            "is of ViTModel, not of an image classifier",
        ),
        (
            lambda folder: broken(folder, model_type="resnett"),
            InputError,
            "no image classifier 'resnett': did you mean",
        ),
        (
            lambda folder: (
                save(folder, "resnet"),
                (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
            ),
            InputError,
            "has no model.safetensors, only pickled ones; save the model again",
        ),
        (lambda folder: broken(folder, hidden_sizes=[8, 24]), DataError, "cannot be loaded"),
        (lambda folder: save(folder, "resnet", do_rescale=False), InputError, "pixels that are not divided by 255"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, make: Any, error: type[FqbenchError], message: str) -> None:
    def use() -> None:
        found = zoo.find(f"hf:{tmp_path / 'gone'}")
        preprocessing_of(found, PreprocessingOptions(), drawn_size=None, trained=True)
        zoo.build(found, classes=2, size=SIZE, weights=zoo.OWN)

    make(tmp_path / "gone")
    with pytest.raises(error, match=message):
        use()


def test_a_preprocessor_that_is_not_there_is_asked_for(tmp_path: Path) -> None:
    save(tmp_path, "resnet")
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match=r"does not state its preprocessing: add --size --mean --std"):
        preprocessing_of(zoo.find(f"hf:{tmp_path}"), PreprocessingOptions(), drawn_size=None, trained=True)


@pytest.mark.parametrize(
    ("labels", "classes", "order"),
    [
        (("a", "b"), ("a", "b"), ()),
        ((), ("a", "b"), ()),
        (("Dark", "Light"), ("light", "dark"), (1, 0)),
        (("Light", "Dark"), ("light", "dark"), ()),
    ],
)
def test_the_order_of_classes(labels: tuple[str, ...], classes: tuple[str, ...], order: tuple[int, ...]) -> None:
    assert order_of(labels, classes, "it") == order


def test_other_classes_are_refused() -> None:
    with pytest.raises(InputError, match=r"it has 3 classes \(a, b, c\), but the data have 2 \(a, d\); train it"):
        order_of(("a", "b", "c"), ("a", "d"), "it")


def test_a_name_of_the_hub_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def offline(*_arguments: object, **_options: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("fqbench.models.hub.urllib.request.urlopen", offline)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    start = time.monotonic()
    with pytest.raises(
        UnavailableError, match=r"the model someone/lamps is not cached .*give --model hf:DIR"
    ) as caught:
        zoo.find("hf:someone/lamps")
    assert caught.value.exit_code == 3
    assert time.monotonic() - start < 10


def test_without_transformers_the_way_to_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sys

    save(tmp_path, "resnet")
    found = zoo.find(f"hf:{tmp_path}")
    for name in [name for name in sys.modules if name.partition(".")[0] == "transformers"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [_Hidden(), *sys.meta_path])
    with pytest.raises(UnavailableError, match=r"transformers is not installed; run: pip install 'fqbench\[hf\]'"):
        zoo.build(found, classes=2, size=SIZE)


class _Hidden:
    """Lets transformers be not installed."""

    def find_spec(self, name: str, *_rest: object) -> None:
        if name.partition(".")[0] == "transformers":
            raise ModuleNotFoundError(f"No module named {name!r}", name="transformers")
