"""The precision of training: FP32, bf16, or the faster of the two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from fqbench.machine import this_machine

if TYPE_CHECKING:
    import torch
    from torch import nn

FAST_BF16 = ("amx_bf16", "avx512_bf16")
AMPERE = (8, 0)


@dataclass(frozen=True)
class Precision:
    """The floating-point precision of training, and the reason for it.

    Attributes
    ----------
    name : str
        "fp32" or "bf16" (weights, their sums and the optimizer stay in FP32).
    reason : str
        Why this one, as a clause.
    """

    name: Literal["fp32", "bf16"]
    reason: str


def precision_of(asked: Literal["auto", "fp32", "bf16"], model: nn.Module, device: torch.device) -> Precision:
    """Return the precision asked for; for ``auto`` the one that is faster for this model on this device.

    The rule measures nothing, so that the same training gives the same bytes (docs/decisions/0065).

    Parameters
    ----------
    asked : str
        "auto", "fp32" or "bf16".
    model : torch.nn.Module
        The classifier.
    device : torch.device
        Where it is trained.
    """
    if asked != "auto":
        return Precision(asked, "as asked")
    if not _has_bf16(device):
        return Precision("fp32", f"no bf16 instructions on this {device.type.upper()}")
    if device.type == "cpu" and _has_depthwise(model):
        return Precision("fp32", "depthwise convolutions are slower in bf16 on a CPU")
    return Precision("bf16", f"this {device.type.upper()} has bf16 instructions")


def _has_bf16(device: torch.device) -> bool:
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= AMPERE
    return device.type == "cpu" and any(feature in this_machine().features for feature in FAST_BF16)


def _has_depthwise(model: nn.Module) -> bool:
    from torch import nn

    return any(isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1 for module in model.modules())
