"""The known classifiers: how to find and build one."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fqbench.errors import InputError, did_you_mean
from fqbench.models import code, hub, huggingface
from fqbench.models.weights import State, complete, fitting, load_state, load_weights, read_weights
from fqbench.optional import require

if TYPE_CHECKING:
    from torch import nn

Size = int | tuple[int, int]
# The five models of the study by their plain names, where the library's own name differs.
ALIASES: Mapping[str, str] = {
    "mobilenet_v2": "timm/mobilenetv2_100",
    "vit_small": "timm/vit_small_patch16_224",
    "squeezenet1_1": "torchvision/squeezenet1_1",
}
OWN = "own"  # weights: those that the model's folder brings
STUDY = ("resnet50", "mobilenet_v2", "efficientnet_b0", "vit_small", "squeezenet1_1")


@dataclass(frozen=True)
class Architecture:
    """A classifier by name.

    Attributes
    ----------
    name : str
        As the user wrote it.
    library : str
        "timm", "torchvision", "hf" for Hugging Face's transformers, or "code" for the user's own.
    entry : str
        The library's own name; of code, ``package.module:function``.
    arguments : mapping
        Of code, the arguments of its function, without the number of classes; of Hugging Face, the configuration.
    native : mapping or None
        What it says of its preprocessing, where that is known already; its library is asked otherwise.
    folder : Path or None
        Of Hugging Face, where the model's files are; None where it was found by its reference.
    """

    name: str
    library: str
    entry: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    native: Mapping[str, Any] | None = field(default=None, compare=False)
    folder: Path | None = None

    @property
    def reference(self) -> str:
        """The text from which `find` returns the same architecture in another process."""
        arguments = json.dumps(self.arguments, sort_keys=True)
        if self.library == huggingface.LIBRARY:
            return huggingface.PREFIX + arguments
        if self.library == code.LIBRARY:
            return f"{self.entry} {arguments}" if self.arguments else self.entry
        return f"{self.library}/{self.entry}"

    @property
    def title(self) -> str:
        """A name for ids and tables."""
        if self.library in {"timm", "torchvision"}:
            return self.name
        return self.entry.replace(":", ".")

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes that the model was trained for, if it states them."""
        return huggingface.labels_of(huggingface.read_config(self.folder)) if self.folder else ()

    @property
    def identity(self) -> dict[str, str]:
        """What determines the network: the reference, and for code its source."""
        source = {"code": code.fingerprint(self.entry)} if self.library == code.LIBRARY else {}
        return {"model": self.reference, **source}


def find(name: str, arguments: Mapping[str, Any] | None = None) -> Architecture:
    """Find a classifier by its name, perhaps with its library, ``hf:DIR_OR_NAME`` or ``package.module:function``.

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
    check_name(name, arguments)
    if _is_code(name):
        entry, own = code.split_reference(name)
        return Architecture(name, code.LIBRARY, entry, {**own, **(arguments or {})})
    if huggingface.is_huggingface(name):
        return _find_huggingface(name)
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


def check_name(name: str, arguments: Mapping[str, Any] | None = None) -> None:
    """Check what can be told of a classifier's name without any library: the user's code, a folder, arguments.

    Raises
    ------
    InputError
        There is no such module or folder, or arguments are given for a classifier that takes none.
    """
    if _is_code(name):
        code.source_file(code.split_reference(name)[0])
    elif arguments:
        raise InputError(f"--model-args go with --model package.module:function; {name!r} takes none.")
    elif huggingface.is_huggingface(name):
        huggingface.check_name(name)


def _is_code(name: str) -> bool:
    return code.is_code(name) and not huggingface.is_huggingface(name)


def _find_huggingface(name: str) -> Architecture:
    rest = name.removeprefix(huggingface.PREFIX)
    if rest.startswith("{"):
        config = json.loads(rest)
        return Architecture(name, huggingface.LIBRARY, str(config["model_type"]), config)
    folder = huggingface.find_folder(name)
    config = huggingface.network_part(huggingface.read_config(folder))
    return Architecture(name, huggingface.LIBRARY, Path(rest).name, config, folder=folder)


def known_names() -> list[tuple[str, str]]:
    """Return library and name of every classifier, timm's first; torchvision's are left out if timm has them."""
    timm = require("timm", extra="train")
    torchvision_models = require("torchvision.models", extra="train")
    names = [("timm", entry) for entry in timm.list_models()]
    taken = {entry for _, entry in names}
    others = torchvision_models.list_models(module=torchvision_models)
    return names + [("torchvision", entry) for entry in others if entry not in taken]


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
        "none", "imagenet" (from the library's hub), "own" (those in the model's folder) or the path of a local file;
        see `fqbench.models.weights`.

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
            head = head_parameters(architecture, classes=classes, size=size)
            load_state(model, read_state(architecture, weights), weights, head=head)
        return model
    if architecture.library not in {"timm", "torchvision"}:
        raise InputError(f"there are no imagenet weights of {architecture.name}; give a file with --weights FILE.")
    file = hub.pretrained_file(architecture.library, architecture.entry, architecture.name)
    if architecture.library == "timm":
        # timm's own loading knows how to resize position embeddings and first convolutions, and which part is the head.
        # The file is safetensors, also where the library's own entry describes another format (before timm 1.0.31).
        overlay = {"file": str(file), "custom_load": False}
        return _create(architecture, classes=classes, size=size, pretrained=True, overlay=overlay)
    model = _create(architecture, classes=classes, size=size)
    load_weights(model, file, head=head_parameters(architecture, classes=classes, size=size))
    return model


def shrink_head(network: nn.Module) -> None:
    """Draw the weights of an untrained classifier again where they are far larger than torch's own.

    timm draws those of EfficientNet's family (MobileNetV3, LCNet, MnasNet ...) up to ``1 / sqrt(classes)``, whatever
    the number of inputs: 0.7 for two classes. The first logits are then in the tens, and a short training does little
    more than unlearn them.
    """
    from torch import nn

    found: Any = getattr(network, "get_classifier", None)
    head = found() if found is not None else None
    if isinstance(head, nn.Linear) and float(head.weight.detach().std()) > head.in_features**-0.5:
        head.reset_parameters()


def check_weights(architecture: Architecture, file: Path, *, size: Size, as_it_is: bool) -> None:
    """Check that a file of weights can be read and fits an architecture, before any data are read.

    Of the user's own code and of transformers only the file is read here: whether it fits is known when they run. The
    head is looked at when the classes are known.

    Raises
    ------
    InputError, DataError
        See `fqbench.models.weights.load_weights`.
    """
    state = read_weights(file)
    if architecture.library not in {"timm", "torchvision"}:
        return
    torch = require("torch", extra="train")
    with torch.device("meta"):
        own = _create(architecture, classes=2, size=size).state_dict()
    head = head_parameters(architecture, classes=2, size=size)
    if as_it_is:
        complete({key: value for key, value in own.items() if key not in head}, state, str(file))
    else:
        fitting(own, state, str(file), head=head)


def read_state(architecture: Architecture, weights: str) -> State:
    """Return the tensors of a file, or with "own" those in the model's folder.

    Raises
    ------
    InputError, DataError
        See `fqbench.models.weights.read_weights`.
    """
    if weights != OWN:
        state = read_weights(Path(weights))
        inside = huggingface.INSIDE if architecture.library == huggingface.LIBRARY else ""
        return State({inside + key: value for key, value in state.tensors.items()}, state.wrapper)
    if architecture.folder is None:
        raise InputError(f"{architecture.name} has no pretrained weights; give a file with --weights FILE.")
    return huggingface.read_state(architecture.folder)


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
            f"{architecture.name} returns {type(answer).__name__}; its forward has to return the logits alone, "
            "a tensor (N, classes)."
        )
    if tuple(answer.shape) != (2, classes):
        found = f"(N, {', '.join(map(str, answer.shape[1:]))})"
        raise InputError(
            f"{architecture.name} returns {found}, but the data have {classes} classes, which need (N, {classes}); "
            "give another --label, or set the model's arguments with --model-args."
        )


def reorder(network: nn.Module, head: Collection[str], order: Sequence[int]) -> None:
    """Put the logits of a network into another order: the rows of its classifier, in place."""
    import torch

    with torch.no_grad():
        for name, value in network.state_dict().items():
            if name in head:
                value.copy_(value[list(order)].clone())


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
    overlay: Mapping[str, object] | None = None,
) -> nn.Module:
    entry = architecture.entry
    model: nn.Module
    if architecture.library == code.LIBRARY:
        return code.build(entry, architecture.arguments, classes=classes)
    if architecture.library == huggingface.LIBRARY:
        return huggingface.build(architecture.arguments, classes=classes)
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
