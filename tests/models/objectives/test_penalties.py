"""Penalties: fairret's values and gradients, NumPy's rates, memory, and the dual variables of a limit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fqbench.config import ObjectiveOptions
from fqbench.models.objectives.penalties import DEMOGRAPHIC_PARITY, EQUALIZED_ODDS, RatePenalty

torch = pytest.importorskip("torch")

if TYPE_CHECKING:
    from numpy.typing import NDArray

KINDS = [DEMOGRAPHIC_PARITY, EQUALIZED_ODDS]
ALONE = ObjectiveOptions(penalty_memory=0.0)


def drawn(seed: int, *, count: int = 40, classes: int = 2, groups: int = 3) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    logits = torch.tensor(rng.normal(0, 2, (count, classes)), requires_grad=True)
    return logits, torch.from_numpy(rng.integers(0, classes, count)), torch.from_numpy(rng.integers(0, groups, count))


def statistic(kind: str) -> Any:
    fairret = pytest.importorskip("fairret.statistic", reason="fairret is the reference here")
    if kind == DEMOGRAPHIC_PARITY:
        return fairret.PositiveRate()
    return fairret.StackedLinearFractionalStatistic(fairret.TruePositiveRate(), fairret.FalsePositiveRate())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(5))
def test_values_and_gradients_are_fairrets(kind: str, seed: int) -> None:
    rates = statistic(kind)
    fairret_loss = pytest.importorskip("fairret.loss")
    logits, labels, groups = drawn(seed)
    ours = RatePenalty(kind, ALONE, groups=3, steps=1).loss(logits, labels, groups)
    (gradient,) = torch.autograd.grad(ours, logits)
    log_odds = (logits[:, 1] - logits[:, 0])[:, None]  # the logit of the positive class, as fairret takes it
    members = torch.nn.functional.one_hot(groups, 3).double()
    rest = () if kind == DEMOGRAPHIC_PARITY else (labels[:, None].double(),)
    theirs = fairret_loss.NormLoss(rates, p=1)(log_odds, members, *rest)
    (expected,) = torch.autograd.grad(theirs, logits)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_group_without_images_has_fairrets_gradient_and_no_value(kind: str) -> None:
    rates = statistic(kind)
    fairret_loss = pytest.importorskip("fairret.loss")
    logits, labels, groups = drawn(1, groups=2)
    ours = RatePenalty(kind, ALONE, groups=3, steps=1).loss(logits, labels, groups)
    log_odds = (logits[:, 1] - logits[:, 0])[:, None]
    members = torch.nn.functional.one_hot(groups, 3).double()
    rest = () if kind == DEMOGRAPHIC_PARITY else (labels[:, None].double(),)
    theirs = fairret_loss.NormLoss(rates, p=1)(log_odds, members, *rest)
    undefined = 1 if kind == DEMOGRAPHIC_PARITY else 2  # fairret counts each as a violation of 1, a constant
    torch.testing.assert_close(ours, theirs - undefined)
    torch.testing.assert_close(*(torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)))


def by_hand(kind: str, probabilities: NDArray[Any], labels: NDArray[Any], groups: NDArray[Any]) -> float:
    """The penalty in plain loops, for any number of classes."""
    classes = probabilities.shape[1]
    total = 0.0
    for positive in range(1, 2) if classes == 2 else range(classes):
        having = [labels >= 0] if kind == DEMOGRAPHIC_PARITY else [labels == positive, labels != positive]
        for chosen in having:
            if not chosen.any():
                continue
            overall = probabilities[chosen, positive].mean()
            for group in range(4):
                inside = chosen & (groups == group)
                if inside.any():
                    total += abs(probabilities[inside, positive].mean() / overall - 1)
    return total


@given(st.integers(0, 10_000), st.integers(2, 4), st.integers(1, 30), st.sampled_from(KINDS))
def test_it_is_the_sum_over_classes_and_groups_whatever_is_missing(
    seed: int, classes: int, count: int, kind: str
) -> None:
    logits, labels, groups = drawn(seed, count=count, classes=classes, groups=4)
    ours = RatePenalty(kind, ALONE, groups=4, steps=1).loss(logits, labels, groups)
    probabilities = torch.softmax(logits, 1).detach().numpy()
    assert ours.item() == pytest.approx(by_hand(kind, probabilities, labels.numpy(), groups.numpy()), abs=1e-9)
    assert torch.isfinite(torch.autograd.grad(ours, logits)[0]).all()


@given(st.integers(0, 10_000), st.sampled_from(KINDS), st.floats(0.1, 5))
def test_it_does_not_depend_on_the_order_of_images_and_is_proportional_to_its_weight(
    seed: int, kind: str, weight: float
) -> None:
    logits, labels, groups = (tensor.detach() for tensor in drawn(seed))
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(labels)))
    plain = RatePenalty(kind, ALONE, 3, 1).loss(logits, labels, groups)
    weighted = RatePenalty(kind, ALONE.model_copy(update={"penalty_weight": weight}), 3, 1)
    torch.testing.assert_close(weighted.loss(logits[order], labels[order], groups[order]), weight * plain)


def test_equal_rates_cost_nothing() -> None:
    logits = torch.tensor([[0.0, 1.0], [0.0, 1.0], [2.0, 0.0], [2.0, 0.0]])
    labels, groups = torch.tensor([1, 1, 0, 0]), torch.tensor([0, 1, 0, 1])
    for kind in KINDS:
        assert RatePenalty(kind, ALONE, 2, 1).loss(logits, labels, groups).item() == pytest.approx(0, abs=1e-6)


def test_with_memory_the_value_is_of_recent_batches_and_the_gradient_of_this_one() -> None:
    options = ObjectiveOptions(penalty_memory=0.5)
    penalty = RatePenalty(DEMOGRAPHIC_PARITY, options, 3, 1)
    first, second = drawn(1), drawn(2)
    penalty.loss(*first)
    value = penalty.loss(*second)
    sums, counts = np.zeros(3), np.zeros(3)
    for logits, _labels, groups in (first, second):
        chance = torch.softmax(logits, 1)[:, 1].detach().numpy()
        sums = 0.5 * sums + np.bincount(groups.numpy(), weights=chance, minlength=3)
        counts = 0.5 * counts + np.bincount(groups.numpy(), minlength=3)
    expected = np.abs((sums / counts) / (sums.sum() / counts.sum()) - 1).sum()
    assert value.item() == pytest.approx(expected)
    # The gradient of |own / all - 1| where own and all have the values of the memory and the slopes of the batch.
    logits, _labels, groups = second
    chance = torch.softmax(logits, 1)[:, 1]
    rate, total = torch.tensor(sums / counts), torch.tensor(sums.sum() / counts.sum())
    slopes = torch.stack([chance[groups == group].mean() for group in range(3)]), chance.mean()
    own, every = rate + slopes[0] - slopes[0].detach(), total + slopes[1] - slopes[1].detach()
    (expected_gradient,) = torch.autograd.grad((own / every - 1).abs().sum(), logits)
    torch.testing.assert_close(torch.autograd.grad(value, logits)[0], expected_gradient)


def test_a_group_keeps_its_rate_while_it_has_no_images() -> None:
    penalty = RatePenalty(DEMOGRAPHIC_PARITY, ObjectiveOptions(penalty_memory=0.9), 2, 1)
    high, low = torch.tensor([[0.0, 3.0]] * 4), torch.tensor([[0.0, -3.0]] * 4)
    labels = torch.zeros(8, dtype=torch.int64)
    penalty.loss(torch.cat([high, low]), labels, torch.arange(8) // 4)
    penalty.loss(torch.cat([low, low]), labels, torch.ones(8, dtype=torch.int64))
    state = penalty.state()
    assert float(state["sums"][0, 0] / state["counts"][0, 0]) == pytest.approx(1 / (1 + np.exp(-3)), rel=1e-5)


def test_dual_variables_follow_the_excess_and_stop_at_zero() -> None:
    options = ObjectiveOptions(penalty_memory=0.0, penalty_weight=2.0, penalty_limit=0.1)
    penalty = RatePenalty(DEMOGRAPHIC_PARITY, options, 2, steps=10)
    logits = torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, -1.0], [0.0, -1.0]])
    labels, groups = torch.zeros(4, dtype=torch.int64), torch.tensor([0, 0, 1, 1])
    chance = 1 / (1 + np.exp([-1.0, 1.0]))
    violations = np.abs(chance / chance.mean() - 1)
    value = penalty.loss(logits, labels, groups)
    assert value.item() == pytest.approx(2.0 * violations.sum(), rel=1e-5)
    expected = 2.0 + 2.0 * (violations / 0.1 - 1) / 10
    assert penalty.state()["multipliers"].numpy()[0] == pytest.approx(expected, rel=1e-5)
    assert penalty.largest_multipliers() == pytest.approx(expected.tolist(), rel=1e-5)
    equal = torch.zeros(4, 2)
    for _ in range(60):
        penalty.loss(equal, labels, groups)
    assert (penalty.state()["multipliers"] == 0).all()
    assert penalty.loss(logits, labels, groups).item() == 0
