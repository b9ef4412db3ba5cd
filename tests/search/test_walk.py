"""The walk among recipes, on invented networks: few layers are raised, and what is hidden is found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fqbench.contracts.scheme import Override, Scheme
from fqbench.fairness.results import Estimate
from fqbench.search.assignment import FLOAT, Assignment
from fqbench.search.diagnosed import LAST, DiagnosedLayer, LayerEffect
from fqbench.search.effects import GroupEffect
from fqbench.search.results import Outlook, TrialReport
from fqbench.search.walk import Walk

LOW, HIGH = Assignment(Scheme(bits=4), {}), Assignment(Scheme(bits=8), {})
GROUP = "dark"


def layer(name: str, gain: float, size: int) -> DiagnosedLayer:
    figure = Estimate(gain, gain, gain, 100)
    rows = tuple(GroupEffect(group, 100, figure, figure, 0) for group in (GROUP, "all"))
    effect = LayerEffect("both", LAST, rows)
    return DiagnosedLayer(name, "Conv", (), 4, 8, size, size // 2, 4 * size, math.nan, {}, (effect,))


def trial_that_misses(missed: float) -> TrialReport:
    outlook = Outlook(f"max_group_drop {GROUP}", 0.02, missed, missed, missed)
    return TrialReport(1, "a", "ort", "int8", "", "{}", outlooks=(outlook,), worst_group=GROUP)


@dataclass
class Invented:
    """A network whose harm is the sum of what its layers at 4 bits do; a layer may hide behind another one."""

    harms: Mapping[str, float]
    limit: float
    hidden_behind: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    tried: list[frozenset[str]] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)

    def say(self, step: str) -> None:
        self.steps.append(step)

    def raised(self, assignment: Assignment) -> frozenset[str]:
        return frozenset(name for name in self.harms if assignment.of(name) == 8)

    def trial(self, raised: frozenset[str]) -> TrialReport:
        self.tried.append(raised)
        harm = sum(harm for name, harm in self.harms.items() if name not in raised)
        missed = max(0.0, harm - self.limit)
        outlook = Outlook(f"max_group_drop {GROUP}", self.limit, harm, harm, missed)
        return TrialReport(1, "a", "ort", "int4", "", "{}", outlooks=(outlook,), worst_group=GROUP)

    def diagnosed(self, assignment: Assignment) -> dict[str, DiagnosedLayer]:
        up = self.raised(assignment)
        seen = {
            name: 0.0 if name in self.hidden_behind and self.hidden_behind[name] not in up else harm
            for name, harm in self.harms.items()
            if name not in up
        }
        return {name: layer(name, gain, self.sizes.get(name, 100)) for name, gain in seen.items()}


class InventedWalk(Walk):
    def _diagnosed(self, assignment: Assignment) -> dict[str, DiagnosedLayer]:
        return self.trials.diagnosed(assignment)  # type: ignore[attr-defined,no-any-return]

    def _raised(self, low: Assignment, high: Assignment, names: object) -> TrialReport:
        network = self.trials
        return network.trial(network.raised(low.raised(names, high)))  # type: ignore


def mended(network: Invented, objective: str = "size") -> frozenset[str] | None:
    walk = InventedWalk(network, "ort", (8, 4), objective, None)  # type: ignore[arg-type]
    found = walk._mended(LOW, network.trial(frozenset()), HIGH)
    return None if found is None else network.raised(found)


def test_the_one_layer_that_harms_is_raised_alone() -> None:
    network = Invented({"a": 0.001, "b": 0.3, "c": 0.001}, limit=0.02)
    assert mended(network) == {"b"}
    assert len(network.tried) == 2


def test_what_hides_behind_another_layer_is_found_by_diagnosing_again() -> None:
    network = Invented({"a": 0.3, "b": 0.1, "c": 0.001}, limit=0.02, hidden_behind={"b": "a"})
    assert mended(network) == {"a", "b"}
    assert sum("what helps dark most" in step for step in network.steps) == 2


def test_of_two_layers_that_help_alike_the_cheaper_one_is_raised() -> None:
    network = Invented({"small": 0.1, "large": 0.1}, limit=0.1, sizes={"small": 10, "large": 10_000})
    assert mended(network) == {"small"}


def test_where_nothing_helps_none_is_returned() -> None:
    network = Invented({"a": 0.0}, limit=-1.0)
    assert mended(network) is None
    assert network.steps[-1] == "no further layer of int4 would win anything back."


@given(st.lists(st.floats(0.001, 1.0), min_size=1, max_size=12), st.floats(0.05, 0.95), st.integers(0, 2**16))
def test_what_is_raised_keeps_the_limit_and_nothing_raised_is_idle(harms: list[float], share: float, seed: int) -> None:
    sizes = np.random.default_rng(seed).integers(1, 1000, len(harms))
    names = [f"layer{number}" for number in range(len(harms))]
    limit = share * sum(harms)
    network = Invented(
        dict(zip(names, harms, strict=True)), limit, sizes=dict(zip(names, map(int, sizes), strict=True))
    )
    found = mended(network)
    assert found is not None
    assert network.trial(found).harmless
    assert len(network.tried) < 12 + 4 * len(harms)
    if len(found) <= 6:
        assert not any(network.trial(found - {name}).harmless for name in found if len(found) > 1)


@pytest.mark.parametrize(("possible", "missed", "tried"), [(True, 0.0, ["on"]), (True, 0.2, ["on"]), (False, 0.0, [])])
def test_rescaling_is_tried_where_it_is_possible_and_kept_where_it_misses_less(
    possible: bool, missed: float, tried: list[str]
) -> None:
    schemes: list[Scheme] = []

    class Rescaling(InventedWalk):
        def _rescalable(self, _scheme: Scheme) -> bool:
            return possible

        def _try(self, scheme: Scheme, _why: str) -> TrialReport:
            schemes.append(scheme)
            return trial_that_misses(missed)

    few = SimpleNamespace(counts={GROUP: 100})  # one group: there is nothing to weigh
    walk = Rescaling(Invented({}, limit=0.0), "ort", (8,), "size", few)  # type: ignore[arg-type]
    assignment, _trial = walk._other_ranges(HIGH, trial_that_misses(0.1))
    assert [scheme.rescaling for scheme in schemes] == tried
    assert assignment.base.rescaling == ("on" if tried and missed < 0.1 else HIGH.base.rescaling)


def test_an_assignment_becomes_a_recipe_with_one_override_per_layer() -> None:
    assignment = Assignment(Scheme(bits=4), {"conv[1]": 8, "head": FLOAT, "all Add": FLOAT, "body": 4})
    assert assignment.scheme.overrides == (
        Override(op="Add", quantize=False),
        Override(name="conv[[]1]", bits=8),
        Override(name="head", quantize=False),
    )
    assert assignment.said() == "4 bits, all Add, head in float and conv[1] at 8 bits"
    assert assignment.raised(["body"], HIGH).of("body") == 8
    assert assignment.difference(HIGH, ("body", "conv[1]", "other")) == ("body", "other")
    assert LOW.difference(HIGH, ("all Add",)) == ()  # they have no weights, so fewer bits change nothing there
    assert LOW.raised(["all Add"], HIGH).scheme.overrides == ()
    assert LOW.difference(assignment, ("all Add",)) == ("all Add",)
