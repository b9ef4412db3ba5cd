"""Training objectives: which images an epoch uses, and the loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np

from fqbench.errors import DataError, InputError, did_you_mean

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from fqbench.models.batches import LabelledImages


class Objective(Protocol):
    """One way to train; a fairness penalty is another ``loss``, a sampling scheme another ``order``."""

    name: str

    def order(self, data: LabelledImages, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the images of one epoch, as indices into ``data``; a function of its arguments alone."""
        ...

    def loss(
        self, losses: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor, groups: torch.Tensor
    ) -> torch.Tensor:
        """Return the loss to minimize.

        Parameters
        ----------
        losses : Tensor of float, shape (batch,)
            Cross-entropy of each image, smoothed and weighted as configured.
        logits : Tensor of float, shape (batch, classes)
            The model's answers.
        labels, groups : Tensor of int64, shape (batch,)
            Class and group of each image.
        """
        ...


class EmpiricalRisk:
    """``erm``: every image once per epoch, in random order; the mean loss."""

    name = "erm"

    def order(self, data: LabelledImages, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return a permutation."""
        return rng.permutation(len(data.rows))

    def loss(
        self,
        losses: torch.Tensor,
        logits: torch.Tensor,  # noqa: ARG002 - for objectives that look at answers
        labels: torch.Tensor,  # noqa: ARG002
        groups: torch.Tensor,  # noqa: ARG002
    ) -> torch.Tensor:
        """Return the mean."""
        return losses.mean()


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
        counts = np.bincount(data.groups, minlength=len(data.group_names))
        present = np.count_nonzero(counts)
        if present < 2:
            raise DataError(f"--objective {self.name} needs two groups or more; name a sensitive feature, or use erm.")
        return rng.choice(len(data.rows), size=len(data.rows), p=1.0 / (present * counts[data.groups]))


OBJECTIVES: Mapping[str, Callable[[], Objective]] = {"erm": EmpiricalRisk, "group-balanced": GroupBalanced}


def objective(name: str) -> Objective:
    """Return an objective by name.

    Raises
    ------
    InputError
        No such objective.
    """
    if name not in OBJECTIVES:
        raise InputError(f"unknown objective {name!r}: {did_you_mean(name, OBJECTIVES)}")
    return OBJECTIVES[name]()
