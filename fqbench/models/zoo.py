"""Which classifiers there are, how one is built, and which preprocessing it was made for."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fqbench.config import Preprocessing, PreprocessingOptions
from fqbench.errors import InputError, did_you_mean
from fqbench.models import code, hub
from fqbench.models.weights import fitting, load_weights, read_weights
from fqbench.optional import require

if TYPE_CHECKING:
    from torch import nn

Size = int | tuple[int, int]
# The study's five (DESIGN §9) by their plain names, where the library's own name differs.
ALIASES: Mapping[str, str] = {
    "mobilenet_v2": "timm/mobilenetv2_100",
    "vit_small": "timm/vit_small_patch16_224",
    "squeezenet1_1": "torchvision/squeezenet1_1",
}
STUDY = ("resnet50", "mobilenet_v2", "efficientnet_b0", "vit_small", "squeezenet1_1")


@dataclass(frozen=True)
class Architecture:
    """A classifier by name.

    Attributes
    ----------
    name : str
        As the user wrote it.
    library : str
        "timm", "torchvision", or "code" for the user's own.
    entry : str
        The library's own name; of code, ``package.module:function``.
    arguments : mapping
        Of code, what its function is called with besides the number of classes.
    native : Preprocessing or None
        What it was made for, where that is known already; its library is asked otherwise.
    """

    name: str
    library: str
    entry: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    native: Preprocessing | None = field(default=None, compare=False)

    @property
    def reference(self) -> str:
        """What `find` makes the same architecture of, in another process or at another time."""
        if self.library != code.LIBRARY:
            return f"{self.library}/{self.entry}"
        return f"{self.entry} {json.dumps(self.arguments, sort_keys=True)}" if self.arguments else self.entry

    @property
    def title(self) -> str:
        """A name for ids and tables."""
        return self.entry.replace(":", ".") if self.library == code.LIBRARY else self.name

    @property
    def identity(self) -> dict[str, str]:
        """What decides which network is built: the reference, and of code its source."""
        source = {"code": code.fingerprint(self.entry)} if self.library == code.LIBRARY else {}
        return {"model": self.reference, **source}


def find(name: str, arguments: Mapping[str, Any] | None = None) -> Architecture:
    """Find a classifier by plain name, by ``timm/NAME`` or ``torchvision/NAME``, or the user's ``module:function``.

    Parameters
    ----------
    name : str
        The name, or an `Architecture.reference`. Code is looked for, and not run yet.
    arguments : mapping, optional
        What the user's function is called with.

    Raises
    ------
    InputError
        No such classifier; the nearest name is suggested. Or arguments for one that takes none.
    UnavailableError
        timm or torchvision is not installed.
    """
    if code.is_code(name):
        entry, own = code.split_reference(name)
        code.source_file(entry)
        return Architecture(name, code.LIBRARY, entry, {**own, **(arguments or {})})
    if arguments:
        raise InputError(f"--model-args go with --model package.module:function; {name!r} takes none.")
    timm = require("timm", extra="train")
    library, _, entry = ALIASES.get(name, name).rpartition("/")
    if library in {"", "timm"} and timm.is_model(entry):
        return Architecture(name, "timm", entry)
    torchvision_models = require("torchvision.models", extra="train")
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
    architecture: Architecture, asked: PreprocessingOptions, *, drawn_size: int | None, trained: bool = False
) -> Preprocessing:
    """Return the preprocessing: what the user asked for, else what the model was made for.

    The user's own code does not say what it was made for. Its size has to be given, and where it comes trained, mean
    and std as well: they are never guessed.

    Parameters
    ----------
    architecture : Architecture
        The classifier.
    asked : PreprocessingOptions
        What the user said; None means nothing.
    drawn_size : int, optional
        Pixels of a data set that is drawn to size, which then replaces the model's own input size.
    trained : bool
        Whether the model's weights come from elsewhere.

    Raises
    ------
    InputError
        The user has to say more.
    """
    said = asked.stated()
    if architecture.library == code.LIBRARY:
        needed = {"size": drawn_size, **({"mean": None, "std": None} if trained else {})}
        missing = [f"--{name}" for name, known in needed.items() if known is None and name not in said]
        if missing:
            raise InputError(
                f"--model {architecture.name} does not say how its images are prepared: add {' '.join(missing)} "
                "(size in pixels; mean and std per channel, of values from 0 to 1)."
            )
        return Preprocessing.model_validate({**({"size": drawn_size} if drawn_size else {}), **said})
    native = architecture.native or native_preprocessing(architecture)
    if drawn_size is not None:
        native = native.model_copy(update={"size": (drawn_size, drawn_size), "crop": 1.0})
    return Preprocessing.model_validate({**native.model_dump(), **said})


def build(architecture: Architecture, *, classes: int, size: Size, weights: str = "none") -> nn.Module:
    """Build a classifier.

    Parameters
    ----------
    architecture : Architecture
        What to build.
    classes : int
        Number of logits.
    size : int or tuple of int
        Height and width of its input, pixels; only models with a fixed grid of patches take note of it.
    weights : str
        "none", "imagenet" (from the library's hub) or the path of a local file; see `fqbench.models.weights`.

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
    if architecture.library == code.LIBRARY:
        raise InputError(f"there are no imagenet weights of {architecture.name}; give a file with --weights FILE.")
    file = hub.pretrained_file(architecture.library, architecture.entry, architecture.name)
    if architecture.library == "timm":
        # timm's own loading knows how to resize position embeddings and first convolutions, and which part is the head.
        return _create(architecture, classes=classes, size=size, pretrained=True, overlay={"file": str(file)})
    model = _create(architecture, classes=classes, size=size)
    load_weights(model, file, head=head_parameters(architecture, classes=classes, size=size))
    return model


def check_weights(architecture: Architecture, file: Path, *, size: Size) -> None:
    """Check that a file of weights can be read and fits an architecture, before any data are looked at.

    Of the user's own code only the file is read here: whether it fits is known when the code runs.

    Raises
    ------
    InputError, DataError
        See `fqbench.models.weights.load_weights`.
    """
    if architecture.library == code.LIBRARY:
        read_weights(file)
        return
    torch = require("torch", extra="train")
    with torch.device("meta"):
        own = _create(architecture, classes=2, size=size).state_dict()
    fitting(own, file, head=head_parameters(architecture, classes=2, size=size))


def check_logits(network: nn.Module, architecture: Architecture, *, classes: int, size: tuple[int, int]) -> None:
    """Check that a network answers with one logit per class, on black images.

    Raises
    ------
    InputError
        It fails on images of this size, or answers with something else.
    """
    import torch

    was_training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            answer = network(torch.zeros(2, 3, *size))
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0][:160]
        raise InputError(
            f"{architecture.name} fails on images (2, 3, {size[0]}, {size[1]}) ({type(error).__name__}: {reason}); "
            "check --size and --model-args."
        ) from error
    finally:
        network.train(was_training)
    if not isinstance(answer, torch.Tensor):
        raise InputError(
            f"{architecture.name} answers with {type(answer).__name__}; its forward has to return the logits alone, "
            "a tensor (N, classes)."
        )
    if tuple(answer.shape) != (2, classes):
        found = f"(N, {', '.join(map(str, answer.shape[1:]))})"
        raise InputError(
            f"{architecture.name} answers with {found}, and the data have {classes} classes: (N, {classes}) is needed; "
            "give another --label, or the arguments of the model with --model-args."
        )


def head_parameters(architecture: Architecture, *, classes: int, size: Size) -> frozenset[str]:
    """Return the names of the parameters whose shape depends on the number of classes."""
    torch = require("torch", extra="train")
    own_code = architecture.library == code.LIBRARY
    if own_code and not code.told_classes(code.load(architecture.entry), architecture.arguments, classes):
        return frozenset()
    with contextlib.nullcontext() if own_code else torch.device("meta"):  # two models that take no memory
        shapes = [
            {name: value.shape for name, value in _create(architecture, classes=n, size=size).state_dict().items()}
            for n in (classes, classes + 1)
        ]
    return frozenset(name for name, shape in shapes[0].items() if shapes[1][name] != shape)


def _create(
    architecture: Architecture,
    *,
    classes: int,
    size: Size,
    pretrained: bool = False,
    overlay: Mapping[str, str] | None = None,
) -> nn.Module:
    entry = architecture.entry
    model: nn.Module
    if architecture.library == code.LIBRARY:
        return code.build(entry, architecture.arguments, classes=classes)
    if architecture.library == "timm":
        timm = require("timm", extra="train")
        extra: dict[str, Any] = {"img_size": size} if timm.get_pretrained_cfg(entry).fixed_input_size else {}
        model = timm.create_model(
            entry, pretrained=pretrained, num_classes=classes, pretrained_cfg_overlay=dict(overlay or {}), **extra
        )
        return model
    models = require("torchvision.models", extra="train")
    extra = {"image_size": _side(size, entry)} if entry.startswith("vit_") else {}
    if "inception" in entry or entry == "googlenet":  # their second classifier is for training from nothing alone
        extra |= {"init_weights": True, "aux_logits": False}
    model = models.get_model(entry, weights=None, num_classes=classes, **extra)
    return model


def _side(size: Size, entry: str) -> int:
    height, width = size if isinstance(size, tuple) else (size, size)
    if height != width:
        raise InputError(f"{entry} takes square images only, not {height}x{width}; give one number to --size.")
    return height


def native_preprocessing(architecture: Architecture) -> Preprocessing:
    """Ask a classifier's library which preprocessing it was made for."""
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
