"""Fake quantization of activations and weights with the arithmetic of the shipped graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fqbench.contracts.qparams import QParams
from fqbench.quant.weights import scales

from .deprecated import FakeQuantizeBase

SMALLEST = float(np.finfo(np.float32).tiny)


class _FakeQuantize(FakeQuantizeBase):
    """A fake quantization that is its own observer, as FX wants to know of each."""

    is_dynamic = False
    ch_axis = -1
    fake_quant_enabled: Tensor
    observer_enabled: Tensor

    @property
    def activation_post_process(self) -> _FakeQuantize:
        """What observes."""
        return self


class ActivationFakeQuantize(_FakeQuantize):
    """Fake quantization of an activation, with one scale and zero point per tensor.

    While it observes, its range follows the extremes of what passes: the moving average of those of each batch, or the
    widest where ``momentum`` is None. A range may be set from outside instead (`set_grid`).

    Parameters
    ----------
    bits : int
        Levels are 0 to ``2**bits - 1``.
    symmetric : bool
        The zero point is in the middle, so that the same levels can be held as signed integers with zero point 0.
    momentum : float or None
        Weight of a new batch in the moving average.
    bound : float or None
        Upper end that the range never passes: that of a ReLU6 before it.
    """

    low: Tensor
    high: Tensor
    seen: Tensor
    scale: Tensor
    zero_point: Tensor

    def __init__(
        self, bits: int = 8, symmetric: bool = False, momentum: float | None = None, bound: float | None = None
    ) -> None:
        super().__init__()
        self.bits, self.symmetric, self.momentum, self.bound = bits, symmetric, momentum, bound
        self.dtype = torch.quint8
        self.qscheme = torch.per_tensor_affine
        self.quant_min, self.quant_max = 0, 2**bits - 1
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))
        self.register_buffer("scale", torch.ones(1))
        self.register_buffer("zero_point", torch.zeros(1, dtype=torch.int32))
        self.register_buffer("seen", torch.zeros((), dtype=torch.bool))

    @property
    def grid(self) -> QParams:
        """Scale and zero point as they are now."""
        return QParams(float(self.scale), int(self.zero_point), self.bits)

    def set_grid(self, grid: QParams) -> None:
        """Take a scale and a zero point, and observe no more."""
        self.scale.fill_(grid.scale)
        self.zero_point.fill_(grid.zero_point)
        self.seen.fill_(True)
        self.enable_observer(False)

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Return scale and zero point, as FX asks for them."""
        return self.scale, self.zero_point

    def forward(self, X: Tensor) -> Tensor:  # noqa: N803 - FX calls it so
        """Observe, and round to the levels."""
        if self.observer_enabled[0]:
            self._observe(X.detach())
        if not self.fake_quant_enabled[0]:
            return X
        return torch.fake_quantize_per_tensor_affine(X, self.scale, self.zero_point, self.quant_min, self.quant_max)

    def _observe(self, values: Tensor) -> None:
        low, high = torch.aminmax(values.float())
        if not torch.isfinite(high - low):
            return  # the loss shows it, and the training stage says so
        if self.bound is not None:
            high = high.clamp(max=self.bound)
        if not self.seen:
            self.low.copy_(low)
            self.high.copy_(high)
            self.seen.fill_(True)
        elif self.momentum is None:
            self.low.copy_(torch.minimum(self.low, low))
            self.high.copy_(torch.maximum(self.high, high))
        else:
            self.low.lerp_(low, self.momentum)
            self.high.lerp_(high, self.momentum)
        grid = QParams.of(float(self.low), float(self.high), self.bits, symmetric=self.symmetric)
        self.scale.fill_(grid.scale)
        self.zero_point.fill_(grid.zero_point)


class WeightFakeQuantize(_FakeQuantize):
    """Fake quantization of a weight, symmetric, with one scale for each channel of its first axis.

    While it observes, a scale follows the largest magnitude of its channel, times a share of it that `choose_shares`
    computes again when asked.

    Parameters
    ----------
    bits : int
        Levels are ``-2**(bits - 1)`` to ``2**(bits - 1) - 1``.
    factory_kwargs : mapping, optional
        What torch's modules pass; not needed.
    """

    scale: Tensor
    zero_point: Tensor
    share: Tensor

    def __init__(self, bits: int = 8, factory_kwargs: Any = None) -> None:  # noqa: ARG002
        super().__init__()
        self.bits = bits
        self.dtype = torch.qint8
        self.qscheme = torch.per_channel_symmetric
        self.quant_min, self.quant_max = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        self.ch_axis = 0
        self.register_buffer("scale", torch.ones(1))
        self.register_buffer("share", torch.ones(1))
        self.register_buffer("zero_point", torch.zeros(1, dtype=torch.int32))

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Return scales and zero points, as FX asks for them."""
        return self.scale, self.zero_point

    def choose_shares(self, weight: Tensor, rule: str) -> None:
        """Choose for each channel which share of its largest magnitude the highest level stands for."""
        rows = weight.detach().float().flatten(1)
        best = torch.from_numpy(scales(rows.cpu().numpy(), self.bits, rule)).to(rows.device)
        largest = self._unit(rows)
        self._resize(len(rows))
        self.share.copy_(torch.where(largest > SMALLEST, best / largest, 1.0))

    def forward(self, X: Tensor) -> Tensor:  # noqa: N803 - FX calls it so
        """Observe, and round to the levels."""
        if self.observer_enabled[0]:
            unit = self._unit(X.detach().float().flatten(1))
            self._resize(len(unit))
            self.scale.copy_(torch.where(unit > SMALLEST, unit * self.share, 1.0))
        if not self.fake_quant_enabled[0]:
            return X
        return torch.fake_quantize_per_channel_affine(
            X, self.scale, self.zero_point, self.ch_axis, self.quant_min, self.quant_max
        )

    def _unit(self, rows: Tensor) -> Tensor:
        """Scale at which the largest magnitude of a channel is the highest level."""
        unit: Tensor = rows.abs().amax(dim=1) / self.quant_max
        return unit

    def _resize(self, channels: int) -> None:
        if len(self.scale) == channels:
            return
        self.scale = self.scale[:1].repeat(channels)
        self.share = self.share[:1].repeat(channels)
        self.zero_point = self.zero_point[:1].repeat(channels)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any, **named: Any) -> None:
        if f"{prefix}scale" in state_dict:
            self._resize(len(state_dict[f"{prefix}scale"]))
        super()._load_from_state_dict(state_dict, prefix, *rest, **named)


class GivenScales(_FakeQuantize):
    """What FX takes for the observer of a weight at conversion: it knows the scales already.

    Parameters
    ----------
    given : Tensor
        Scale of each channel of the first axis.
    """

    def __init__(self, given: Tensor) -> None:
        super().__init__()
        self.dtype = torch.qint8
        self.qscheme = torch.per_channel_symmetric
        self.quant_min, self.quant_max = -128, 127
        self.ch_axis = 0
        self.given = given

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Return scales and zero points."""
        return self.given, torch.zeros_like(self.given, dtype=torch.int32)

    def forward(self, X: Tensor) -> Tensor:  # noqa: N803 - FX calls it so
        """Look at nothing: the scales are given."""
        return X
