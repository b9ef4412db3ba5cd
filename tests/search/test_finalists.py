"""The decision rule: what a search on noise would claim, and that it finds a real gain."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from fqbench.fairness.results import Estimate
from fqbench.search.effects import ImageEffects, group_effects, worst_of
from fqbench.search.finalists import FINALISTS, claim_of, front, ordered, pick, selected
from fqbench.search.results import SIZE, FinalistReport, Outlook, TrialReport
from fqbench.search.trials import objective_of

GROUPS = ("dark", "light", "medium")
SEARCHES, CANDIDATES, IMAGES = 200, 12, 60  # images per group and half


def trial(number: int, *, shortfall: float = 0.0, size: int = 1000, kl: float = 0.1, share: float = 1.0) -> TrialReport:
    outlooks = (Outlook("max_group_drop dark", 0.02, 0.0, 0.0, shortfall),)
    return TrialReport(
        number=number,
        artifact_id=f"a{number}",
        backend="ort",
        label=f"ort {number}",
        why="",
        scheme="{}",
        bytes=size,
        integer_share=share,
        outlooks=outlooks,
        worst_group="dark",
        kl_divergence=kl,
        worst_kl_divergence=kl,
    )


class Tables:
    """Answers of FP32, and of candidates that are equal but for chance: for each image two answers are shuffled."""

    def __init__(self, seed: int, *, gain: float = 0.0) -> None:
        self.rng = np.random.default_rng(seed)
        self.groups = np.repeat(GROUPS, 2 * IMAGES)
        half = np.tile(np.repeat([True, False], IMAGES), len(GROUPS))
        self.halves = {"choosing": half, "confirming": ~half}
        count = len(self.groups)
        self.labels = self.rng.integers(0, 2, count)
        self.reference = self.rng.normal(0, 2, (count, 2)).astype(np.float32)
        noise = np.where(self.groups == "dark", 1.0, 0.4)[:, None]
        self.first, second = (self.reference + noise * self.rng.normal(0, 1, (count, 2)) for _ in range(2))
        self.second = second * (1 - gain) + self.reference * gain

    def candidate(self) -> np.ndarray:
        """Return another candidate: each image has one of two answers, at random."""
        return np.where(self.rng.random(len(self.labels))[:, None] < 0.5, self.first, self.second)

    def effects(self, logits: np.ndarray, half: str) -> ImageEffects:
        rows = self.halves[half]
        return ImageEffects.of(self.reference[rows], logits[rows].astype(np.float32), self.labels[rows])

    def claims(self, candidates: list[np.ndarray], *, few: int = FINALISTS, looks: int | None = None) -> bool:
        """Search: the baseline is the first; finalists are the best on the choosing half; any of them is claimed."""
        groups = self.groups[self.halves["choosing"]]
        scores = []
        for logits in candidates:
            rows = group_effects(self.effects(logits, "choosing"), groups)
            worst = worst_of(rows)
            scores.append((rows[-1].kl_divergence.value + worst.kl_divergence.value, worst.group))
        finalists = sorted(range(1, len(candidates)), key=lambda number: scores[number][0])[:few]
        confirming = self.groups[self.halves["confirming"]]
        return any(
            claim_of(
                ("baseline", self.effects(candidates[0], "confirming")),
                ("chosen", self.effects(candidates[number], "confirming")),
                confirming,
                scores[0][1],
                confidence=0.95,
                looks=looks or len(finalists),
            ).shown
            for number in finalists
        )


def test_over_null_searches_at_most_5_percent_claim_a_gain() -> None:
    """Here each of the finalists may be claimed, which is more than a search does: it claims the one it selects."""
    found = 0
    for seed in range(SEARCHES):
        tables = Tables(seed)
        found += tables.claims([tables.candidate() for _ in range(CANDIDATES)])
    assert found <= 0.05 * SEARCHES


def test_a_claim_on_the_choosing_images_would_break_that_rule() -> None:
    """The same searches, claimed on the images that chose, at the level of one look: chance is taken for gains."""
    found = 0
    for seed in range(SEARCHES):
        tables = Tables(seed)
        tables.halves["confirming"] = tables.halves["choosing"]
        candidates = [tables.candidate() for _ in range(CANDIDATES)]
        found += tables.claims(candidates, few=CANDIDATES, looks=1)
    assert found > 0.05 * SEARCHES


def test_a_real_gain_is_claimed() -> None:
    found = 0
    for seed in range(20):
        tables = Tables(seed, gain=0.8)
        found += tables.claims([tables.first, tables.second])
    assert found >= 18


def test_identical_answers_are_never_a_gain() -> None:
    tables = Tables(0)
    assert not tables.claims([tables.first, tables.first, tables.first])
    empty = tables.effects(tables.first, "confirming")
    claim = claim_of(("a", empty), ("b", empty), np.array(["x"] * len(empty.flips)), "y", confidence=0.95, looks=1)
    assert not claim.shown
    assert math.isnan(claim.reduction.low)


def test_finalists_are_the_best_of_each_size_that_keep_the_limits() -> None:
    trials = [
        trial(1, size=1000),
        trial(2, size=1001, kl=0.05),
        trial(3, size=500, shortfall=0.01),
        trial(4, size=700),
        trial(5, size=900),
        trial(6, size=2000),
    ]
    assert [one.number for one in pick(trials, objective_of("size"))] == [4, 5, 2]
    nothing = [trial(1, shortfall=0.3), trial(2, shortfall=0.1, kl=0.5), trial(3, shortfall=0.1, kl=0.2)]
    assert [one.number for one in pick(nothing, objective_of("size"))] == [3]


def test_every_runtime_has_a_finalist_since_only_a_measurement_tells_which_is_faster() -> None:
    others = [replace(trial(number, kl=kl), backend=name) for number, kl, name in ((4, 0.3, "b"), (5, 0.2, "b"))]
    more = [replace(trial(6, share=0.5), backend="c"), replace(trial(7, share=0.4), backend="d")]
    trials = [trial(1), trial(2, share=0.9), trial(3, shortfall=0.1), *others, *more]
    assert [one.number for one in pick(trials, objective_of("latency"))] == [1, 5, 6, 7]
    assert [one.number for one in pick(trials[:5], objective_of("latency"))] == [1, 5, 2]


def test_by_latency_the_share_of_integers_stands_for_speed_until_it_is_measured() -> None:
    trials = [trial(1, share=0.5), trial(2, share=1.0, kl=0.5), trial(3, share=1.0, kl=0.2)]
    picked = pick(trials, objective_of("latency"))
    assert [one.number for one in picked] == [3, 1]
    measured = [
        FinalistReport("a3", (), Estimate(5.0, 4.9, 5.1, 20), None, kept=True),
        FinalistReport("a1", (), Estimate(4.0, 3.9, 4.1, 20), None, kept=True),
        FinalistReport("a2", (), Estimate(4.05, 3.95, 4.2, 20), None, kept=True),
    ]
    # a1 and a2 cannot be told apart, and a1 changes the answers less
    assert [one.artifact_id for one in ordered(measured, trials, "latency")] == ["a1", "a2", "a3"]


def test_the_first_that_is_confirmed_is_selected_else_the_nearest() -> None:
    missed = (Outlook("max_accuracy_drop", 0.01, 0.02, 0.03, 0.02),)
    less = (Outlook("max_accuracy_drop", 0.01, 0.01, 0.02, 0.01),)
    one, two, three = (
        FinalistReport("a", missed, None, None, kept=False),
        FinalistReport("b", less, None, None, kept=False),
        FinalistReport("c", (), None, None, kept=True),
    )
    assert selected([one, two, three]) is three
    assert selected([one, two]) is two


def test_the_front_holds_what_nothing_else_beats() -> None:
    trials = [trial(1, size=1000, kl=0.1), trial(2, size=500, kl=0.2), trial(3, size=1000, kl=0.3)]
    assert front(trials) == ("a1", "a2")


def test_a_trial_that_is_only_too_large_is_harmless() -> None:
    one = trial(1)
    large = TrialReport(**{**vars(one), "outlooks": (*one.outlooks, Outlook(SIZE, 1.0, 2.0, 2.0, 1.0))})
    assert large.harmless
    assert large.too_large
    assert not large.keeps
    failed = TrialReport(**{**vars(one), "failed": "no runtime"})
    assert not failed.harmless
    assert failed.shortfall == math.inf


@pytest.mark.parametrize("half", ["choosing", "confirming"])
def test_the_simulated_searches_have_the_groups_that_they_say(half: str) -> None:
    tables = Tables(0)
    assert [int((tables.groups[tables.halves[half]] == group).sum()) for group in GROUPS] == [IMAGES] * 3
