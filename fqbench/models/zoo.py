"""Which classifiers there are, how one is built, and which preprocessing it was made for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fqbench.config import Preprocessing, PreprocessingOptions
from fqbench.errors import DataError, InputError, UnavailableError, did_you_mean
from fqbench.models import hub
from fqbench.optional import require

if TYPE_CHECKING:
    from torch import nn

# The study's five (DESIGN §9) by their plain names, where the library's own name differs.
ALIASES: Mapping[str, str] = {
    "mobilenet_v2": "timm/mobilenetv2_100",
    "vit_small": "timm/vit_small_patch16_224",
    "squeezenet1_1": "torchvision/squeezenet1_1",
}
AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")  # of Inception and GoogLeNet, in files made for training
STUDY = ("resnet50", "mobilenet_v2", "efficientnet_b0", "vit_small", "squeezenet1_1")


@dataclass(frozen=True)
class Architecture:
    """A classifier by name.

    Attributes
    ----------
    name : str
        As the user wrote it.
    library : str
        "timm" or "torchvision".
    entry : str
        The library's own name.
    """

    name: str
    library: str
    entry: str


def find(name: str) -> Architecture:
    """Find a classifier by plain name, or by ``timm/NAME`` or ``torchvision/NAME``.

    Raises
    ------
    InputError
        No such classifier; the nearest name is suggested.
    UnavailableError
        timm or torchvision is not installed.
    """
    timm = require("timm", extra="train")
    torchvision_models = require("torchvision.models", extra="train")
    library, _, entry = ALIASES.get(name, name).rpartition("/")
    if library in {"", "timm"} and timm.is_model(entry):
        return Architecture(name, "timm", entry)
    known = torchvision_models.list_models(module=torchvision_models)
    if library in {"", "torchvision"} and entry in known:
        return Architecture(name, "torchvision", entry)
    hint = did_you_mean(name, [*timm.list_models(), *known, *ALIASES])
    raise InputError(f"unknown model {name!r}: {hint} Any timm or torchvision classifier works.")


def known_names() -> list[tuple[str, str]]:
    """Return library and name of every classifier, timm's first; torchvision's that timm has, too, are left out."""
    timm = require("timm", extra="train")
    torchvision_models = require("torchvision.models", extra="train")
    names = [("timm", entry) for entry in timm.list_models()]
    taken = {entry for _, entry in names}
    others = torchvision_models.list_models(module=torchvision_models)
    return names + [("torchvision", entry) for entry in others if entry not in taken]


def preprocessing_of(
    architecture: Architecture, asked: PreprocessingOptions, *, drawn_size: int | None
) -> Preprocessing:
    """Return the preprocessing: what the user asked for, else what the model was made for.

    Parameters
    ----------
    architecture : Architecture
        The classifier.
    asked : PreprocessingOptions
        What the user said; None means nothing.
    drawn_size : int, optional
        Pixels of a data set that is drawn to size, which then replaces the model's own input size.
    """
    native = _native_preprocessing(architecture)
    if drawn_size is not None:
        native = native.model_copy(update={"size": drawn_size, "crop": 1.0})
    said = {key: value for key, value in asked.model_dump().items() if value is not None}
    return Preprocessing.model_validate({**native.model_dump(), **said})


def build(architecture: Architecture, *, classes: int, size: int, weights: str = "none") -> nn.Module:
    """Build a classifier.

    Parameters
    ----------
    architecture : Architecture
        What to build.
    classes : int
        Number of logits.
    size : int
        Height and width of its input, pixels; only models with a fixed grid of patches take note of it.
    weights : str
        "none", "imagenet" (from the library's hub) or the path of a local ``.safetensors``, ``.pth`` or ``.pt`` file
        (never unpickled beyond tensors).

    Raises
    ------
    UnavailableError
        The hub cannot be reached.
    InputError
        No such file.
    DataError
        The file's tensors do not fit the model; the message lists the first that differ.
    """
    if weights != "imagenet":
        model = _create(architecture, classes=classes, size=size)
        if weights != "none":
            load_weights(model, Path(weights), head=head_parameters(architecture, classes=classes, size=size))
        return model
    file = hub.pretrained_file(architecture.library, architecture.entry, architecture.name)
    if architecture.library == "timm":
        # timm's own loading knows how to resize position embeddings and first convolutions, and which part is the head.
        return _create(architecture, classes=classes, size=size, pretrained=True, overlay={"file": str(file)})
    model = _create(architecture, classes=classes, size=size)
    load_weights(model, file, head=head_parameters(architecture, classes=classes, size=size))
    return model


def head_parameters(architecture: Architecture, *, classes: int, size: int) -> frozenset[str]:
    """Return the names of the parameters whose shape depends on the number of classes."""
    torch = require("torch", extra="train")
    with torch.device("meta"):  # two models that take no memory
        shapes = [
            {name: value.shape for name, value in _create(architecture, classes=n, size=size).state_dict().items()}
            for n in (classes, classes + 1)
        ]
    return frozenset(name for name, shape in shapes[0].items() if shapes[1][name] != shape)


def load_weights(model: nn.Module, file: Path, *, head: Collection[str] = ()) -> None:
    """Load a local file of weights into a model.

    Parameters
    ----------
    model : torch.nn.Module
        Changed in place.
    file : Path
        See `read_weights`.
    head : collection of str
        Parameters of the classifier: these may be of another number of classes, or missing, and then stay as they are.

    Raises
    ------
    InputError
        No such file, or not one of the known endings.
    DataError
        It is damaged, holds more than tensors, or its tensors do not fit; the message lists the first that differ.
    """
    state = {key: value for key, value in read_weights(file).items() if not key.startswith(AUXILIARY)}
    own = model.state_dict()
    kept = {key for key in head if key not in state or state[key].shape != own[key].shape}
    wrong = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own
        if key in state and key not in kept and state[key].shape != own[key].shape
    ]
    missing = [key for key in own if key not in state and key not in kept and not key.endswith("num_batches_tracked")]
    foreign = [key for key in state if key not in own]
    problems = [
        *(f"shape of {text}" for text in wrong),
        *(f"no {key}" for key in missing),
        *(f"unexpected {key}" for key in foreign),
    ]
    if problems:
        raise DataError(
            f"the weights {file} do not fit the model: {'; '.join(problems[:5])}"
            f"{f' and {len(problems) - 5} more' if len(problems) > 5 else ''}; give the file of this architecture."
        )
    model.load_state_dict({key: value for key, value in state.items() if key not in kept}, strict=False)


def read_weights(file: Path) -> dict[str, Any]:
    """Read tensors from a ``.safetensors``, ``.pth`` or ``.pt`` file without executing anything in it.

    Raises
    ------
    InputError
        No such file, or an unknown ending.
    DataError
        The file is damaged, or holds other things than tensors.
    """
    if not file.is_file():
        raise InputError(f"no weights file {file}; --weights takes none, imagenet or the path of a file.")
    try:
        if file.suffix == ".safetensors":
            state = require("safetensors.torch", extra="train").load_file(file)
        elif file.suffix in {".pth", ".pt"}:
            state = require("torch", extra="train").load(file, map_location="cpu", weights_only=True)
        else:
            raise InputError(f"{file} is no weights file: bring .safetensors, .pth or .pt.")
    except (InputError, UnavailableError):
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0][:160]
        raise DataError(
            f"the weights {file} cannot be read safely ({type(error).__name__}: {reason}); save it as safetensors."
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    torch = require("torch", extra="train")
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise DataError(f"the weights {file} hold other things than tensors by name; save the model's state_dict.")
    return {key.removeprefix("module."): value for key, value in state.items()}


def _create(
    architecture: Architecture,
    *,
    classes: int,
    size: int,
    pretrained: bool = False,
    overlay: Mapping[str, str] | None = None,
) -> nn.Module:
    entry = architecture.entry
    model: nn.Module
    if architecture.library == "timm":
        timm = require("timm", extra="train")
        extra: dict[str, Any] = {"img_size": size} if timm.get_pretrained_cfg(entry).fixed_input_size else {}
        model = timm.create_model(
            entry, pretrained=pretrained, num_classes=classes, pretrained_cfg_overlay=dict(overlay or {}), **extra
        )
        return model
    models = require("torchvision.models", extra="train")
    extra = {"image_size": size} if entry.startswith("vit_") else {}
    if "inception" in entry or entry == "googlenet":  # their second classifier is for training from nothing alone
        extra |= {"init_weights": True, "aux_logits": False}
    model = models.get_model(entry, weights=None, num_classes=classes, **extra)
    return model


def _native_preprocessing(architecture: Architecture) -> Preprocessing:
    if architecture.library == "timm":
        config = require("timm", extra="train").get_pretrained_cfg(architecture.entry)
        interpolation = config.interpolation if config.interpolation in {"bicubic", "lanczos"} else "bilinear"
        return Preprocessing(
            size=config.input_size[-1],
            crop=config.crop_pct,
            mean=config.mean,
            std=config.std,
            interpolation=interpolation,
        )
    models = require("torchvision.models", extra="train")
    recipe = models.get_model_weights(architecture.entry).DEFAULT.transforms()
    return Preprocessing(
        size=recipe.crop_size[0],
        crop=min(1.0, recipe.crop_size[0] / recipe.resize_size[0]),
        mean=tuple(recipe.mean),
        std=tuple(recipe.std),
        interpolation=recipe.interpolation.value,
    )
