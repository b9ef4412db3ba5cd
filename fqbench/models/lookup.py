"""Facts of a classifier without loading torch, cached in the workspace."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fqbench.models import code, zoo
from fqbench.models.preprocessing import native_preprocessing
from fqbench.optional import installed_version
from fqbench.run import Run
from fqbench.storage import file_digest
from fqbench.workspace.memo import remembered

LIBRARIES = ("timm", "torchvision")


def classifier(run: Run, name: str, arguments: Mapping[str, Any] | None = None) -> zoo.Architecture:
    """Find a classifier as `fqbench.models.zoo.find`, looking it up once per workspace and version.

    Raises
    ------
    InputError
        There is no such classifier.
    UnavailableError
        torch, timm or torchvision is not installed.
    """
    installed_version("torch", extra="train")
    if code.is_code(name) or arguments:
        return zoo.find(name, arguments)
    versions = {library: installed_version(library, extra="train") for library in LIBRARIES}

    def ask() -> dict[str, Any]:
        found = zoo.find(name)
        native = native_preprocessing(found)
        return {"library": found.library, "entry": found.entry, "native": native}

    known = remembered(run.workspace.root, {"classifier": name, "versions": versions}, ask)
    return zoo.Architecture(name, known["library"], known["entry"], native=known["native"])


def check_weights(
    run: Run, architecture: zoo.Architecture, file: Path, *, size: tuple[int, int], as_it_is: bool
) -> None:
    """Check once that a file of weights fits, before data are drawn or decoded.

    Raises
    ------
    InputError, DataError
        It is missing or damaged, holds more than tensors, or does not fit.
    """

    def look() -> dict[str, Any]:
        zoo.check_weights(architecture, file, size=size, as_it_is=as_it_is)
        return {"fits": True}

    if not file.is_file():
        look()  # says that there is no such file
    asked = {
        "weights": file_digest(file),
        "suffix": file.suffix,
        "of": architecture.identity,
        "size": size,
        "as_it_is": as_it_is,
    }
    remembered(run.workspace.root, asked, look)
