"""The order in memory of images and weights in training."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

FEW = 16  # input channels


def memory_format_of(model: nn.Module) -> torch.memory_format:
    """Return the faster format, channels last, except for networks that torch cannot train in it.

    With AVX2 alone, the backward pass of torch 2.14.1 writes beyond its memory for convolutions of one pixel with a
    stride and few input channels, as the first ones of RepVGG and FastViT are; the process then crashes.
    """
    import torch
    from torch import nn

    convolutions = (module for module in model.modules() if isinstance(module, nn.Conv2d))
    unsafe = any(
        max(each.kernel_size) == 1 and max(each.stride) > 1 and each.in_channels < FEW for each in convolutions
    )
    return torch.contiguous_format if unsafe else torch.channels_last
