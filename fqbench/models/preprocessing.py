"""What a classifier's images have to look like: its own preprocessing, and what the user says of it."""

from __future__ import annotations

from typing import Any

from fqbench.config import Preprocessing, PreprocessingOptions
from fqbench.errors import InputError
from fqbench.models import code, huggingface
from fqbench.models.zoo import Architecture
from fqbench.optional import require


def preprocessing_of(
    architecture: Architecture, asked: PreprocessingOptions, *, drawn_size: int | None, trained: bool = False
) -> Preprocessing:
    """Return the preprocessing: the user's, else the model's own.

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
    facts = dict(native_preprocessing(architecture) if architecture.native is None else architecture.native)
    if drawn_size is not None:
        facts |= {"size": (drawn_size, drawn_size), "crop": 1.0}
    facts |= asked.stated()
    needed = ("size",) if architecture.library == code.LIBRARY and not trained else ("size", "mean", "std")
    missing = [f"--{name}" for name in needed if name not in facts]
    if missing:
        raise InputError(
            f"--model {architecture.name} does not state its preprocessing: add {' '.join(missing)} "
            "(size in pixels; mean and std per channel, for values from 0 to 1)."
        )
    return Preprocessing.model_validate(facts)


def native_preprocessing(architecture: Architecture) -> dict[str, Any]:
    """Return a model's own preprocessing: complete for timm and torchvision, empty for code."""
    if architecture.library == code.LIBRARY:
        return {}
    if architecture.library == huggingface.LIBRARY:
        return huggingface.preprocessing_of(architecture.folder) if architecture.folder else {}
    if architecture.library == "timm":
        config = require("timm", extra="train").get_pretrained_cfg(architecture.entry)
        interpolation = config.interpolation if config.interpolation in {"bicubic", "lanczos"} else "bilinear"
        return {
            "size": config.input_size[-1],
            "crop": config.crop_pct,
            "mean": config.mean,
            "std": config.std,
            "interpolation": interpolation,
        }
    models = require("torchvision.models", extra="train")
    recipe = models.get_model_weights(architecture.entry).DEFAULT.transforms()
    return {
        "size": recipe.crop_size[0],
        "crop": min(1.0, recipe.crop_size[0] / recipe.resize_size[0]),
        "mean": tuple(recipe.mean),
        "std": tuple(recipe.std),
        "interpolation": recipe.interpolation.value,
    }
