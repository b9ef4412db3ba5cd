"""The hierarchical bootstrap against variances that are known, and against pooling, which it must not do."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fqbench.errors import DataError, InputError
from fqbench.fairness.hierarchy import Design, Patterns, hierarchical_change
from fqbench.fairness.metrics import accuracy


def overall_accuracy(tables: np.ndarray) -> np.ndarray:
    return accuracy(tables.sum(axis=1, keepdims=True))[:, 0]


def simulate(
    seeds: int, draws: int, n: int = 400, *, sd_seed: float = 0.0, sd_draw: float = 0.0, seed: int = 0
) -> tuple[Patterns, Design]:
    """Candidates flip right answers of their reference with a rate that varies by seed and by draw."""
    rng = np.random.default_rng(seed)
    labels, groups = rng.integers(0, 2, n), np.where(rng.random(n) < 0.3, "dark", "light")
    columns, references, candidates = [], {}, {}
    for one in range(seeds):
        reference = np.where(rng.random(n) < 0.9, labels, 1 - labels)
        references[one] = len(columns)
        columns.append(reference)
        rate = 0.05 + rng.normal(0, sd_seed)
        own = []
        for _ in range(draws):
            flip = rng.random(n) < max(0.0, rate + rng.normal(0, sd_draw))
            own.append(len(columns))
            columns.append(np.where(flip, 1 - reference, reference))
        candidates[one] = tuple(own)
    return Patterns.count(labels, np.column_stack(columns), groups, 2), Design(references, candidates)


def test_tables_are_the_counts_of_each_model() -> None:
    labels, groups = np.array([0, 1, 1, 0, 1]), np.array(["a", "a", "b", "b", "b"])
    answers = np.array([[0, 1], [1, 0], [1, 1], [1, 0], [0, 1]])
    patterns = Patterns.count(labels, answers, groups, 2)
    tables = patterns.tables(patterns.counts.astype(float))
    for model in (0, 1):
        for g, name in enumerate("ab"):
            for y in (0, 1):
                for p in (0, 1):
                    expected = np.sum((groups == name) & (labels == y) & (answers[:, model] == p))
                    assert tables[model, g, y, p] == expected


def test_resampling_keeps_the_size_of_every_group() -> None:
    patterns, _design = simulate(2, 2)
    rng = np.random.default_rng(1)
    sizes = patterns.tables(patterns.counts.astype(float))[0].sum(axis=(1, 2))
    for _ in range(5):
        np.testing.assert_array_equal(patterns.tables(patterns.resampled(rng))[0].sum(axis=(1, 2)), sizes)


def test_one_seed_and_one_draw_is_the_paired_bootstrap_of_images() -> None:
    """Its standard deviation is known: sqrt((p+ + p- - (p+ - p-)^2) / n)."""
    patterns, design = simulate(1, 1, 2000)
    found = hierarchical_change(patterns, design, overall_accuracy, replicates=1500)
    right = patterns.rows[:, 2:] == patterns.rows[:, [1]]
    change = right[:, 1].astype(float) - right[:, 0]
    mean = np.average(change, weights=patterns.counts)
    sd = math.sqrt(np.average((change - mean) ** 2, weights=patterns.counts) / patterns.counts.sum())
    assert found.value == pytest.approx(mean)
    assert found.sd_images == pytest.approx(sd, rel=0.08)
    assert math.isnan(found.sd_seeds)
    assert math.isnan(found.sd_draws)
    assert found.few


def test_each_level_is_seen_where_it_is() -> None:
    noisy_seeds = hierarchical_change(*simulate(5, 3, 3000, sd_seed=0.03), overall_accuracy, replicates=300)
    noisy_draws = hierarchical_change(*simulate(5, 3, 3000, sd_draw=0.04), overall_accuracy, replicates=300)
    assert noisy_seeds.sd_seeds > 2 * noisy_seeds.sd_draws
    assert noisy_draws.sd_draws > 2 * noisy_seeds.sd_draws
    assert not noisy_seeds.few


def test_the_standard_deviation_of_each_level_is_that_of_a_mean() -> None:
    """Resampling k values gives their mean the standard deviation sd / sqrt(k); draws are averaged within a seed."""
    patterns, design = simulate(3, 4, 1000, sd_seed=0.03, sd_draw=0.03)
    found = hierarchical_change(patterns, design, overall_accuracy, replicates=3000)
    right = np.average(patterns.rows[:, 2:] == patterns.rows[:, [1]], axis=0, weights=patterns.counts)
    changes = np.array([right[list(design.candidates[one])] - right[design.references[one]] for one in range(3)])
    assert found.value == pytest.approx(changes.mean())
    wins = (patterns.rows[:, 2:] == patterns.rows[:, [1]]).astype(float)
    of_image = np.mean(
        [wins[:, list(design.candidates[s])].mean(1) - wins[:, design.references[s]] for s in range(3)], 0
    )
    spread = np.average((of_image - changes.mean()) ** 2, weights=patterns.counts)
    assert found.sd_images == pytest.approx(math.sqrt(spread / patterns.counts.sum()), rel=0.08)
    assert found.sd_seeds == pytest.approx(changes.mean(axis=1).std() / math.sqrt(3), rel=0.08)
    assert found.sd_draws == pytest.approx(math.sqrt((changes.var(axis=1) / 4).sum()) / 3, rel=0.08)
    assert (found.seeds, found.draws, found.few) == (3, 4, False)
    assert found.low < found.value < found.high


@pytest.mark.parametrize("level", ["seeds", "draws"])
def test_the_interval_reaches_as_far_as_two_seeds_or_two_draws_differ(level: str) -> None:
    """A quarter of the replicates holds the lower one twice, another quarter the higher one."""
    labels = np.tile([0, 1], 1500)
    models = [labels]
    for wrong in (60, 300):
        models.append(np.where(np.arange(3000) < wrong, 1 - labels, labels))
    columns = [models[0], models[1], models[0], models[2]]
    patterns = Patterns.count(labels, np.column_stack(columns), np.full(3000, "all"), 2)
    design = Design({0: 0, 1: 2}, {0: (1,), 1: (3,)}) if level == "seeds" else Design({0: 0}, {0: (1, 3)})
    found = hierarchical_change(patterns, design, overall_accuracy, replicates=400)
    assert found.value == pytest.approx(-0.06)
    assert 1.96 * found.sd_images < 0.02, "the images alone would not reach"
    assert found.low < -0.1 < -0.02 < found.high


def test_the_interval_of_one_model_is_that_of_its_images() -> None:
    found = hierarchical_change(*simulate(1, 1, 2000), overall_accuracy, replicates=1500, confidence=0.9)
    normal = 2 * 1.6449 * found.sd_images
    assert found.high - found.low == pytest.approx(normal, rel=0.1)


def test_few_is_fewer_than_three_seeds_and_draws_are_the_fewest_of_a_seed() -> None:
    patterns, _design = simulate(2, 3)
    design = Design({0: 0, 1: 4}, {0: (1, 2, 3), 1: (5, 6)})
    found = hierarchical_change(patterns, design, overall_accuracy, replicates=20)
    assert (found.seeds, found.draws, found.few) == (2, 2, True)


def test_a_group_without_images_has_no_change() -> None:
    labels, answers = np.array([0, 1, 1]), np.array([[0, 0], [1, 0], [0, 1]])
    patterns = Patterns.count(labels, answers, np.array(["b", "b", "c"]), 2, known_groups=("a", "b", "c"))
    tables = patterns.tables(patterns.counts.astype(float))
    assert tables.sum(axis=(2, 3)).tolist() == [[0, 2, 1]] * 2
    for group, expected in ((0, math.nan), (1, -0.5), (2, 1.0)):
        found = hierarchical_change(
            patterns, Design({0: 0}, {0: (1,)}), lambda each, group=group: accuracy(each)[:, group], replicates=20
        )
        assert found.value == pytest.approx(expected, nan_ok=True)
        assert math.isnan(found.low) == math.isnan(expected)
        assert (found.seeds, found.draws, found.few) == (1, 1, True)


def test_more_copies_of_one_model_do_not_make_the_interval_narrower() -> None:
    patterns, _design = simulate(1, 1, 500)
    rows = np.column_stack([patterns.rows, patterns.rows[:, [3]], patterns.rows[:, [3]]])
    copies = Patterns(patterns.groups, 2, rows, patterns.counts)
    once = hierarchical_change(patterns, Design({0: 0}, {0: (1,)}), overall_accuracy, replicates=1000)
    thrice = hierarchical_change(copies, Design({0: 0}, {0: (1, 2, 3)}), overall_accuracy, replicates=1000)
    assert thrice.high - thrice.low == pytest.approx(once.high - once.low, rel=0.1)
    assert thrice.sd_draws == pytest.approx(0.0, abs=1e-12)


@pytest.mark.slow
def test_coverage_over_seeds() -> None:
    """Percentile intervals of a mean over five seeds are known to be somewhat narrow; they must not be far off."""
    runs, covered = 150, 0
    for run in range(runs):
        rng_truth = -0.05 * 0.8  # a flip hits a right answer in 9 of 10 cases, a wrong one in 1
        found = hierarchical_change(
            *simulate(8, 2, 400, sd_seed=0.01, seed=run), overall_accuracy, replicates=300, seed=run
        )
        covered += found.low <= rng_truth <= found.high
    assert covered / runs > 0.85


def test_what_is_no_design() -> None:
    with pytest.raises(InputError, match="every training seed needs its reference"):
        Design({0: 0}, {1: (1,)})
    with pytest.raises(DataError, match="has no calibration draw"):
        Design({0: 0}, {0: ()})
    with pytest.raises(InputError, match="differ in length"):
        Patterns.count(np.zeros(3, int), np.zeros((2, 1), int), np.array(["a"] * 3), 2)
