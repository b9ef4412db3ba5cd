"""The loss of each image, of one class or of several attributes, and which answers are right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn

    from fqbench.config import TrainOptions


def criterion_for(labels: NDArray[np.int64], options: TrainOptions) -> nn.Module:
    """Return the loss per image, shape (batch,), smoothed and weighted as configured.

    Parameters
    ----------
    labels : ndarray of int64, shape (n,) or (n, attributes)
        Of the training images: the class of each, with cross-entropy; or 0 and 1 of each attribute, with the mean over
        the attributes of the binary cross-entropy of the logits.
    options : TrainOptions
        Label smoothing and class weights.
    """
    import torch

    smoothing, balanced = options.label_smoothing, options.class_weights == "balanced"
    if labels.ndim == 1:
        weight = balanced_weights(labels) if balanced else None
        return torch.nn.CrossEntropyLoss(weight, reduction="none", label_smoothing=smoothing)
    weights = [balanced_weights(column, 2) for column in labels.T] if balanced else None
    return _attribute_loss(smoothing, None if weights is None else torch.stack(weights))


def _attribute_loss(smoothing: float, weights: torch.Tensor | None) -> nn.Module:
    import torch
    from torch.nn import functional

    class AttributeLoss(torch.nn.Module):
        """Mean over attributes of the binary cross-entropy; ``weights`` are of "no" and "yes", (attributes, 2)."""

        def __init__(self) -> None:
            super().__init__()
            if weights is not None:
                self.register_buffer("weights", weights)

        def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            wanted = labels.to(logits.dtype)
            smooth = wanted * (1 - smoothing) + smoothing / 2
            losses = functional.binary_cross_entropy_with_logits(logits, smooth, reduction="none")
            if weights is not None:
                own = self.get_buffer("weights")
                losses = losses * torch.where(labels == 1, own[:, 1], own[:, 0])
            return losses.mean(dim=1)

    return AttributeLoss()


def balanced_weights(labels: NDArray[np.int64], classes: int = 0) -> torch.Tensor:
    """Return class weights that balance the classes: images over (classes that occur x images of the class)."""
    import torch

    counts = np.bincount(labels, minlength=classes)
    weights = len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return torch.from_numpy(weights.astype(np.float32))


def summed_loss(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the plain cross-entropy of a batch, summed over images; of attributes, their mean for each image."""
    from torch.nn import functional

    if labels.ndim == 1:
        return float(functional.cross_entropy(logits, labels, reduction="sum"))
    losses = functional.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="none")
    return float(losses.mean(dim=1).sum())


def share_right(logits: torch.Tensor, labels: torch.Tensor) -> NDArray[np.float64]:
    """Return for each image 1 or 0, whether its class is right; of attributes, the share that is right."""
    if labels.ndim == 1:
        right: Any = logits.argmax(1) == labels
    else:
        right = ((logits > 0) == (labels == 1)).double().mean(dim=1)
    return np.asarray(right.cpu().numpy(), dtype=np.float64)
