"""The Pareto front: what no other one beats in everything."""

from __future__ import annotations

import math
from collections.abc import Sequence


def pareto_front(costs: Sequence[Sequence[float]]) -> tuple[bool, ...]:
    """Return which of some points are on the front: no other one is at most as costly in all, and less in one.

    Parameters
    ----------
    costs : sequence of sequence of float
        Of each point, in one order; smaller is better. A NaN is never better: it counts as infinite.
    """
    known = [tuple(math.inf if math.isnan(cost) else cost for cost in point) for point in costs]

    def beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
        return one != other and all(mine <= theirs for mine, theirs in zip(one, other, strict=True))

    return tuple(not any(beats(one, point) for one in known) for point in known)
