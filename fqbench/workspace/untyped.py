"""The older form of a derivation, for stages whose facts have no type yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict

from fqbench.workspace.entries import Derivation, Facts, Kind


class Untyped(Facts):
    """Facts without a type."""

    model_config = ConfigDict(extra="allow")


class Recipe(Derivation[Any]):
    """A derivation of a kind without a type."""

    def __init__(
        self, kind: str, slug: str, version: int, determined_by: Mapping[str, Any], inputs: Mapping[str, str]
    ) -> None:
        values = {"version": version, **determined_by}
        super().__init__(Kind(kind, 0, Untyped), slug, values, inputs)
