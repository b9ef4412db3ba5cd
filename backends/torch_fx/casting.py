"""A network in a 16-bit floating-point type, where the CPU multiplies in it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fqbench.errors import UnavailableError
from fqbench.machine import this_machine

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
# Any of them: oneDNN computes without them, too, and then widens every value to float32 first.
INSTRUCTIONS = {"bf16": ("avx512_bf16", "amx_bf16", "bf16"), "fp16": ("avx512_fp16", "amx_fp16", "fphp")}
# Statistics and means keep float32, as in torch's autocast; they read 16-bit activations and write such.
NORMALIZING = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)


class Cast(nn.Module):
    """A network that computes in another type, with float32 images and logits.

    Parameters
    ----------
    network : torch.nn.Module
        Its weights are cast in place, those of normalizations excepted.
    dtype : torch.dtype
        The 16-bit type.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = network.to(dtype)
        self.dtype = dtype
        for part in network.modules():
            if isinstance(part, NORMALIZING):
                part.float()

    def forward(self, images: Tensor) -> Tensor:
        """Map float32 images to float32 logits."""
        logits: Tensor = self.network(images.to(self.dtype)).float()
        return logits


def cast(network: nn.Module, precision: str) -> Cast:
    """Return a network in a 16-bit type.

    Raises
    ------
    UnavailableError
        The CPU has no instructions for it, so that its kernels would compute in float32.
    """
    here = this_machine()
    if not any(name in here.features for name in INSTRUCTIONS[precision]):
        names = ", ".join(INSTRUCTIONS[precision])
        raise UnavailableError(
            f"this CPU has no {precision} instructions ({names}), so torch would compute in float32; "
            "use --method none, or another --precision."
        )
    return Cast(network, DTYPES[precision]).eval().requires_grad_(False)
