"""Labelled images and the batches of an epoch: a function of seed and epoch alone, which a resumed run sees again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from fqbench.config import Preprocessing
    from fqbench.data.images import PreparedImages
    from fqbench.models.objectives import Objective

CROP_MARGIN = 0.0625  # random crops shift by up to 1/16 of the side, as is usual for small pictures
COLOUR = 0.2  # brightness, contrast and saturation change by up to a fifth


@dataclass(frozen=True)
class LabelledImages:
    """Rows of the prepared store with their labels and groups.

    Attributes
    ----------
    images : PreparedImages
        The store.
    rows : ndarray of int64, shape (n,)
        Rows in the store.
    labels : ndarray of int64, shape (n,)
        Index of the class of each.
    groups : ndarray of int64, shape (n,)
        Index of the group of each.
    group_names : tuple of str
        Names of the groups.
    """

    images: PreparedImages
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    group_names: tuple[str, ...] = ("all",)


@dataclass(frozen=True)
class Share:
    """Which part of each batch this process takes, where several train together."""

    rank: int = 0
    processes: int = 1


@dataclass(frozen=True)
class EpochPlan:
    """What determines the batches of one epoch.

    Attributes
    ----------
    batch_size : int
        Images a step, of all processes together.
    augment : tuple of str
        Of "flip", "crop" and "colour".
    seed, epoch : int
        Of the order and the augmentation.
    """

    batch_size: int
    augment: tuple[str, ...]
    seed: int
    epoch: int


Batch = tuple["torch.Tensor", "torch.Tensor", "torch.Tensor"]


def batches(data: LabelledImages, objective: Objective, plan: EpochPlan, share: Share | None = None) -> Iterator[Batch]:
    """Yield images (channels last), labels and groups of each step; an incomplete last batch is left out."""
    import torch

    share = share or Share()
    rng = np.random.default_rng([plan.seed, plan.epoch])
    order = objective.order(data, rng)
    steps = len(order) // plan.batch_size
    mine = order[: steps * plan.batch_size].reshape(steps, plan.batch_size)[:, share.rank :: share.processes]
    augmenting = np.random.default_rng([plan.seed, plan.epoch, share.rank]) if share.processes > 1 else rng
    preprocessing = data.images.preprocessing
    for step, images in enumerate(data.images.batches(data.rows[mine.ravel()], mine.shape[1])):
        chosen = mine[step]
        augmented = augment(images, plan.augment, preprocessing, augmenting)
        yield (
            torch.from_numpy(augmented).to(memory_format=torch.channels_last),
            torch.from_numpy(data.labels[chosen]),
            torch.from_numpy(data.groups[chosen]),
        )


def augment(
    images: NDArray[np.float32], kinds: Sequence[str], preprocessing: Preprocessing, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Change a normalized batch (n, 3, height, width) at random.

    Parameters
    ----------
    images : ndarray of float32
        Left as it is.
    kinds : sequence of str
        ``flip`` mirrors half of the pictures, ``crop`` shifts each by a few pixels and repeats its edge, ``colour``
        changes brightness, contrast and saturation.
    preprocessing : Preprocessing
        Mean and standard deviation of the normalization, which colour has to know.
    rng : Generator
        Source of chance.
    """
    if "crop" in kinds or "flip" in kinds:
        images = _move(images, rng, flip="flip" in kinds, crop="crop" in kinds)
    return _colour(images, preprocessing, rng) if "colour" in kinds else images


def _move(images: NDArray[np.float32], rng: np.random.Generator, *, flip: bool, crop: bool) -> NDArray[np.float32]:
    count, _, height, width = images.shape
    margin = max(1, round(height * CROP_MARGIN)) if crop else 0
    padded = np.pad(images, ((0, 0), (0, 0), (margin, margin), (margin, margin)), mode="edge")
    out = np.empty_like(images)
    offsets = rng.integers(0, 2 * margin + 1, size=(count, 2))
    mirrored = np.asarray(rng.random(count) < 0.5) if flip else np.zeros(count, dtype=bool)
    for index, (top, left) in enumerate(offsets):
        picture = padded[index, :, top : top + height, left : left + width]
        out[index] = picture[..., ::-1] if mirrored[index] else picture
    return out


def _colour(images: NDArray[np.float32], preprocessing: Preprocessing, rng: np.random.Generator) -> NDArray[np.float32]:
    mean = np.asarray(preprocessing.mean, dtype=np.float32)[:, None, None]
    deviation = np.asarray(preprocessing.std, dtype=np.float32)[:, None, None]
    factors = rng.uniform(1 - COLOUR, 1 + COLOUR, (3, len(images), 1, 1, 1)).astype(np.float32)
    brightness, contrast, saturation = factors
    raw = (images * deviation + mean) * brightness
    middle = raw.mean(axis=(1, 2, 3), keepdims=True)
    raw = (raw - middle) * contrast + middle
    grey = raw.mean(axis=1, keepdims=True)
    raw = np.clip((raw - grey) * saturation + grey, 0, 1)
    changed: NDArray[np.float32] = ((raw - mean) / deviation).astype(np.float32)
    return changed
