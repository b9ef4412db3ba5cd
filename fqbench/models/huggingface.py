"""Hugging Face's image classifiers: ``hf:DIR`` for a folder that `save_pretrained` wrote, or ``hf:NAME`` for a hub's.

The folder's ``config.json`` says which network it is, and travels in the architecture's reference, so that an artifact
can be loaded where the folder is not. Weights are safetensors. Code that a repository brings is never run.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fqbench.errors import DataError, InputError, did_you_mean
from fqbench.models import hub
from fqbench.models.adopt import conventions
from fqbench.models.weights import State, require_plain
from fqbench.optional import require

if TYPE_CHECKING:
    from torch import nn

LIBRARY = "hf"
PREFIX = "hf:"
CONFIG, PREPROCESSOR = conventions.CONFIG_FILE, conventions.PREPROCESSOR_FILE
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
FILES = (CONFIG, PREPROCESSOR, WEIGHTS, INDEX, "model-*.safetensors")
HEAD = "ForImageClassification"
INSIDE = "model."  # names of the parameters begin so, see `_logits_alone`
# What says nothing about the network: names of classes are kept apart, the rest is how and where it was saved.
UNUSED = ("id2label", "label2id", "num_labels", "_name_or_path", "transformers_version", "dtype", "torch_dtype")


def is_huggingface(name: str) -> bool:
    """Whether a model's name or reference is one of Hugging Face's."""
    return name.startswith(PREFIX)


def find_folder(name: str) -> Path:
    """Return the folder of ``hf:DIR`` or ``hf:NAME``, from the hub's cache or downloaded.

    Raises
    ------
    InputError
        There is no such folder.
    UnavailableError
        The name is neither cached, nor can the hub be reached.
    """
    check_name(name)
    target = name.removeprefix(PREFIX)
    folder = Path(target).expanduser()
    return folder.absolute() if folder.is_dir() else hub.repository(target, FILES)


def check_name(name: str) -> None:
    """Check that ``hf:DIR`` is a folder, or can be the name of a hub's repository; or a configuration.

    Raises
    ------
    InputError
        It is neither.
    """
    target = name.removeprefix(PREFIX)
    folder, parts = Path(target).expanduser(), target.split("/")
    if target.startswith("{") or folder.is_dir():
        return
    if len(parts) > 2 or target.startswith((".", "~")) or not all(parts):
        raise InputError(f"--model {name}: there is no folder {folder}; give the one that save_pretrained wrote.")


def read_config(folder: Path) -> dict[str, Any]:
    """Return the contents of ``config.json``.

    Raises
    ------
    InputError
        There is none, or it is of something else than an image classifier of transformers.
    DataError
        It is damaged.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise InputError(f"{folder} has no {CONFIG}; give the folder that save_pretrained wrote.")
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read ({error}); save the model again.") from error
    _require_form(config, path)
    if "model_type" not in config:
        timm = f"; it is timm's, use --model timm/{config['architecture']}" if "architecture" in config else ""
        raise InputError(f"{path} has no model_type, so it is not a transformers model{timm}.")
    if "auto_map" in config:
        raise InputError(
            f"{path} needs code of its own (auto_map), which is not run; use --model package.module:function."
        )
    if "quantization_config" in config:
        raise InputError(f"{path} belongs to a model that is already quantized; give the FP32 model it was made from.")
    classes = config.get("architectures") or []
    if classes and not any(str(name).endswith(HEAD) for name in classes):
        raise InputError(f"{path} is of {', '.join(classes)}, not of an image classifier (…{HEAD}).")
    return config


def _require_form(config: Any, path: Path) -> None:
    """Raise an error where a part that is read here is not what save_pretrained writes."""
    wrong = ""
    if not isinstance(config, dict):
        wrong = "it is not a mapping"
    elif not isinstance(config.get("model_type", ""), str):
        wrong = "model_type is not text"
    elif not isinstance(config.get("architectures") or [], list):
        wrong = "architectures is not a list"
    else:
        labels = config.get("id2label") or {}
        if not isinstance(labels, dict) or not all(str(key).isdecimal() for key in labels):
            wrong = "id2label does not name classes by number"
    if wrong:
        raise DataError(f"{path} is not as save_pretrained writes it ({wrong}); save the model again.")


def labels_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the classes in order; empty where they are only numbered (LABEL_0 ...)."""
    table = config.get("id2label") or {}
    names = tuple(str(table[key]) for key in sorted(table, key=int))
    return () if all(name == f"LABEL_{index}" for index, name in enumerate(names)) else names


def network_part(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a configuration that determines the network."""
    return {key: value for key, value in sorted(config.items()) if key not in UNUSED}


def preprocessing_of(folder: Path) -> dict[str, Any]:
    """Return the contents of ``preprocessor_config.json`` as fields of `fqbench.config.Preprocessing`.

    Raises
    ------
    InputError
        It is something that is not done here: images that are not divided by 255, or channels in another order.
    """
    path = folder / PREPROCESSOR
    if not path.is_file():
        return {}
    found = conventions.understood(conventions.of_preprocessor, path)
    divided = found.options.get("scale_pixels", 1) == 1
    if not divided or "channels" in found.options:
        raise InputError(
            f"{path} asks for {'BGR images' if divided else 'pixels that are not divided by 255'}, which a network in "
            "torch does not get here; export it with transformers and use --onnx with --channels and --scale-pixels."
        )
    return dict(found.preprocessing)


def build(config: Mapping[str, Any], *, classes: int) -> nn.Module:
    """Build the network of a configuration, with random weights; it returns only logits.

    Raises
    ------
    UnavailableError
        transformers is not installed.
    InputError
        It knows no such classifier.
    """
    kind = str(config["model_type"])
    options = {key: value for key, value in config.items() if key not in {"model_type", "architectures"}}
    with warnings.catch_warnings(
        action="ignore"
    ):  # of what transformers imports, when it is compiled for the first time
        transformers = require("transformers", extra="hf")
        known = transformers.models.auto.modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES
        if kind not in known:
            raise InputError(f"transformers has no image classifier {kind!r}: {did_you_mean(kind, known)}")
        try:
            made = transformers.AutoConfig.for_model(kind, **options, num_labels=classes)
            # Attention as matrix products and a softmax, which every exporter and quantizer knows.
            network = transformers.AutoModelForImageClassification.from_config(made, attn_implementation="eager")
        except Exception as error:
            raise InputError(
                f"transformers cannot build this {kind} ({_reason(error)}); check its {CONFIG}."
            ) from error
    return _logits_alone(network)


def _logits_alone(network: nn.Module) -> nn.Module:
    """Wrap a classifier of transformers so that it takes images and returns a tensor."""
    from torch import Tensor, nn

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = network

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.model(pixel_values=images).logits
            return logits

    return Logits()


def read_state(folder: Path) -> State:
    """Return the tensors of a folder, by the names that they have in what `build` returns.

    transformers reads them, since it renames many of them on the way; safetensors alone, and no code of the folder.

    Raises
    ------
    UnavailableError
        transformers is not installed.
    InputError
        The folder holds no safetensors.
    DataError
        They are damaged, or some are missing.
    """
    if not weight_files(folder):
        pickled = ", only pickled ones" if any(folder.glob("*.bin")) else ""
        raise InputError(f"{folder} has no {WEIGHTS}{pickled}; save the model again with save_pretrained.")
    with warnings.catch_warnings(action="ignore"):
        transformers = require("transformers", extra="hf")
        options = {"use_safetensors": True, "local_files_only": True, "trust_remote_code": False}
        level = transformers.utils.logging.get_verbosity()
        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        try:
            network, found = transformers.AutoModelForImageClassification.from_pretrained(
                folder, **options, dtype="float32", attn_implementation="eager", output_loading_info=True
            )
        except Exception as error:
            raise DataError(
                f"the weights in {folder} cannot be loaded ({_reason(error)}); save the model again."
            ) from error
        finally:
            transformers.utils.logging.set_verbosity(level)
    if found["missing_keys"]:
        first = ", ".join(sorted(found["missing_keys"])[:5])
        raise DataError(f"the weights in {folder} lack {len(found['missing_keys'])} tensors ({first}); save it again.")
    tensors = {INSIDE + key: value for key, value in network.state_dict().items()}
    require_plain(tensors, folder)
    return State(tensors, beside=tuple(sorted(found["unexpected_keys"])))


def weight_files(folder: Path) -> list[Path]:
    """Return the files of the weights, for their digest."""
    return sorted(path for path in (*folder.glob("model*.safetensors"), folder / INDEX) if path.is_file())


def _reason(error: Exception) -> str:
    text = (str(error).splitlines() or [""])[0][:160]
    return f"{type(error).__name__}: {text}"


def order_of(labels: Sequence[str], classes: Sequence[str], name: str) -> tuple[int, ...]:
    """Return the index of each class of the data among the model's classes; empty if the order is the same.

    Raises
    ------
    InputError
        The model's classes are others.
    """
    if not labels or list(labels) == list(classes):
        return ()
    place = {label.casefold(): index for index, label in enumerate(labels)}
    if len(labels) == len(classes) == len(place) and all(one.casefold() in place for one in classes):
        order = tuple(place[one.casefold()] for one in classes)
        return () if order == tuple(range(len(order))) else order
    raise InputError(
        f"{name} has {len(labels)} classes ({_some(labels)}), but the data have {len(classes)} "
        f"({_some(classes)}); train it for at least one epoch, or write the data's names into id2label of its {CONFIG}."
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
