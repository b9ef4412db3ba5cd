"""Objectives by name: what goes together, what is refused, and a penalty that closes a gap."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from fqbench.config import ObjectiveOptions, Preprocessing
from fqbench.data.images import PreparedImages
from fqbench.errors import DataError, InputError
from fqbench.models.batches import LabelledImages
from fqbench.models.objectives import AnsweredBatch, EmpiricalRisk, GroupBalanced, Mending, check_used, objective
from fqbench.models.objectives.compose import parts_of

torch = pytest.importorskip("torch")


def labelled(groups: list[int], names: tuple[str, ...] = ("a", "b")) -> LabelledImages:
    count = len(groups)
    ids = np.array([str(index) for index in range(count)])
    store = PreparedImages(np.zeros((count, 4, 4, 3), np.uint8), ids, Preprocessing(size=32))
    return LabelledImages(store, np.arange(count), np.arange(count) % 2, np.array(groups), names)


def constant(_images: torch.Tensor) -> torch.Tensor:
    return torch.zeros(4, 2)


def test_the_order_of_parts_does_not_matter() -> None:
    for parts in permutations(["group-balanced", "group-dro", "distillation", "equalized-odds"]):
        assert (
            objective("+".join(parts), teacher=constant).name == "group-balanced+group-dro+distillation+equalized-odds"
        )
    assert type(objective("erm")) is EmpiricalRisk
    assert type(objective("group-balanced")) is GroupBalanced


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("group-dro+worst-group", "group-dro and worst-group exclude each other"),
        ("demographic-parity+equalized-odds", "demographic-parity and equalized-odds exclude each other"),
        ("group-dro+group-dro", "group-dro and group-dro exclude each other"),
        ("erm+group-dro", "erm is plain cross-entropy and joins nothing"),
        ("distillation", "distillation needs a teacher, which only --method qat has.*--qat-objective"),
        ("equal-odds", "--objective: unknown objective 'equal-odds': did you mean 'equalized-odds'"),
        ("", "unknown objective ''"),
    ],
)
def test_what_does_not_go_together_is_refused(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        objective(name)


def test_an_option_that_changes_nothing_is_refused() -> None:
    check_used(ObjectiveOptions(penalty_weight=2), {"--objective": "erm", "--qat-objective": "equalized-odds"})
    check_used(ObjectiveOptions(), {"--objective": "erm"})
    with pytest.raises(
        InputError, match=r"--group-step belongs to group-dro, but the objective is erm and distillation;"
    ):
        check_used(ObjectiveOptions(group_step=1), {"--objective": "erm", "--qat-objective": "distillation"})
    with pytest.raises(InputError, match=r"--penalty-weight belongs to demographic-parity or equalized-odds"):
        check_used(ObjectiveOptions(penalty_weight=1), {"--objective": "worst-group"})
    with pytest.raises(InputError, match=r"--qat-objective: unknown objective 'distilation'"):
        check_used(ObjectiveOptions(), {"--qat-objective": "distilation"})


@pytest.mark.parametrize("name", ["group-dro", "worst-group", "equalized-odds", "distillation+demographic-parity"])
def test_one_group_is_refused(name: str) -> None:
    aim = objective(name, teacher=constant, flag="--qat-objective")
    with pytest.raises(DataError, match=f"--qat-objective {aim.name.replace('+', '.')} needs two groups or more"):
        aim.begin(labelled([0, 0, 0, 0]), 1, "cpu")
    objective("distillation", teacher=constant).begin(labelled([0, 0, 0, 0], ("all",)), 1, "cpu")


def test_only_the_options_of_its_parts_are_its_identity() -> None:
    options = ObjectiveOptions(group_step=3, worst_share=0.9)
    assert objective("group-dro", options).identity == {"objective_options": {"group_step": 3.0}}
    assert objective("erm", options).identity == {}
    assert not objective("erm").whole_batches
    assert objective("group-dro").whole_batches


def answered(seed: int = 0) -> AnsweredBatch:
    rng = np.random.default_rng(seed)
    logits = torch.tensor(rng.normal(0, 1, (4, 2)), dtype=torch.float32)
    labels, groups = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 0, 1])
    losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    return AnsweredBatch(torch.zeros(4, 3, 4, 4), logits, labels, groups, losses)


def test_distillation_mixes_cross_entropy_with_divergences_alike_for_groups() -> None:
    batch = answered()
    aim = objective("distillation", ObjectiveOptions(distill_weight=0.3, distill_temperature=1), teacher=constant)
    aim.begin(labelled([0, 0, 0, 1]), 1, "cpu")
    own = torch.softmax(batch.logits, 1).numpy()
    far = (0.5 * np.log(0.5 / own)).sum(1)
    groups_mean = (far[:3].mean() + far[3]) / 2
    assert aim.loss(batch).item() == pytest.approx(0.7 * batch.losses.mean().item() + 0.3 * groups_mean, rel=1e-5)


def test_with_a_weighting_the_divergence_is_part_of_each_images_loss() -> None:
    batch = answered()
    options = ObjectiveOptions(distill_weight=1, distill_temperature=1, worst_share=1)
    aim = objective("distillation+worst-group", options, teacher=constant)
    aim.begin(labelled([0, 0, 0, 1]), 1, "cpu")
    own = torch.softmax(batch.logits, 1).numpy()
    far = (0.5 * np.log(0.5 / own)).sum(1)
    assert aim.loss(batch).item() == pytest.approx(max(far[:3].mean(), far[3]), rel=1e-5)


def test_balanced_images_change_what_shares_are() -> None:
    data = labelled([0] * 90 + [1] * 10)
    aim = objective("group-balanced+worst-group", ObjectiveOptions(worst_share=1))
    aim.begin(data, 1, "cpu")
    assert np.bincount(data.groups[aim.order(data, np.random.default_rng(0))]) == pytest.approx([50, 50], abs=15)
    batch = answered()
    losses = torch.tensor([0.0, 0.0, 0.0, 1.0])
    asked = AnsweredBatch(batch.images, batch.logits, batch.labels, batch.groups, losses)
    assert aim.loss(asked).item() == pytest.approx(1 / 4 / 0.5)  # one image of four, in half of the images


def test_facts_name_the_groups_and_are_json() -> None:
    aim = objective("group-dro+equalized-odds", ObjectiveOptions(penalty_limit=0.1))
    aim.begin(labelled([0, 0, 1, 1], ("a", "b", "nobody")), 1, "cpu")
    aim.loss(answered())
    facts = aim.facts(("a", "b", "nobody"))
    assert set(facts) == {"weights", "multipliers"}
    assert facts["weights"]["nobody"] == 0
    json.dumps(facts, allow_nan=False)
    worst = objective("worst-group")
    worst.begin(labelled([0, 0, 1, 1], ("a", "b", "nobody")), 1, "cpu")
    worst.loss(answered())
    assert set(worst.facts(("a", "b", "nobody"))["averages"]) == {"a", "b"}
    assert isinstance(worst, Mending)


def trained(name: str, **options: Any) -> tuple[float, float]:
    """Fit a line to points of which a feature betrays the group; return the gap of positive rates and the accuracy."""
    rng = np.random.default_rng(0)
    groups = np.repeat([0, 1], 600)
    truth = rng.random(1200) < np.where(groups == 0, 0.7, 0.3)  # the label is more frequent in one group
    signal = truth + rng.normal(0, 0.6, 1200)
    points = np.column_stack([signal, groups, np.ones(1200)]).astype(np.float32)
    inputs, labels, members = torch.from_numpy(points), torch.from_numpy(truth.astype(int)), torch.from_numpy(groups)
    weights = torch.zeros(3, 2, requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=0.05)
    aim = objective(name, ObjectiveOptions(**options))
    aim.begin(labelled(groups.tolist()), 1, "cpu")
    for _ in range(30):
        for chosen in torch.from_numpy(rng.permutation(1200)).split(100):
            logits = inputs[chosen] @ weights
            losses = torch.nn.functional.cross_entropy(logits, labels[chosen], reduction="none")
            loss = aim.loss(AnsweredBatch(inputs[chosen], logits, labels[chosen], members[chosen], losses))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    answers = (inputs @ weights).argmax(1)
    rates = [answers[members == group].float().mean().item() for group in (0, 1)]
    return abs(rates[0] - rates[1]), (answers == labels).float().mean().item()


def test_a_penalty_closes_a_gap_and_costs_accuracy() -> None:
    gap, accuracy = trained("erm")
    mended, paid = trained("demographic-parity", penalty_weight=1.0)
    assert gap > 0.4
    assert mended < 0.5 * gap
    assert 0.5 < paid < accuracy


def test_a_limit_finds_its_own_weight() -> None:
    gap, _accuracy = trained("erm")
    limited, _paid = trained("demographic-parity", penalty_limit=0.2, penalty_weight=0.05)
    fixed, _paid = trained("demographic-parity", penalty_weight=0.05)
    assert limited < 0.6 * fixed < gap


def test_the_parts_of_a_name() -> None:
    assert parts_of(" equalized-odds + group-dro ") == ("group-dro", "equalized-odds")
