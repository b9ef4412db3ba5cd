"""Group weights against plain NumPy, written from the papers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fqbench.models.objectives.weighting import GroupDro, WorstGroup, group_means

torch = pytest.importorskip("torch")

GROUPS = 4


@given(st.integers(0, 10_000), st.floats(0.01, 2))
def test_group_dro_is_exponentiated_gradient_ascent(seed: int, step: float) -> None:
    rng = np.random.default_rng(seed)
    present = np.array([True, True, False, True])
    rule = GroupDro(torch.from_numpy(present), step)
    weights = present / present.sum()
    for _ in range(5):
        losses, groups = rng.exponential(1, 12), rng.choice([0, 1, 3], 12)
        value = rule.loss(torch.tensor(losses), torch.from_numpy(groups)).item()
        means = np.array([losses[groups == g].mean() if (groups == g).any() else 0.0 for g in range(GROUPS)])
        weights = weights * np.exp(step * means)
        weights /= weights.sum()
        assert value == pytest.approx(weights @ means, rel=1e-5)
        assert rule.state()["weights"].numpy() == pytest.approx(weights, rel=1e-5)
    assert rule.state()["weights"][2] == 0


def test_group_dro_moves_weight_to_the_group_that_loses() -> None:
    rule = GroupDro(torch.ones(2, dtype=torch.bool), 0.1)
    for _ in range(50):
        rule.loss(torch.tensor([0.2, 0.2, 1.2]), torch.tensor([0, 0, 1]))
    assert rule.state()["weights"][1].item() == pytest.approx(1 / (1 + np.exp(-0.1 * 50)), rel=1e-4)


@given(st.integers(0, 10_000), st.floats(0.05, 1))
def test_worst_group_weights_images_by_the_moving_average_of_losses(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.ones(GROUPS))
    rule = WorstGroup(torch.tensor(shares), share)
    averages: dict[int, float] = {}
    for _ in range(6):
        losses, groups = rng.exponential(1, 10), rng.integers(0, GROUPS, 10)
        value = rule.loss(torch.tensor(losses), torch.from_numpy(groups)).item()
        for group in np.unique(groups):
            mean = losses[groups == group].mean()
            averages[group] = 0.9 * averages[group] + 0.1 * mean if group in averages else mean
        worst = max(averages, key=averages.__getitem__)
        weights = (1 - share) + share * (groups == worst) / shares[worst]
        assert value == pytest.approx((weights * losses).mean(), rel=1e-6)


def test_the_expectation_of_worst_group_is_a_mixture_of_all_and_the_worst() -> None:
    losses, groups = torch.tensor([1.0, 1.0, 1.0, 5.0]), torch.tensor([0, 0, 0, 1])
    value = WorstGroup(torch.tensor([0.75, 0.25]), 0.5).loss(losses, groups)
    assert value.item() == pytest.approx(0.5 * 2.0 + 0.5 * 5.0)


def test_group_means_have_the_gradient_of_a_mean() -> None:
    losses = torch.tensor([1.0, 3.0, 8.0], requires_grad=True)
    means, present = group_means(losses, torch.tensor([2, 2, 0]), 3)
    assert means.tolist() == [8.0, 0.0, 2.0]
    assert present.tolist() == [True, False, True]
    (gradient,) = torch.autograd.grad(means @ torch.tensor([1.0, 7.0, 2.0]), losses)
    assert gradient.tolist() == [1.0, 1.0, 1.0]
