"""Importance of each layer for each group: by how much rounding its weights changes the loss of that group's images.

Pruning by groups asks the same of removing a weight. There the change of a weight is the weight itself; here it is what
rounding changes, and the rest is as in the sources:

- ``fisher``: half the mean of squared gradients of single images times squared changes, the second-order term of the
  loss with the empirical Fisher information as its curvature (Wu et al., "FairPrune", MICCAI 2022,
  with the diagonal of the Hessian; the Fisher approximation is that of Theis et al., "Faster gaze prediction with dense
  networks and Fisher pruning", 2018).
- ``gradient``: the squared product of change and gradient of the group's mean loss, summed over weights (Lin, Kim and
  Joo, "FairGRAPE", ECCV 2022, after Molchanov et al., "Importance estimation for neural network pruning", CVPR 2019).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from fqbench.errors import DataError, InputError
from fqbench.optional import require
from fqbench.reporter import Reporter, Silent

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from fqbench.models.batches import LabelledImages

Measure = Literal["fisher", "gradient"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
FEWEST = 20  # images of a group that is decided on, as where a range rule is chosen


@dataclass(frozen=True)
class Importance:
    """The importance of layers for groups.

    Attributes
    ----------
    layers, groups : tuple of str
        Paths of modules, and names of groups.
    images : ndarray of int64, shape (groups,)
        Images of each group that were measured.
    values : mapping of str to ndarray of float64, shape (layers, groups)
        By measure: nats for ``fisher``, their squares for ``gradient``; NaN for a group without images.
    """

    layers: tuple[str, ...]
    groups: tuple[str, ...]
    images: NDArray[np.int64]
    values: Mapping[Measure, NDArray[np.float64]]

    @property
    def decisive(self) -> NDArray[np.bool_]:
        """Which groups have images enough to choose layers for."""
        return np.asarray(self.images >= FEWEST)


@dataclass(frozen=True)
class Kept:
    """A layer that is kept at more bits, and the group that it is kept for."""

    layer: str
    group: str


def measure(
    network: nn.Module,
    data: LabelledImages,
    changes: Mapping[str, NDArray[np.float32]],
    reporter: Reporter | None = None,
) -> Importance:
    """Measure both importances, image by image, with the network in evaluation mode.

    Parameters
    ----------
    network : torch.nn.Module
        The FP32 classifier; its weights are left as they are.
    data : LabelledImages
        Images, labels and groups.
    changes : mapping of str to ndarray
        What rounding changes, by path of the module, in the shape of its ``weight``.
    reporter : Reporter, optional
        Shown progress.
    """
    torch = require("torch", extra="train")
    network.eval()
    layers = tuple(changes)
    weights = [network.get_parameter(f"{path}.weight") for path in layers]
    rounding = [torch.from_numpy(changes[path]) for path in layers]
    shape = (len(layers), len(data.group_names))
    found: dict[Measure, NDArray[np.float64]] = {name: np.full(shape, np.nan) for name in MEASURES}
    images = np.bincount(data.groups, minlength=shape[1]).astype(np.int64)
    with (reporter or Silent()).track("measuring importance", len(data.rows), "images") as advance:
        for group in np.flatnonzero(images):  # one after another: the sum of gradients is kept for one group only
            sums = [torch.zeros_like(weight) for weight in weights]
            squares = np.zeros(len(layers))
            for index in np.flatnonzero(data.groups == group):
                image = torch.from_numpy(data.images.batch(data.rows[index : index + 1]))
                label = torch.from_numpy(data.labels[index : index + 1])
                loss = torch.nn.functional.cross_entropy(network(image), label)
                for place, gradient in enumerate(torch.autograd.grad(loss, weights)):
                    squares[place] += float((gradient * rounding[place]).square().sum())
                    sums[place] += gradient
                advance(1)
            found["fisher"][:, group] = squares / images[group] / 2
            for place, total in enumerate(sums):
                found["gradient"][place, group] = float((total / images[group] * rounding[place]).square().sum())
    return Importance(layers, data.group_names, images, found)


def choose(importance: Importance, name: Measure, count: int) -> tuple[Kept, ...]:
    """Choose layers, each time the most important one for the group that is worst off with those chosen so far.

    The worst-off group is the one with the largest sum over the layers that are not kept; FairGRAPE takes weights in
    turn for groups in the same way. Groups with fewer than 20 images are left out.

    Raises
    ------
    DataError
        No group has 20 images.
    InputError
        There are no so many layers.
    """
    if not importance.decisive.any():
        raise DataError(f"no group has {FEWEST} images, so that its importances would be chance; give more images.")
    if not 1 <= count <= len(importance.layers):
        raise InputError(
            f"--keep {count}: this model has {len(importance.layers)} layers to choose from; keep 1 or more."
        )
    left = importance.values[name][:, importance.decisive].copy()
    groups: Sequence[str] = [g for g, decisive in zip(importance.groups, importance.decisive, strict=True) if decisive]
    free, kept = np.ones(len(left), dtype=bool), []
    for _ in range(count):
        worst = int(left.sum(axis=0).argmax())
        layer = int(np.where(free, left[:, worst], -1).argmax())
        kept.append(Kept(importance.layers[layer], groups[worst]))
        left[layer], free[layer] = 0, False
    return tuple(kept)
