"""Weights from files: read without executing anything, unwrapped, and matched with a network."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fqbench.errors import DataError, InputError, UnavailableError
from fqbench.optional import require
from fqbench.storage import refuse_pointer

if TYPE_CHECKING:
    from torch import Tensor, nn

AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")  # of Inception and GoogLeNet, in files made for training
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params")
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")  # of DataParallel, torch.compile, training loops
COUNTER = "num_batches_tracked"  # of BatchNorm; it has no part in an answer
SAFE = ".safetensors"
ENDINGS = (SAFE, ".pth", ".pt", ".ckpt", ".bin")
SHOWN = 5


@dataclass(frozen=True)
class State:
    """The tensors of a file.

    Attributes
    ----------
    tensors : dict of str to Tensor
        By name, as the file has them.
    wrapper : str
        Key under which the file holds them; empty where they are the file's own content.
    beside : tuple of str
        Names of tensors that were left out on reading.
    """

    tensors: Mapping[str, Tensor]
    wrapper: str = ""
    beside: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fit:
    """How the tensors of a file fit a network.

    Attributes
    ----------
    tensors : dict of str to Tensor
        Those of the network, by its own names.
    wrapper, prefix : str
        What was taken off: a key around all tensors, and the beginning of every name.
    left : tuple of str
        Names in the file that the network has no place for.
    missing : tuple of str
        Names in the network that the file has no tensor for.
    wrong : tuple of str
        Names whose shapes differ, with both shapes.
    """

    tensors: Mapping[str, Tensor]
    wrapper: str
    prefix: str
    left: tuple[str, ...]
    missing: tuple[str, ...]
    wrong: tuple[str, ...]

    @property
    def described(self) -> str:
        """Describe which tensors were used and which were not."""
        inside = f" under {self.wrapper!r}" if self.wrapper else ""
        without = f" without the prefix {self.prefix!r}" if self.prefix else ""
        left = f"; ignored, because the model has no such tensors: {_listed(self.left)}" if self.left else ""
        return f"{len(self.tensors)} tensors{inside}{without}{left}"


def check_file(file: Path) -> None:
    """Check that a file of weights exists and has a known ending.

    Raises
    ------
    InputError
        It does not exist, or is of another kind.
    """
    if not file.is_file():
        raise InputError(f"there is no weights file {file}; --weights takes none, imagenet or the path of a file.")
    if file.suffix not in ENDINGS:
        raise InputError(f"{file} is not a weights file; --weights takes .safetensors, .pth, .pt, .ckpt or .bin.")


def read_weights(file: Path) -> State:
    """Read tensors from a ``.safetensors``, ``.pth``, ``.pt``, ``.ckpt`` or ``.bin`` file; nothing in it is executed.

    Raises
    ------
    InputError
        No such file, an unknown ending, or a file of another kind: TorchScript, a whole pickled module.
    DataError
        The file is damaged, or holds other things than tensors.
    """
    check_file(file)
    refuse_pointer(file)
    torch = require("torch", extra="train")
    try:
        if file.suffix == SAFE:
            content = require("safetensors.torch", extra="train").load_file(file)
        else:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except UnavailableError:
        raise
    except Exception as error:
        raise _unreadable(file, error) from error
    tensors, wrapper = content, ""
    while isinstance(tensors, dict):
        key = next((key for key in WRAPPERS if isinstance(tensors.get(key), dict)), None)
        if key is None:
            break
        tensors, wrapper = tensors[key], f"{wrapper}.{key}".lstrip(".")
    if not isinstance(tensors, dict) or not all(isinstance(value, torch.Tensor) for value in tensors.values()):
        found = f" (its keys: {_listed([str(key) for key in tensors])})" if isinstance(tensors, dict) else ""
        raise DataError(
            f"the weights {file} do not contain a mapping of names to tensors{found}; save the model's state_dict."
        )
    require_plain(tensors, file)
    return State(tensors, wrapper)


def require_plain(tensors: Mapping[Any, Tensor], file: Path) -> None:
    """Check that a network can take tensors as they are.

    Raises
    ------
    DataError
        One has a name that is not text, is sparse or quantized, or holds NaN or infinity.
    """
    torch = require("torch", extra="train")
    for name, value in tensors.items():
        if not isinstance(name, str):
            raise DataError(
                f"the weights {file} name a tensor {name!r}, but names are text; save the model's state_dict."
            )
        if value.layout != torch.strided or value.is_quantized:
            kind = "quantized" if value.is_quantized else "sparse"
            raise DataError(f"the weights {file} hold {kind} tensors ({name}); save dense ones, of the FP32 model.")
    broken = [
        name
        for name, value in tensors.items()
        if value.is_floating_point() and not (value.float() < torch.inf).all()  # -inf stands in masks
    ]
    if broken:
        raise DataError(
            f"the weights {file} hold NaN or infinity in {len(broken)} of {len(tensors)} tensors ({_listed(broken)}); "
            "give the file from before the training diverged."
        )


def fit(state: State, own: Mapping[str, Tensor]) -> Fit:
    """Match the tensors of a file with a network; the prefix is the one with which most names agree.

    Parameters
    ----------
    state : State
        What the file holds.
    own : mapping
        The network's ``state_dict``.
    """
    prefix = _prefix(state.tensors, own)
    named = {key.removeprefix(prefix): value for key, value in state.tensors.items() if key.startswith(prefix)}
    named = {key: value for key, value in named.items() if not key.startswith(AUXILIARY) or key in own}
    outside = [key for key in state.tensors if not key.startswith(prefix)]
    shared = {key: value for key, value in named.items() if key in own}
    other = {key: text for key, value in shared.items() if (text := _difference(value, own[key]))}
    taken = {key: value for key, value in shared.items() if key not in other}
    return Fit(
        tensors=taken,
        wrapper=state.wrapper,
        prefix=prefix,
        left=(*(key for key in named if key not in own), *outside, *state.beside),
        missing=tuple(key for key in own if key not in named and not key.endswith(COUNTER)),
        wrong=tuple(f"{key} {text}" for key, text in other.items()),
    )


def _difference(value: Tensor, own: Tensor) -> str:
    """Return how a tensor differs from the network's: its shape, or whole numbers in place of weights."""
    if value.shape != own.shape:
        return f"{tuple(value.shape)} instead of {tuple(own.shape)}"
    if own.is_floating_point() and not value.is_floating_point():
        return f"{str(value.dtype).removeprefix('torch.')} instead of {str(own.dtype).removeprefix('torch.')}"
    return ""


def load_as_it_is(model: nn.Module, state: State, source: str, hint: str = "") -> Fit:
    """Load every tensor of a network from a file; see `complete`."""
    found = complete(model.state_dict(), state, source, hint)
    model.load_state_dict(dict(found.tensors), strict=False)
    return found


def complete(own: Mapping[str, Tensor], state: State, source: str, hint: str = "") -> Fit:
    """Check that a file has every tensor of a network; other tensors are allowed.

    Parameters
    ----------
    own : mapping
        The network's ``state_dict``; names and shapes are enough.
    state : State
        What `read_weights` found.
    source : str
        Name of the file, for messages.
    hint : str
        What else may be wrong, likewise.

    Raises
    ------
    DataError
        A tensor is missing or of another shape; the message names the first ones.
    """
    found = fit(state, own)
    if found.missing or found.wrong:
        parts = [f"missing: {_listed(found.missing)}"] if found.missing else []
        parts += [f"different: {_listed(found.wrong)}"] if found.wrong else []
        parts += [f"not in the model: {_listed(found.left)}"] if found.left else []
        raise DataError(
            f"the weights {source} do not fit the model ({'; '.join(parts)}); give the file of this architecture{hint}."
        )
    return found


def load_weights(model: nn.Module, file: Path, *, head: Collection[str] = ()) -> Fit:
    """Load a local file of weights into a model that is going to be trained, or that wrote it; see `load_state`.

    Raises
    ------
    InputError
        No such file, or not one of the known endings.
    DataError
        It is damaged, holds more than tensors, or its tensors do not fit; the message lists the first that differ.
    """
    return load_state(model, read_weights(file), str(file), head=head)


def load_state(model: nn.Module, state: State, source: str, *, head: Collection[str] = ()) -> Fit:
    """Load tensors into a model that is going to be trained; see `fitting`."""
    found = fitting(model.state_dict(), state, source, head=head)
    model.load_state_dict(dict(found.tensors), strict=False)
    return found


def fitting(own: Mapping[str, Tensor], state: State, source: str, *, head: Collection[str] = ()) -> Fit:
    """Check that tensors fit a network that is going to be trained, and that none is left over.

    Parameters
    ----------
    own : mapping
        The network's ``state_dict``; names and shapes are enough.
    state : State
        What `read_weights` found.
    source : str
        Name of the file, for messages.
    head : collection of str
        Parameters of the classifier: these may be of another number of classes, or missing, and then stay as they are.

    Raises
    ------
    DataError
        The tensors do not fit; the message lists the first that differ.
    """
    found = fit(state, own)
    problems = [
        *(f"shape of {text}" for text in found.wrong if text.partition(" ")[0] not in head),
        *(f"no {key}" for key in found.missing if key not in head),
        *(f"unexpected {key}" for key in found.left),
    ]
    if problems:
        raise DataError(
            f"the weights {source} do not fit the model: {'; '.join(problems[:SHOWN])}"
            f"{f' and {len(problems) - SHOWN} more' if len(problems) > SHOWN else ''}; "
            "give the file of this architecture."
        )
    return found


def _prefix(tensors: Collection[str], own: Mapping[str, Any]) -> str:
    """Return the name prefix, of those that training loops add, without which most names match the network's."""
    best, most, prefix = "", sum(key in own for key in tensors), ""
    for _depth in range(3):  # as in module.model.
        longer = [prefix + part for part in PREFIXES if any(key.startswith(prefix + part) for key in tensors)]
        if not longer:
            break
        prefix = max(longer, key=lambda start: sum(key.startswith(start) for key in tensors))
        hits = sum(key.removeprefix(prefix) in own for key in tensors if key.startswith(prefix))
        if hits > most:
            best, most = prefix, hits
    return best


def _unreadable(file: Path, error: Exception) -> Exception:
    """Describe why a file cannot be read as weights; torch's own message advises to execute it."""
    text = str(error)
    if "TorchScript" in text:
        return InputError(
            f"{file} is a TorchScript archive, not weights; save the model's state_dict, or export it with --onnx FILE."
        )
    held = re.search(r"GLOBAL ([\w.]+)", text)
    if held:
        return DataError(
            f"the weights {file} contain objects of {held[1]}, which cannot be loaded without running code from the "
            "file; save the model's state_dict alone, best as .safetensors."
        )
    reason = re.sub(r"\x1b\[[0-9;]*m", "", (text.splitlines() or [""])[0])
    reason = reason or f"{type(error).__name__}, as of a file that is cut off"
    reason = "not a file of torch.save" if "weights_only" in reason or "Weights only" in reason else reason[:160]
    return DataError(f"the weights {file} cannot be read safely ({reason}); save them again, best as .safetensors.")


def _listed(names: Collection[str]) -> str:
    shown = list(names)[:SHOWN]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(names) > len(shown) else "")
