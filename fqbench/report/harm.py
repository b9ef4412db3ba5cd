"""Which groups an artifact harms: a group that lost accuracy significantly, and what is proved about the others.

A group is *harmed* where its loss of accuracy is statistically significant. An artifact is *harmless* only where it is
proved for every group that its accuracy fell by less than the margin: the group is equivalent, it gained, or the
confidence interval of its change lies above minus the margin (non-inferiority).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fqbench.fairness import ChangeReport
    from fqbench.fairness.results import ChangeRow


@dataclass(frozen=True)
class Harm:
    """The groups of an artifact by what is known of their change."""

    change: ChangeReport

    @cached_property
    def harmed(self) -> tuple[ChangeRow, ...]:
        """Groups that lost accuracy significantly, the largest loss first."""
        lost = [row for row in self.change.groups if row.verdict.answer == "different" and row.accuracy.value < 0]
        return tuple(sorted(lost, key=lambda row: row.accuracy.value))

    @cached_property
    def not_inferior(self) -> tuple[ChangeRow, ...]:
        """Groups without a verdict that lost less than the margin, and that may have gained more than it."""
        return tuple(row for row in self._without_verdict if row.accuracy.low > -row.verdict.margin)

    @cached_property
    def undecided(self) -> tuple[ChangeRow, ...]:
        """Groups that may have lost more than the margin, or whose change is undefined."""
        return tuple(row for row in self._without_verdict if not row.accuracy.low > -row.verdict.margin)

    @property
    def _without_verdict(self) -> tuple[ChangeRow, ...]:
        return tuple(row for row in self.change.groups if row.verdict.answer == "undecided")

    @cached_property
    def equivalent(self) -> tuple[ChangeRow, ...]:
        """Groups whose accuracy is proved to be within the margin."""
        return tuple(row for row in self.change.groups if row.verdict.answer == "equivalent")

    @property
    def harmless(self) -> bool:
        """Whether no group lost as much as the margin."""
        return bool(self.change.groups) and not self.harmed and not self.undecided

    @property
    def spared(self) -> int:
        """Number of groups that are proved not to have lost as much as the margin."""
        return len(self.change.groups) - len(self.harmed) - len(self.undecided)

    @property
    def images_needed(self) -> float:
        """Images per group that would decide all undecided groups; NaN where that cannot be estimated."""
        needed = [row.verdict.images_needed for row in self.undecided]
        return max(needed) if needed and all(map(math.isfinite, needed)) else math.nan
