"""Labelled images and the batches of an epoch, which depend only on seed and epoch, so that a run can resume."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fqbench.data.images import ahead, normalize_nhwc

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

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
    labels : ndarray of int64, shape (n,) or (n, attributes)
        Index of the class of each, or 0 and 1 for each attribute.
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
    """The part of each batch that this process takes, from its rank and the world size."""

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
    rows = data.rows[mine]

    def make(step: int) -> torch.Tensor:
        pixels = augment(data.images.pixels[rows[step]], plan.augment, augmenting)
        # Pixels lie channel by channel within a pixel, which is what torch calls channels last: nothing is copied.
        return torch.from_numpy(normalize_nhwc(pixels, data.images.preprocessing)).permute(0, 3, 1, 2)

    for step, images in enumerate(ahead(make, steps)):
        chosen = mine[step]
        yield images, torch.from_numpy(data.labels[chosen]), torch.from_numpy(data.groups[chosen])


def augment(pixels: NDArray[np.uint8], kinds: Sequence[str], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Change a batch of pictures (n, height, width, 3) at random, each in its own way.

    Parameters
    ----------
    pixels : ndarray of uint8
        Left as it is.
    kinds : sequence of str
        ``flip`` mirrors half of the pictures, ``crop`` shifts each by a few pixels and repeats its edge, ``colour``
        changes brightness, contrast and saturation.
    rng : Generator
        Source of chance.
    """
    if "crop" in kinds:
        pixels = _shift(pixels, rng)
    if "flip" in kinds:
        mirrored = rng.random(len(pixels)) < 0.5
        pixels = pixels.copy()
        whole = pixels.view("V3")  # three bytes at a time
        whole[mirrored] = whole[mirrored, :, ::-1]
    return _colour(pixels, rng) if "colour" in kinds else pixels


def _shift(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    count, height, width, _ = pixels.shape
    margin = max(1, round(height * CROP_MARGIN))
    padded = np.pad(pixels, ((0, 0), (margin, margin), (margin, margin), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    down, across = rng.integers(0, 2 * margin + 1, size=(2, count))
    return np.ascontiguousarray(windows[np.arange(count), down, across].transpose(0, 2, 3, 1))


def _colour(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    factors = rng.uniform(1 - COLOUR, 1 + COLOUR, (3, len(pixels), 1, 1, 1)).astype(np.float32)
    brightness, contrast, saturation = factors
    planes = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)) * brightness
    middle = planes.mean(axis=(1, 2, 3), keepdims=True)
    planes = (planes - middle) * contrast + middle
    grey = planes.mean(axis=1, keepdims=True)
    planes = (planes - grey) * saturation + grey
    return np.ascontiguousarray(np.clip(planes + 0.5, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1))
