"""The loss of several attributes: independent references, and agreement with two classes."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from fqbench.config import TrainOptions  # noqa: E402
from fqbench.models.losses import criterion_for, share_right, summed_loss  # noqa: E402


def drawn(count: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    labels = (rng.random((count, 3)) < [0.5, 0.2, 0.9]).astype(np.int64)
    return torch.from_numpy(rng.normal(0, 2, (count, 3)).astype(np.float32)), torch.from_numpy(labels)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_the_loss_of_an_attribute_is_that_of_two_classes(smoothing: float, weights: str) -> None:
    """With logits -z/2 and z/2, cross-entropy over two classes is the binary cross-entropy of z."""
    logits, labels = drawn()
    options = TrainOptions(label_smoothing=smoothing, class_weights=weights)  # type: ignore[arg-type]
    found = criterion_for(labels.numpy(), options)(logits, labels)
    pairs = torch.stack([-logits / 2, logits / 2], dim=-1)
    parts = []
    for index in range(3):
        own = labels[:, index]
        if weights == "none" or smoothing == 0:
            parts.append(criterion_for(own.numpy(), options)(pairs[:, index], own))
        else:  # torch weighs the smoothed part by each class's own weight; here the image's weight counts for both
            plain = criterion_for(own.numpy(), TrainOptions(label_smoothing=smoothing))(pairs[:, index], own)
            counts = torch.bincount(own, minlength=2)
            parts.append(plain * (len(own) / (2 * counts))[own])
    torch.testing.assert_close(found, torch.stack(parts).mean(0), atol=1e-5, rtol=1e-5)


def test_validation_figures_of_attributes_are_means() -> None:
    logits, labels = drawn()
    pairs = torch.stack([-logits / 2, logits / 2], dim=-1)
    alone = [summed_loss(pairs[:, index], labels[:, index]) for index in range(3)]
    assert summed_loss(logits, labels) == pytest.approx(np.mean(alone), rel=1e-5)
    right = [share_right(pairs[:, index], labels[:, index]) for index in range(3)]
    np.testing.assert_allclose(share_right(logits, labels), np.mean(right, axis=0))
