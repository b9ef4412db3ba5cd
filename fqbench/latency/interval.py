"""A figure with its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """A figure and its interval; an end is infinite where the rounds are too few to bound it."""

    value: float
    low: float
    high: float

    def inverse(self) -> Interval:
        """Return the estimate of 1 / value."""
        return Interval(divide(1.0, self.value), divide(1.0, self.high), divide(1.0, self.low))

    def to_dict(self) -> dict[str, float | None]:
        """Return JSON values; an infinite end is null."""
        ends = {"value": self.value, "low": self.low, "high": self.high}
        return {name: end if math.isfinite(end) else None for name, end in ends.items()}


def divide(numerator: float, denominator: float) -> float:
    """Return a quotient with its limits: 0 over infinity, infinity over 0."""
    if math.isinf(denominator):
        return 0.0
    return numerator / denominator if denominator else math.inf
