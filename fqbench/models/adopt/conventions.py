"""Metadata of a model: in the file itself, or in configuration files next to it."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isclose
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fqbench.errors import InputError
from fqbench.storage import file_digest

if TYPE_CHECKING:
    from onnx import ModelProto

PREPROCESSING = "fqbench.preprocessing"
CLASSES = "fqbench.classes"
PREPROCESSOR_FILE, CONFIG_FILE = "preprocessor_config.json", "config.json"
RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers


@dataclass(frozen=True)
class Stated:
    """Stated facts of a model; missing ones are left out.

    Attributes
    ----------
    preprocessing : mapping
        Fields of `fqbench.config.Preprocessing`.
    options : mapping
        ``channels``, ``scale_pixels``: fields of `fqbench.config.ModelOptions`.
    classes : tuple of str
        Names of the model's own classes.
    sources : tuple of str
        Where it is written.
    """

    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    def over(self, other: Stated) -> Stated:
        """Merge two statements; this one takes precedence."""
        return Stated(
            {**other.preprocessing, **self.preprocessing},
            {**other.options, **self.options},
            self.classes or other.classes,
            (*self.sources, *other.sources),
        )


def stated(path: Path, model: ModelProto) -> Stated:
    """Return what the file's metadata say, then the JSON files in its folder (or above a folder named ``onnx``).

    Raises
    ------
    InputError
        A configuration file next to the model is not JSON.
    """
    folders = [path.parent, *([path.parent.parent] if path.parent.name == "onnx" else [])]
    found = _of_metadata(path, {entry.key: entry.value for entry in model.metadata_props})
    for name, read in ((PREPROCESSOR_FILE, of_preprocessor), (CONFIG_FILE, _of_config)):
        file = next((folder / name for folder in folders if (folder / name).is_file()), None)
        if file is not None:
            said = understood(read, file)
            if said.preprocessing or said.options or said.classes:
                found = found.over(Stated(said.preprocessing, said.options, said.classes, (str(file),)))
    return found


def digests(path: Path, *others: Path | None) -> dict[str, str]:
    """Return the SHA-256 of a model, of all files read with it, and of existing other files."""
    import onnx

    folders = [path.parent, *([path.parent.parent] if path.parent.name == "onnx" else [])]
    beside = {folder / name for folder in folders for name in (PREPROCESSOR_FILE, CONFIG_FILE)}
    try:
        tensors = onnx.load(path, load_external_data=False).graph.initializer
        beside |= {path.parent / entry.value for t in tensors for entry in t.external_data if entry.key == "location"}
    except Exception:  # not ONNX: said, with the reason, when it is read
        return {path.name: file_digest(path)}
    files = [path, *sorted(beside), *(other for other in others if other is not None)]
    return {file.name: file_digest(file) for file in files if file.is_file()}


def understood(read: Callable[[Mapping[str, Any]], Stated], file: Path) -> Stated:
    """Return what a JSON file says.

    Raises
    ------
    InputError
        It is not JSON, or has values of another kind.
    """
    try:
        return read(read_json(file))
    except (TypeError, ValueError, KeyError, AttributeError, ZeroDivisionError) as error:
        raise InputError(
            f"{file} next to the model has a value of another kind than expected ({error}); correct or remove it."
        ) from error


def read_json(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file, or raise InputError."""
    try:
        values = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} next to the model cannot be read ({error}); correct or remove it.") from error
    return values if isinstance(values, dict) else {}


def _of_metadata(path: Path, metadata: Mapping[str, str]) -> Stated:
    """Read what fqbench, Windows ML and Ultralytics write."""
    if PREPROCESSING in metadata:
        try:
            names = tuple(str(name) for name in json.loads(metadata.get(CLASSES, "[]")))
            said = dict(json.loads(metadata[PREPROCESSING]))
            said |= {key: _per_channel(said[key]) for key in ("mean", "std") if key in said}
            return Stated(said, {}, names, (f"the metadata of {path}",))
        except (TypeError, ValueError) as error:
            raise InputError(
                f"the metadata {PREPROCESSING} of {path} are damaged ({error}); export it again."
            ) from error
    options: dict[str, Any] = {}
    formats = {"Bgr8": "bgr", "Rgb8": "rgb", "Gray8": "gray"}
    if metadata.get("Image.BitmapPixelFormat") in formats:
        options["channels"] = formats[metadata["Image.BitmapPixelFormat"]]
    ranges = {"NominalRange_0_255": 255, "Normalized_0_1": 1}
    if metadata.get("Image.NominalPixelRange") in ranges:
        options["scale_pixels"] = ranges[metadata["Image.NominalPixelRange"]]
    names = _names(_literal(metadata.get("names", "")))
    return Stated({}, options, names, (f"the metadata of {path}",) if options or names else ())


def of_preprocessor(values: Mapping[str, Any]) -> Stated:
    """Read Hugging Face's ``preprocessor_config.json``."""
    said: dict[str, Any] = {}
    options: dict[str, Any] = {}
    size, crop = values.get("size"), values.get("crop_size")
    crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop
    size = {"height": size, "width": size} if isinstance(size, int) else size
    if values.get("do_resize", True) and isinstance(size, dict):
        said |= _geometry(size, crop if values.get("do_center_crop") else None, values.get("crop_pct"))
    if values.get("resample") in RESAMPLING:
        said["interpolation"] = RESAMPLING[values["resample"]]
    if values.get("do_normalize", True) and "image_mean" in values and "image_std" in values:
        said |= {"mean": _per_channel(values["image_mean"]), "std": _per_channel(values["image_std"])}
    elif values.get("do_normalize") is False:
        said |= {"mean": (0.0,) * 3, "std": (1.0,) * 3}
    if values.get("do_flip_channel_order"):
        options["channels"] = "bgr"
    if "do_rescale" in values:
        options["scale_pixels"] = 1 if values["do_rescale"] else 255
    factor = 255 * float(values.get("rescale_factor") or 1 / 255)
    below = 1.0 if values.get("rescale_offset") else 0.0
    rescaled = values.get("do_rescale", True) and (below or not isclose(factor, 1, rel_tol=1e-3))
    if rescaled and {"mean", "std"} <= said.keys():
        # Another factor than 1/255, as for values from -1 to 1, is another mean and std.
        said["mean"] = tuple((mean + below) / factor for mean in said["mean"])
        said["std"] = tuple(std / factor for std in said["std"])
    return Stated(said, options)


def _geometry(size: Mapping[str, int], crop: Mapping[str, int] | None, crop_share: float | None) -> dict[str, Any]:
    shorter = size.get("shortest_edge")
    if crop and "height" in crop:
        asked = shorter or min(size["height"], size["width"])
        share = min(1.0, crop["height"] / asked)
        return {"size": (crop["height"], crop["width"]), "crop": share, "fit": "crop"}
    if shorter is not None:
        return {"size": (shorter, shorter), "fit": "crop", "crop": crop_share or 1.0}
    if "height" in size and "width" in size:
        return {"size": (size["height"], size["width"]), "fit": "squash"}
    return {}


def _of_config(values: Mapping[str, Any]) -> Stated:
    """Read ``config.json`` of timm (``pretrained_cfg``, ``label_names``) or of Hugging Face (``id2label``)."""
    said: dict[str, Any] = {}
    config = values.get("pretrained_cfg")
    if isinstance(config, dict):
        shape = config.get("input_size") or ()
        if len(shape) == 3:
            said["size"] = tuple(shape[1:])
        said |= {key: _per_channel(config[key]) for key in ("mean", "std") if config.get(key) is not None}
        if config.get("crop_pct") is not None:
            said["crop"] = min(1.0, float(config["crop_pct"]))
        if config.get("crop_mode") in {"center", "squash"}:
            said["fit"] = "squash" if config["crop_mode"] == "squash" else "crop"
        if config.get("interpolation") in RESAMPLING.values():
            said["interpolation"] = config["interpolation"]
    return Stated(said, {}, _names(values.get("label_names")) or _names(values.get("id2label")))


def _per_channel(values: Any) -> tuple[float, ...]:
    """Return three numbers, from three or from one that stands for all channels."""
    given = [values] if isinstance(values, int | float) else list(values)
    if len(given) not in {1, 3}:
        raise ValueError(f"{len(given)} numbers for 3 channels")
    return tuple(float(one) for one in (given * 3 if len(given) == 1 else given))


def _names(values: Any) -> tuple[str, ...]:
    """Return names in order, from a list or from a mapping of numbers to names."""
    if isinstance(values, Mapping) and all(str(key).isdecimal() for key in values):
        return tuple(str(values[key]) for key in sorted(values, key=int))
    return tuple(str(value) for value in values) if isinstance(values, (list, tuple)) else ()


def _literal(text: str) -> Any:
    """Read the Python literal that some exporters write into metadata."""
    try:
        return ast.literal_eval(text) if text else None
    except (ValueError, SyntaxError):
        return None
