"""The effect of quantizing a layer on the answers: per image, then per group with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.contracts.task import two_classes
from fqbench.fairness.literature import cross_entropy, kl_divergence
from fqbench.fairness.paired_scores import mean_estimate
from fqbench.fairness.results import Estimate
from fqbench.fairness.scores import rows_of_groups

if TYPE_CHECKING:
    from numpy.typing import NDArray

SMALLEST_GROUP = 20  # images; the divergence of fewer is noise, so a smaller group is never called the worst one


@dataclass(frozen=True)
class ImageEffects:
    """What a variant changes, image by image.

    Attributes
    ----------
    kl_divergence : ndarray of float64, shape (images,)
        KL divergence from FP32's probabilities, nats.
    cross_entropy : ndarray of float64, shape (images,)
        Change of the cross-entropy, nats; above 0 the true class lost probability.
    flips : ndarray of float64, shape (images,)
        1 where the answer is another one than FP32's.
    """

    kl_divergence: NDArray[np.float64]
    cross_entropy: NDArray[np.float64]
    flips: NDArray[np.float64]

    @classmethod
    def of(
        cls, reference: NDArray[np.floating[Any]], logits: NDArray[np.floating[Any]], labels: NDArray[np.int64]
    ) -> ImageEffects:
        """Compare logits (images, classes) with FP32's; of attributes, each figure is the mean over them."""
        if labels.ndim == 2:
            columns = zip(reference.T, logits.T, labels.T, strict=True)
            alone = [cls.of(two_classes(fp32), two_classes(other), label) for fp32, other, label in columns]
            means = {name: np.mean([one.arrays()[name] for one in alone], axis=0) for name in alone[0].arrays()}
            return cls(**means)
        change = cross_entropy(labels, logits) - cross_entropy(labels, reference)
        flips = (reference.argmax(axis=1) != logits.argmax(axis=1)).astype(np.float64)
        return cls(kl_divergence(reference, logits), change, flips)

    def __sub__(self, other: ImageEffects) -> ImageEffects:
        """Return the differences, image by image."""
        return ImageEffects(
            self.kl_divergence - other.kl_divergence,
            self.cross_entropy - other.cross_entropy,
            self.flips - other.flips,
        )

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """Return the arrays by name."""
        return {"kl_divergence": self.kl_divergence, "cross_entropy": self.cross_entropy, "flips": self.flips}


@dataclass(frozen=True)
class GroupEffect:
    """One group's change of the answers.

    Attributes
    ----------
    group : str
        "all" for all images together.
    n : int
        Images.
    kl_divergence, cross_entropy : Estimate
        Means over its images, nats.
    flips : int
        Images with another answer.
    """

    group: str
    n: int
    kl_divergence: Estimate
    cross_entropy: Estimate
    flips: int


def group_effects(effects: ImageEffects, groups: NDArray[np.str_], *, signed: bool = False) -> tuple[GroupEffect, ...]:
    """Return the effect on every group, sorted, and on all images as the last row.

    Parameters
    ----------
    effects : ImageEffects
        Image by image.
    groups : ndarray of str, shape (images,)
        The group of each.
    signed : bool
        Whether the divergences are differences of two, so that they can be negative.
    """
    return tuple(
        GroupEffect(
            group=group,
            n=len(rows),
            kl_divergence=mean_estimate(effects.kl_divergence[rows], skewed=not signed),
            cross_entropy=mean_estimate(effects.cross_entropy[rows]),
            flips=int(effects.flips[rows].sum()),
        )
        for group, rows in rows_of_groups(groups)
    )


def worst_of(effects: Sequence[GroupEffect]) -> GroupEffect:
    """Return the group with the largest divergence among those with enough images; all images where none has."""
    enough = [one for one in effects[:-1] if one.n >= SMALLEST_GROUP and not math.isnan(one.kl_divergence.value)]
    return max(enough, key=lambda one: one.kl_divergence.value, default=effects[-1])
