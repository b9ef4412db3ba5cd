"""Part of a grid of slow tests that takes minutes: the same part each time, or all of it on request."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Case = TypeVar("Case")
EVERYTHING = "FQBENCH_ALL_CASES"


def sampled(cases: Sequence[Case], share: float = 0.5) -> list[Case]:
    """Return a share of the cases, drawn from a fixed seed, in their order; all of them if the variable is set."""
    if os.environ.get(EVERYTHING):
        return list(cases)
    chosen = np.random.default_rng(0).choice(len(cases), int(share * len(cases)), replace=False)
    return [cases[index] for index in sorted(chosen)]
