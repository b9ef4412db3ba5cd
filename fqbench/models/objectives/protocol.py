"""What the training loop asks of an objective, and the two objectives that need nothing but the mean loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fqbench.errors import DataError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from fqbench.models.batches import LabelledImages


@dataclass(frozen=True)
class AnsweredBatch:
    """One batch with the model's answers.

    Attributes
    ----------
    images : Tensor of float, shape (batch, 3, height, width)
        As the model saw them, augmented and normalized.
    logits : Tensor of float, shape (batch, classes)
        The model's answers.
    labels, groups : Tensor of int64, shape (batch,)
        Class and group of each image; with attributes, ``labels`` are 0 and 1, of shape (batch, attributes).
    losses : Tensor of float, shape (batch,)
        Cross-entropy of each image (with attributes, their mean), smoothed and weighted as configured.
    """

    images: torch.Tensor
    logits: torch.Tensor
    labels: torch.Tensor
    groups: torch.Tensor
    losses: torch.Tensor


class Objective(Protocol):
    """One way to train.

    Attributes
    ----------
    name : str
        As after ``--objective``.
    whole_batches : bool
        Whether the loss is not a mean over images, so that a batch cannot be shared among processes.
    """

    name: str
    whole_batches: bool

    @property
    def identity(self) -> Mapping[str, Any]:
        """The options that it depends on, as JSON values."""
        ...

    def begin(self, data: LabelledImages, steps: int, device: Any) -> None:
        """Check the training images and make the first state; ``steps`` is the number of batches of an epoch."""
        ...

    def order(self, data: LabelledImages, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the images of one epoch, as indices into ``data``; a function of its arguments alone."""
        ...

    def loss(self, batch: AnsweredBatch) -> torch.Tensor:
        """Return the loss to minimize, and change the state."""
        ...

    def state(self) -> Mapping[str, torch.Tensor]:
        """Return what `loss` changes; the resume file keeps it."""
        ...

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take the state of an interrupted run, after `begin`."""
        ...

    def facts(self, group_names: tuple[str, ...]) -> Mapping[str, Mapping[str, float]]:
        """Return the state in words, for the manifest: name of the quantity, then group, then value."""
        ...


class EmpiricalRisk:
    """``erm``: every image once per epoch, in random order; the mean loss."""

    name = "erm"
    whole_batches = False

    @property
    def identity(self) -> Mapping[str, Any]:
        """It has no options."""
        return {}

    def begin(self, data: LabelledImages, steps: int, device: Any) -> None:
        """Do nothing: it needs no groups and has no state."""

    def order(self, data: LabelledImages, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return a permutation."""
        return rng.permutation(len(data.rows))

    def loss(self, batch: AnsweredBatch) -> torch.Tensor:
        """Return the mean."""
        return batch.losses.mean()

    def state(self) -> Mapping[str, torch.Tensor]:
        """Return nothing."""
        return {}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Do nothing."""

    def facts(self, group_names: tuple[str, ...]) -> Mapping[str, Mapping[str, float]]:  # noqa: ARG002 - for others
        """Return nothing."""
        return {}


class GroupBalanced(EmpiricalRisk):
    """``group-balanced``: as many draws per epoch as there are images, each group equally likely, with replacement."""

    name = "group-balanced"

    def order(self, data: LabelledImages, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return indices drawn with a probability of one over the size of their group.

        Raises
        ------
        DataError
            There is one group only.
        """
        counts = sizes_of_groups(data, f"--objective {self.name}")
        present = np.count_nonzero(counts)
        return rng.choice(len(data.rows), size=len(data.rows), p=1.0 / (present * counts[data.groups]))


def sizes_of_groups(data: LabelledImages, asked: str) -> NDArray[np.int64]:
    """Return the number of images of each group; ``asked`` is the option that needs groups, for the error.

    Raises
    ------
    DataError
        There are images of one group only.
    """
    counts = np.bincount(data.groups, minlength=len(data.group_names))
    if np.count_nonzero(counts) < 2:
        raise DataError(f"{asked} needs two groups or more; name a sensitive feature, or use erm.")
    return counts.astype(np.int64)
