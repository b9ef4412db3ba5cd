"""Building classifiers and loading weights: other heads, files that do not fit or would execute, no network."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from fqbench.config import PreprocessingOptions
from fqbench.errors import DataError, InputError, UnavailableError
from fqbench.models import hub, zoo
from fqbench.models.preprocessing import preprocessing_of

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")


def make(name: str, classes: int = 2, size: int = 32, weights: str = "none") -> torch.nn.Module:
    return zoo.build(zoo.find(name), classes=classes, size=size, weights=weights)


def tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.contiguous().clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("resnet50", {"fc.weight", "fc.bias"}),
        ("mobilenet_v2", {"classifier.weight", "classifier.bias"}),
        ("vit_small", {"head.weight", "head.bias"}),
        ("squeezenet1_1", {"classifier.1.weight", "classifier.1.bias"}),
        ("torchvision/vgg11", {"classifier.6.weight", "classifier.6.bias"}),
        ("torchvision/googlenet", {"fc.weight", "fc.bias"}),
        (
            "deit_tiny_distilled_patch16_224",
            {f"head{dist}.{kind}" for dist in ("", "_dist") for kind in ("weight", "bias")},
        ),
    ],
)
def test_the_head_is_what_depends_on_the_number_of_classes(name: str, head: set[str]) -> None:
    assert zoo.head_parameters(zoo.find(name), classes=2, size=224) == head


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
def test_a_file_of_another_number_of_classes(tmp_path: Path, suffix: str) -> None:
    source = tensors(make("resnet10t", classes=1000))
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        safetensors.save_file(source, path)
    else:
        torch.save({"state_dict": {f"module.{name}": value for name, value in source.items()}}, path)
    loaded = make("resnet10t", weights=str(path)).state_dict()
    assert loaded["fc.weight"].shape == (2, 512)
    assert all(torch.equal(loaded[name], value) for name, value in source.items() if not name.startswith("fc."))


def test_a_file_of_the_same_number_of_classes_brings_its_head(tmp_path: Path) -> None:
    source = tensors(make("squeezenet1_1"))
    safetensors.save_file(source, tmp_path / "w.safetensors")
    loaded = make("squeezenet1_1", weights=str(tmp_path / "w.safetensors")).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in source.items())


def test_shapes_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    source = tensors(make("resnet10t"))
    source["layer1.0.conv1.weight"] = torch.zeros(1, 2, 3, 3)
    source["extra"] = torch.zeros(1)
    del source["bn1.bias"]
    safetensors.save_file(source, tmp_path / "w.safetensors")
    message = (
        r"do not fit the model: shape of layer1.0.conv1.weight \(1, 2, 3, 3\) instead of \(64, 64, 3, 3\); "
        r"no bn1.bias; unexpected extra; give the file of this architecture"
    )
    with pytest.raises(DataError, match=message):
        make("resnet10t", weights=str(tmp_path / "w.safetensors"))
    with pytest.raises(DataError, match=r"; and \d+ more|and \d+ more; give the file"):
        make("mobilenet_v2", weights=str(tmp_path / "w.safetensors"))


class Poison:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_poisoned_pickle_does_not_execute(tmp_path: Path, legacy: bool) -> None:
    target = tmp_path / "executed"
    path = tmp_path / "weights.pth"
    torch.save({"fc.weight": Poison(target)}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(DataError, match=r"weights.pth contain objects of \w+.mkdir, which cannot be loaded"):
        make("resnet10t", weights=str(path))
    assert not target.exists()


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("w.safetensors", b"", DataError, "cannot be read safely"),
        ("w.pth", b"PK\x03\x04 cut short", DataError, "cannot be read safely"),
        ("w.bin", b"x", DataError, "cannot be read safely"),
        ("w.h5", b"x", InputError, "is not a weights file; --weights takes .safetensors, .pth"),
        (None, None, InputError, "there is no weights file .*; --weights takes none, imagenet or the path of a file"),
    ],
)
def test_damaged_and_missing_files(
    tmp_path: Path, name: str | None, content: bytes | None, error: type[Exception], message: str
) -> None:
    path = tmp_path / (name or "nothing.pth")
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match=message):
        make("resnet10t", weights=str(path))


def test_a_file_that_holds_no_tensors(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(DataError, match="do not contain a mapping of names to tensors"):
        make("resnet10t", weights=str(tmp_path / "w.pth"))


@pytest.mark.parametrize(
    ("name", "address"),
    [("resnet10t", r"https://huggingface.co/timm/resnet10t.*/model.safetensors"), ("squeezenet1_1", "pytorch.org")],
)
def test_without_a_network_the_message_comes_at_once(
    name: str, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_arguments: object, **_options: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("fqbench.models.hub.urllib.request.urlopen", offline)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    message = rf"imagenet weights of {name} are not cached .*Name or service.*download .*{address}.* --weights FILE"
    start = time.monotonic()
    with pytest.raises(UnavailableError, match=message) as caught:
        make(name, weights="imagenet")
    assert caught.value.exit_code == 3
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("name", ["resnet10t", "squeezenet1_1", "vit_small"])
def test_cached_imagenet_weights_get_a_new_head(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 224 if name == "vit_small" else 64
    source = tensors(make(name, classes=1000, size=size))
    path = tmp_path / "model.safetensors"
    safetensors.save_file(source, path)
    monkeypatch.setattr(hub, "pretrained_file", lambda *_: path)
    model = make(name, size=size if name != "vit_small" else 64, weights="imagenet")
    loaded, head = model.state_dict(), zoo.head_parameters(zoo.find(name), classes=2, size=64)
    assert {loaded[key].shape[0] for key in head} == {2}
    kept = [key for key in source if key not in head and key != "pos_embed"]
    assert all(torch.equal(loaded[key], source[key]) for key in kept)
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 2)


def test_a_model_without_published_weights() -> None:
    with pytest.raises(InputError, match="timm has no imagenet weights for resnet"):
        make("resnetaa34d", weights="imagenet")


def test_preprocessing_comes_from_the_models_own_recipe() -> None:
    vit = preprocessing_of(zoo.find("vit_small"), PreprocessingOptions(), drawn_size=None)
    assert (vit.size, vit.mean, vit.interpolation) == ((224, 224), (0.5, 0.5, 0.5), "bicubic")
    squeezenet = preprocessing_of(zoo.find("squeezenet1_1"), PreprocessingOptions(size=96), drawn_size=None)
    assert (squeezenet.size, squeezenet.crop, squeezenet.interpolation) == ((96, 96), 224 / 256, "bilinear")


def test_classifiers_with_a_second_head_answer_with_one_tensor() -> None:
    model = make("torchvision/googlenet").train()
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 2)


@pytest.mark.parametrize("name", ["lcnet_050", "resnet10t"])
def test_first_logits_are_small_whatever_the_library_draws(name: str) -> None:
    torch.manual_seed(0)
    network = make(name)
    before = network.get_classifier().weight.detach().clone()  # type: ignore[operator, union-attr]
    zoo.shrink_head(network)
    head = network.get_classifier()  # type: ignore[operator]
    assert float(head.weight.detach().std()) < head.in_features**-0.5
    assert torch.equal(before, head.weight) == (name == "resnet10t")
