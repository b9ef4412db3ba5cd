"""Schemes whose integer answers are the same on every CPU."""

from __future__ import annotations

from fqbench.contracts.scheme import Scheme
from fqbench.machine import IntegerSums, this_machine


def exact(scheme: Scheme) -> Scheme:
    """Return the scheme, with 7-bit weights where the 16-bit sums of this CPU saturate and ranges are calibrated."""
    saturating = this_machine().integer_sums is IntegerSums.SATURATING
    return scheme.model_copy(update={"reduce_range": True}) if saturating and scheme.needs_calibration else scheme
