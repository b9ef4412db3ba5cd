"""Classifiers and their cost as documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from fqbench.report.document import Document, Heading, Sheet, notes

if TYPE_CHECKING:
    from fqbench.models.profile import ListedModel, Profile


def models_document(models: Sequence[ListedModel]) -> Document:
    """Return names of classifiers and where they come from."""
    rows = tuple((model.name, model.library, model.entry, str(model.size or "")) for model in models)
    more = "Any other timm or torchvision classifier works too: fqbench models list PATTERN"
    below = notes(more if all(model.study for model in models) else "")
    columns = ("name", "library", "name in the library", ">input size")
    return Document((Sheet("", columns, rows, below),), [asdict(model) for model in models])


def profile_document(profile: Profile) -> Document:
    """Return what a classifier costs."""
    title = f"{profile.name} ({profile.library}/{profile.entry}), one {profile.size}x{profile.size} image"
    rows = (
        ("parameters", f"{profile.parameters:,}"),
        ("weights, FP32", f"{profile.weight_bytes / 1e6:.1f} MB"),
        ("FLOPs (2 per multiply-accumulate)", f"{profile.flops / 1e9:.3f} G"),
        ("activations, all layers", f"{profile.activation_bytes / 1e6:.1f} MB"),
        ("activations, largest layer", f"{profile.largest_layer_bytes / 1e6:.1f} MB"),
        ("classifier head", profile.head),
    )
    operators = ", ".join(f"{name} {count}" for name, count in profile.operators.items())
    sheet = Sheet("", ("", ">figure"), rows, notes(f"ONNX operators: {operators}"))
    return Document((Heading(title), sheet), profile.to_dict())
