"""Distillation against scipy's divergence, and a teacher that leaves no trace in the random numbers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import entropy

from fqbench.models.objectives.distillation import AlikeForGroups, Teacher, divergences

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_divergences_are_scipys(temperature: float) -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(0, 3, (2, 20, 5))
    found = divergences(torch.tensor(ours), torch.tensor(theirs), temperature)
    expected = [
        temperature**2 * entropy(softmax(teacher / temperature), softmax(student / temperature))
        for student, teacher in zip(ours, theirs, strict=True)
    ]
    assert found.numpy() == pytest.approx(np.array(expected))


def test_its_gradient_is_the_difference_of_probabilities() -> None:
    logits = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([[0.0, 1.0, 3.0]], dtype=torch.float64)
    (gradient,) = torch.autograd.grad(divergences(logits, targets, 2.0).sum(), logits)
    expected = 2.0 * (softmax(logits.detach().numpy() / 2) - softmax(targets.numpy() / 2))
    assert gradient.numpy() == pytest.approx(expected)


def test_every_group_counts_alike_whatever_its_share() -> None:
    groups = torch.tensor([0] * 6 + [2] * 2)
    values = torch.tensor([1.0] * 6 + [4.0, 6.0])
    assert AlikeForGroups(torch.tensor([0.75, 0.0, 0.25])).mean(values, groups).item() == pytest.approx((1 + 5) / 2)


def test_making_the_teacher_leaves_the_random_numbers_as_they_are() -> None:
    def make() -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Dropout(0.5))

    torch.manual_seed(3)
    before = torch.get_rng_state()
    teacher = Teacher(make)
    images = torch.ones(5, 3, requires_grad=True)
    answers = teacher(images)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(answers, teacher(images))  # made once, without dropout
    assert not answers.requires_grad
