"""Fake quantization of activations and weights, beside torch's own integers and our own rounding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fqbench.backends.torch_fx.fake_quantize import ActivationFakeQuantize, WeightFakeQuantize

from fqbench.contracts.qparams import QParams
from fqbench.quant.weights import rounded, scales


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_widest_range_is_kept_without_momentum() -> None:
    quantizer = ActivationFakeQuantize()
    for values in ([-1.0, 2.0], [-3.0, 1.0], [0.0, 0.5]):
        quantizer(torch.tensor(values))
    assert quantizer.grid == QParams.of(-3.0, 2.0, 8)


def test_the_range_follows_slowly_with_momentum() -> None:
    quantizer = ActivationFakeQuantize(momentum=0.5)
    quantizer(torch.tensor([0.0, 4.0]))
    quantizer(torch.tensor([-2.0, 2.0]))
    assert quantizer.grid == QParams.of(-1.0, 3.0, 8)


def test_a_bound_is_never_passed() -> None:
    quantizer = ActivationFakeQuantize(bound=6.0)
    rounded_off = quantizer(torch.tensor([0.0, 3.0, 9.0]))
    assert quantizer.grid == QParams.of(0.0, 6.0, 8)
    assert float(rounded_off.max()) == pytest.approx(6.0)


def test_a_given_grid_is_not_changed_by_what_passes() -> None:
    quantizer = ActivationFakeQuantize(bits=4)
    quantizer.set_grid(QParams(0.5, 3, 4))
    quantizer(drawn(100) * 50)
    assert quantizer.grid == QParams(0.5, 3, 4)


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_values_are_those_of_torchs_own_quantized_tensor(bits: int) -> None:
    quantizer = ActivationFakeQuantize(bits=bits)
    values = drawn(1000)
    answer = quantizer(values)
    grid = quantizer.grid
    levels = torch.clamp(torch.round(values / grid.scale) + grid.zero_point, 0, 2**bits - 1)
    torch.testing.assert_close(answer, (levels - grid.zero_point) * grid.scale)


def test_what_is_not_finite_does_not_become_a_range() -> None:
    quantizer = ActivationFakeQuantize()
    quantizer(torch.tensor([0.0, 1.0]))
    quantizer(torch.tensor([0.0, float("nan")]))
    assert quantizer.grid == QParams.of(0.0, 1.0, 8)


@pytest.mark.parametrize(("bits", "rule"), [(8, "minmax"), (4, "mse"), (2, "mse")])
def test_weights_are_rounded_as_the_shipped_ones_are(bits: int, rule: str) -> None:
    weight = drawn(6, 3, 3, 3)
    weight[2] = 0
    quantizer = WeightFakeQuantize(bits=bits)
    quantizer.choose_shares(weight, rule)
    answer = quantizer(weight)
    rows = weight.flatten(1).numpy()
    scale = scales(rows, bits, rule)
    np.testing.assert_allclose(quantizer.scale.numpy(), scale, rtol=1e-6)
    np.testing.assert_allclose(answer.flatten(1).numpy(), rounded(rows, scale, bits), atol=1e-6)


def test_scales_of_weights_follow_the_weights_until_they_are_held() -> None:
    quantizer = WeightFakeQuantize(bits=4)
    weight = drawn(4, 8)
    quantizer(weight)
    before = quantizer.scale.clone()
    quantizer(weight * 2)
    torch.testing.assert_close(quantizer.scale, before * 2)
    quantizer.enable_observer(False)
    quantizer(weight * 8)
    torch.testing.assert_close(quantizer.scale, before * 2)


def test_gradients_pass_inside_the_range_and_not_outside() -> None:
    quantizer = ActivationFakeQuantize(bits=2)
    quantizer.set_grid(QParams(1.0, 0, 2))
    values = torch.tensor([1.2, 2.0, 9.0], requires_grad=True)
    quantizer(values).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [1.0, 1.0, 0.0]


def test_state_of_a_used_one_loads_into_a_fresh_one() -> None:
    used = WeightFakeQuantize(bits=4)
    used.choose_shares(drawn(5, 7), "mse")
    used(drawn(5, 7))
    fresh = WeightFakeQuantize(bits=4)
    fresh.load_state_dict(used.state_dict())
    for name, value in used.state_dict().items():
        torch.testing.assert_close(fresh.state_dict()[name], value)
