"""Methods and mitigations that a study file may name: each is a set of changes of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FLOAT = "fp32"  # the method of a baseline cell

# A method's bits come from the grid, except where it brings a recipe.
METHODS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "ptq_static": {"quantize": {"method": "ptq_static"}},
    "ptq_dynamic": {"quantize": {"method": "ptq_dynamic"}},
    "qat": {"quantize": {"method": "qat"}},
    # First and last layer in float, the layers between them in the bits of the grid.
    "mixed_precision": {"quantize": {"method": "ptq_static", "keep_float": ["first", "head"]}},
    # The classifier in float on a quantized backbone.
    "hybrid": {"quantize": {"method": "ptq_static", "keep_float": ["head"]}},
}

MITIGATIONS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "balanced_calibration": {"quantize": {"calib": "balanced", "calib_policy": "balanced"}},
    "minimax_ranges": {"quantize": {"calib_policy": "minimax"}},
    "float_head": {"quantize": {"keep_float": ["head"]}},
    "preserved_layers": {"quantize": {"keep_float": ["first", "head"]}},
    "group_balanced_training": {"train": {"objective": "group-balanced"}},
    "threshold": {},
    "equalized_odds_thresholds": {},
    "demographic_parity_thresholds": {},
}
# Mitigations that fit a decision on validation predictions: the constraint, None for one threshold for all groups.
DECISIONS: Mapping[str, str | None] = {
    "threshold": None,
    "equalized_odds_thresholds": "equalized_odds",
    "demographic_parity_thresholds": "demographic_parity",
}
