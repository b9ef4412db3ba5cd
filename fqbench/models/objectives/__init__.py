"""Training objectives: which images an epoch uses, the loss of a batch, and the state that a resumed run restores."""

from __future__ import annotations

from fqbench.models.objectives.compose import DISTILLATION, Mending, check_used, needs_groups, objective, parts_of
from fqbench.models.objectives.distillation import Teacher
from fqbench.models.objectives.protocol import AnsweredBatch, EmpiricalRisk, GroupBalanced, Objective

__all__ = [
    "DISTILLATION",
    "AnsweredBatch",
    "EmpiricalRisk",
    "GroupBalanced",
    "Mending",
    "Objective",
    "Teacher",
    "check_used",
    "needs_groups",
    "objective",
    "parts_of",
]
