"""Calibration policies: the weights of the groups when ranges are computed from a record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fqbench.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fqbench.quant.record import CalibrationRecord

AS_SAMPLED, BALANCED, STRATIFIED, MINIMAX = "as-sampled", "balanced", "stratified", "minimax"
ONLY, WEIGHTS = "only", "weights"
KNOWN = (AS_SAMPLED, BALANCED, STRATIFIED, MINIMAX, f"{ONLY}=GROUP", f"{WEIGHTS}=GROUP:2,GROUP:1")


@dataclass(frozen=True)
class Policy:
    """A weighting of groups, applied to a record without running the model.

    Attributes
    ----------
    name : str
        ``as-sampled`` (each image counts once), ``balanced`` (each group counts the same), ``stratified`` (each as
        much as its share among the images that could be chosen), ``only`` (one group), ``weights`` (each group as much
        as said, groups left out as much as 1), or ``minimax`` (no weighting: per tensor, the range that minimises the
        largest squared quantization error of any group).
    groups : mapping
        Group to weight, for ``only`` and ``weights``.
    """

    name: str = AS_SAMPLED
    groups: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Policy:
        """Parse a policy as on the command line: ``balanced``, ``only=GROUP``, ``weights=A:2,B:0.5`` ...

        Raises
        ------
        InputError
            The policy is unknown, or a weight is invalid.
        """
        name, equals, rest = text.partition("=")
        name = AS_SAMPLED if name == "none" else name
        if name == ONLY and rest:
            return cls(ONLY, {rest.strip(): 1.0})
        if name == WEIGHTS and rest:
            return cls(WEIGHTS, _weights(rest))
        if name in {AS_SAMPLED, BALANCED, STRATIFIED, MINIMAX} and not equals:
            return cls(name)
        raise InputError(f"unknown calibration policy {text!r}: {did_you_mean(text, KNOWN)}")

    @property
    def label(self) -> str:
        """The policy as it is written on the command line."""
        if self.name == ONLY:
            return f"{ONLY}={next(iter(self.groups))}"
        if self.name == WEIGHTS:
            return f"{WEIGHTS}=" + ",".join(f"{group}:{weight:g}" for group, weight in self.groups.items())
        return self.name

    def image_weights(self, record: CalibrationRecord) -> NDArray[np.float64]:
        """Return the weight of one image of each group of a record, shape (groups,).

        Raises
        ------
        InputError
            The policy names a group that the record does not have.
        """
        for group in self.groups:
            if group not in record.groups:
                raise InputError(
                    f"--calib-policy {self.label}: no group {group!r}: {did_you_mean(group, record.groups)}"
                )
        images = record.images.astype(np.float64)
        if self.name in {AS_SAMPLED, MINIMAX}:
            return np.ones_like(images)
        if self.name == BALANCED:
            return 1 / images
        if self.name == STRATIFIED:
            return np.array([float(record.population[group]) for group in record.groups]) / images
        default = 0.0 if self.name == ONLY else 1.0
        return np.array([self.groups.get(group, default) for group in record.groups]) / images


def _weights(text: str) -> dict[str, float]:
    weights = {}
    for part in text.split(","):
        group, colon, number = part.rpartition(":")
        try:
            weight = float(number)
        except ValueError:
            weight = -1.0
        if not colon or not np.isfinite(weight) or weight < 0:
            raise InputError(f"--calib-policy weights={text}: {part!r} is not GROUP:WEIGHT with a weight from 0.")
        weights[group.strip()] = weight
    if not any(weights.values()):
        raise InputError(f"--calib-policy weights={text}: at least one weight must be above 0.")
    return weights
