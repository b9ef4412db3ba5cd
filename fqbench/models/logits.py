"""A network of transformers that answers with logits alone."""

from __future__ import annotations

from torch import Tensor, nn


class Logits(nn.Module):
    """Calls a classifier with images, and takes the logits out of its answer.

    Parameters
    ----------
    model : torch.nn.Module
        Takes ``pixel_values`` and returns an object with ``logits``.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, classes)."""
        logits: Tensor = self.model(pixel_values=images).logits
        return logits
