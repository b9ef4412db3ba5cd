"""Cells: one configuration each, with an id that is known before any work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

from fqbench.config import Config
from fqbench.storage import file_digest
from fqbench.study.methods import FLOAT
from fqbench.workspace.entries import derived_id
from fqbench.workspace.kinds import CELLS


class Phase(StrEnum):
    """In which phase of a study a cell is made."""

    BASELINES = "baselines"
    METHODS = "methods"
    MITIGATION = "mitigation"


@dataclass(frozen=True)
class Coordinates:
    """Where a cell is in the grid; a coordinate that a method does not have is empty.

    Attributes
    ----------
    data, model : str
        Names of the variants.
    seed : int
        Training seed.
    backend, method : str
        The runtime, and the method; ``fp32`` for a baseline.
    bits : int
        Bits of the weights; 32 for a baseline.
    sampler, policy : str
        Of the calibration; empty where nothing is calibrated.
    mitigation : str
        Empty without one.
    """

    data: str
    model: str
    seed: int
    backend: str
    method: str
    bits: int
    sampler: str = ""
    policy: str = ""
    mitigation: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)

    @property
    def trained(self) -> tuple[str, str, int]:
        """Data, model and seed: cells with the same ones start from one trained model, and share most of their work."""
        return self.data, self.model, self.seed

    @property
    def name(self) -> str:
        """A readable name, unique in a study."""
        scheme = FLOAT if self.method == FLOAT else f"{self.method}/int{self.bits}"
        parts = (self.data, self.model, f"seed{self.seed}", self.backend, scheme, self.sampler, self.policy)
        return "/".join(part for part in (*parts, self.mitigation) if part)


@dataclass(frozen=True)
class Cell:
    """One cell of a study.

    Attributes
    ----------
    coordinates : Coordinates
        Where it is in the grid.
    phase : Phase
        When it is made.
    config : Config
        What is made: validated, complete.
    baseline : Config
        The FP32 model that it is compared with: of the same model, data, seed and backend, without a mitigation.
    decides : bool
        Whether a decision is fitted on validation predictions (`fqbench.stages.threshold`).
    constraint : str or None
        The constraint of that decision; None for one threshold for all groups.
    """

    coordinates: Coordinates
    phase: Phase
    config: Config
    baseline: Config
    decides: bool = False
    constraint: str | None = None

    @property
    def name(self) -> str:
        """As `Coordinates.name`."""
        return self.coordinates.name

    @cached_property
    def id(self) -> str:
        """Readable slug and hash of the canonical configuration."""
        return derived_id(CELLS.name, CELLS.version, self.name.replace("/", "-"), self._identity())

    def _identity(self) -> Mapping[str, Any]:
        return {
            "coordinates": self.coordinates.to_dict(),
            "config": canonical(self.config),
            "baseline": canonical(self.baseline),
            "decision": [self.decides, self.constraint],
        }


def canonical(config: Config) -> dict[str, Any]:
    """Return a configuration as JSON values, with the contents of a recipe in place of its path."""
    values: dict[str, Any] = config.model_dump(mode="json")
    recipe = config.quantize.recipe
    if recipe is not None and recipe.is_file():
        values["quantize"]["recipe"] = file_digest(recipe)
    return values
