"""Networks made ready for FX: the same answers, what fuses laid bare, what cannot be traced named."""

from __future__ import annotations

import pytest
import torch
from fqbench.backends.torch_fx.fx import prepare
from fqbench.backends.torch_fx.quantizing import integer_share
from fqbench.backends.torch_fx.tracing import trace
from torch import nn
from torch.nn import functional

from fqbench.errors import InputError
from fqbench.models import zoo


class Gate(nn.Module):
    """A forward that depends on values, as FX cannot trace it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.mean() > 0:
            return self.linear(x)
        return x


class Around(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.parts = nn.Sequential(nn.Linear(4, 4), Gate())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.parts(self.first(x))


class Bounded(nn.Module):
    def __init__(self, *, function: bool, twice: bool = False) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU6()
        self.function, self.twice = function, twice

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.norm(self.conv(x))
        bounded = functional.relu6(inner) if self.function else self.act(inner)
        return bounded + inner if self.twice else bounded


@pytest.mark.parametrize("name", ["mobilenetv2_100", "efficientnet_b0", "resnet10t", "torchvision/squeezenet1_1"])
def test_answers_stay_and_nothing_stands_between_what_fuses(name: str) -> None:
    torch.manual_seed(0)
    network = zoo.build(zoo.find(name), classes=3, size=32).eval()
    images = torch.randn(2, 3, 32, 32) * 0.1  # activations stay below the bound of a ReLU6
    with torch.inference_mode():
        before = network(images)
    names = set(network.state_dict())
    traced = trace(network)
    with torch.inference_mode():
        after = traced.graph(images)
    torch.testing.assert_close(after, before)
    assert not traced.skipped
    assert {traced.original_name(one) for one in traced.graph.state_dict()} == names
    kinds = {type(module) for module in traced.graph.modules() if not list(module.children())}
    assert nn.Identity not in kinds
    assert nn.ReLU6 not in kinds


def test_what_cannot_be_traced_is_named_and_left_whole() -> None:
    network = Around().eval()
    images = torch.randn(3, 4)
    expected = network(images)
    traced = trace(network)
    assert list(traced.skipped) == ["parts.1"]
    assert "control flow" in traced.skipped["parts.1"]
    torch.testing.assert_close(traced.graph(images), expected)


def test_a_network_whose_own_forward_cannot_be_traced_is_an_error_with_a_way_on() -> None:
    with pytest.raises(InputError, match=r"cannot trace Gate.*--backend ort"):
        trace(Gate().eval())


@pytest.mark.parametrize("function", [True, False])
def test_a_relu6_behind_a_convolution_becomes_a_relu_with_a_bound(function: bool) -> None:
    traced = trace(Bounded(function=function).eval())
    assert traced.bounded == {"conv": 6.0}
    images = torch.randn(2, 3, 8, 8) * 40
    reference = Bounded(function=function).eval()
    reference.load_state_dict(traced.graph.state_dict())
    torch.testing.assert_close(traced.graph(images).clamp(max=6.0), reference(images))


def test_a_relu6_whose_input_is_used_elsewhere_stays() -> None:
    assert not trace(Bounded(function=False, twice=True).eval()).bounded


def test_dropout_goes_in_evaluation_and_stays_in_training() -> None:
    for training in (False, True):
        network = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 2)).train(training)
        left = [module for module in trace(network).graph.modules() if isinstance(module, nn.Dropout)]
        assert bool(left) == training


def test_the_share_of_what_is_quantized_counts_what_is_inside_untraced_modules() -> None:
    torch.manual_seed(0)
    network = Around().eval()
    with torch.no_grad():
        network.parts[0].bias.fill_(9.0)  # type: ignore[union-attr]  # so that the gate is open
    prepared = prepare(network, torch.randn(3, 4), act_bits=8)
    share, layers = integer_share(prepared, {"first", "parts.0"}, torch.randn(3, 4))
    assert layers == 3
    assert share == pytest.approx(2 / 3)
    assert integer_share(prepared, {"first"}, torch.randn(3, 4))[0] == pytest.approx(1 / 3)
