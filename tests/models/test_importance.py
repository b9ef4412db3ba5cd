"""Importance of layers for groups: closed forms, per-image gradients computed otherwise, folding, and the choice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from fqbench.errors import DataError, InputError
from fqbench.models.batches import LabelledImages
from fqbench.models.importance import Importance, choose, measure
from fqbench.quant.weights import rounded, scales

torch = pytest.importorskip("torch")

Bright = Callable[..., LabelledImages]


def changes_of(network: torch.nn.Module, bits: int = 4) -> dict[str, np.ndarray]:
    found = {}
    for path, module in network.named_modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            values = module.weight.detach().numpy()
            rows = np.ascontiguousarray(values.reshape(len(values), -1))
            found[path] = (rounded(rows, scales(rows, bits, "mse"), bits) - rows).reshape(values.shape)
    return found


def small(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, stride=2),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.Conv2d(4, 4, 3, groups=4),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(4, 2),
    )
    with torch.no_grad():
        network(torch.randn(64, 3, 16, 16))  # statistics of BatchNorm that are not 0 and 1
    return network.eval()


def test_a_linear_classifier_has_the_textbooks_gradients(bright: Bright) -> None:
    data = bright(24, size=8)
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 2))
    changes = changes_of(network)
    found = measure(network, data, changes)
    inputs = data.images.batch(data.rows).reshape(24, -1).astype(np.float64)
    weight, bias = (value.detach().numpy() for value in network[1].parameters())
    errors = softmax(inputs @ weight.T + bias, axis=1) - np.eye(2)[data.labels]
    gradients = errors[:, :, None] * inputs[:, None, :]
    for group in (0, 1):
        inside = gradients[data.groups == group]
        fisher = 0.5 * (inside**2 * changes["1"] ** 2).sum(axis=(1, 2)).mean()
        assert found.values["fisher"][0, group] == pytest.approx(fisher, rel=1e-4)
        gradient = ((inside.mean(axis=0) * changes["1"]) ** 2).sum()
        assert found.values["gradient"][0, group] == pytest.approx(gradient, rel=1e-4)
    assert found.images.tolist() == [2, 22]


def test_a_network_agrees_with_gradients_of_all_images_at_once(bright: Bright) -> None:
    data, network = bright(30), small()
    changes = changes_of(network)
    found = measure(network, data, changes)
    parameters = {name: value.detach() for name, value in network.named_parameters()}
    buffers = dict(network.named_buffers())

    def loss(values: Any, image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        logits = torch.func.functional_call(network, (values, buffers), (image[None],))
        return torch.nn.functional.cross_entropy(logits, label[None])

    images, labels = torch.from_numpy(data.images.batch(data.rows)), torch.from_numpy(data.labels)
    every = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(parameters, images, labels)
    for place, path in enumerate(found.layers):
        moved = every[f"{path}.weight"] * torch.from_numpy(changes[path])
        for group in (0, 1):
            inside = moved[torch.from_numpy(data.groups == group)]
            fisher = float(inside.square().flatten(1).sum(1).mean() / 2)
            assert found.values["fisher"][place, group] == pytest.approx(fisher, rel=1e-3)
            gradient = float(inside.mean(0).square().sum())
            assert found.values["gradient"][place, group] == pytest.approx(gradient, rel=1e-3, abs=1e-12)


def test_folding_batchnorm_changes_nothing(bright: Bright) -> None:
    data, network = bright(12), small()
    conv, norm = network[0], network[1]
    folded = small()
    with torch.no_grad():
        factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        folded[0].weight.copy_(conv.weight * factor[:, None, None, None])
        folded[0].bias.copy_((conv.bias - norm.running_mean) * factor + norm.bias)
    folded[1] = torch.nn.Identity()
    plain, other = (measure(one, data, changes_of(one)).values["fisher"] for one in (network, folded))
    np.testing.assert_allclose(plain, other, rtol=1e-3)


def made(values: list[list[float]], images: list[int] | None = None) -> Importance:
    table = np.array(values)
    layers = tuple(f"layer{place}" for place in range(len(table)))
    groups = tuple("abcdef"[: table.shape[1]])
    counted = np.array(images or [50] * table.shape[1])
    return Importance(layers, groups, counted, {"fisher": table, "gradient": table[::-1]})


def test_layers_are_chosen_for_the_group_that_is_worst_off() -> None:
    found = made([[5, 1], [4, 1], [0, 8], [1, 1]])  # sums: 10 and 11
    kept = choose(found, "fisher", 3)
    assert [(one.layer, one.group) for one in kept] == [("layer2", "b"), ("layer0", "a"), ("layer1", "a")]


def test_a_group_of_few_images_does_not_choose() -> None:
    found = made([[1, 90], [2, 0]], [20, 19])
    assert choose(found, "fisher", 1)[0].layer == "layer1"
    with pytest.raises(DataError, match="no group has 20 images"):
        choose(made([[1.0]], [19]), "fisher", 1)


@pytest.mark.parametrize("count", [0, 3])
def test_so_many_layers_as_there_are(count: int) -> None:
    with pytest.raises(InputError, match=f"--keep {count}: this model has 2 layers to choose from"):
        choose(made([[1.0], [2.0]]), "fisher", count)


@given(st.integers(0, 10_000), st.integers(1, 6))
def test_every_choice_helps_the_worst_off(seed: int, count: int) -> None:
    table = np.random.default_rng(seed).exponential(1, (6, 3))
    kept = choose(made(table.tolist()), "fisher", count)
    assert len({one.layer for one in kept}) == count
    left = table.copy()
    for one in kept:
        place, group = int(one.layer[5:]), "abc".index(one.group)
        assert left[:, group].sum() == pytest.approx(left.sum(axis=0).max())
        assert left[place, group] == left[:, group].max()
        left[place] = 0


def test_a_layer_that_matters_to_one_group_is_kept_for_it(bright: Bright) -> None:
    data = bright(60)
    pixels = data.images.pixels.copy()
    pixels[data.groups == 0, ..., 2] = 255  # only this group has blue pictures, and only one layer sees blue
    stored = LabelledImages(
        type(data.images)(pixels, data.images.sample_ids, data.images.preprocessing),
        data.rows, data.labels, np.arange(60) % 2, data.group_names,
    )  # fmt: skip
    stored.images.pixels[:, ..., 2] = np.where((np.arange(60) % 2 == 0)[:, None, None], 255, 124)

    class TwoWays(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.blue = torch.nn.Linear(1, 2, bias=False)
            self.rest = torch.nn.Linear(2, 2, bias=False)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            means = images.mean((2, 3))
            blue = torch.relu(means[:, 2:] - 1)
            return self.blue(blue) + 0.1 * self.rest(means[:, :2])

    network = TwoWays()
    changes = {
        path: np.full(tuple(network.get_parameter(f"{path}.weight").shape), 0.1, np.float32)
        for path in ("blue", "rest")
    }
    found = measure(network, stored, changes)
    assert found.values["fisher"][0, 1] == 0
    (kept,) = choose(found, "fisher", 1)
    assert (kept.layer, kept.group) == ("blue", "few")
