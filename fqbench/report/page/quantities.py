"""Quantities that trade-offs are about: costs, and what is bought with them."""

from __future__ import annotations

from fqbench.report.figures import Axis, Quantity

LATENCY = Quantity("latency", Axis("latency at p50, ms"), less_is_better=True)
SIZE = Quantity("size", Axis("size of the artifact, MB"), less_is_better=True)
WORST = Quantity("worst", Axis("accuracy of the worst group", percent=True), less_is_better=False)
OVERALL = Quantity("accuracy", Axis("accuracy of all images", percent=True), less_is_better=False)
GAP = Quantity("gap", Axis("accuracy gap between groups", percent=True), less_is_better=True)
LOSS = Quantity("loss", Axis("change of the group that lost most, points", signed=True), less_is_better=False)
UP = (WORST, OVERALL, GAP)
