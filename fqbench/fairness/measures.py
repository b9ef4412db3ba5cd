"""All of the literature's measures of one change, side by side; sources in `fqbench.fairness.literature`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.fairness import literature
from fqbench.fairness.counts import PairedCounts
from fqbench.storage import finite_or_none

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Measures:
    """Measures of a change from a reference; NaN where undefined (no images), or where logits are needed and missing.

    Attributes
    ----------
    excess_loss : mapping of str to float
        By group, of the cross-entropy.
    excess_loss_gap : float
        Its largest difference between groups.
    std_of_drops : float
        Standard deviation of the groups' drops of accuracy.
    relative_fpr_change, relative_fnr_change : mapping of str to float
        By group.
    combined_error_variance, symmetric_distance_error : float
        CEV and SDE.
    eopp0, eopp1, eodd : float
        Sums over classes and pairs of groups, of the candidate.
    agreement : mapping of str to float
        Share of images with the same prediction, by group.
    kl_divergence : mapping of str to float
        Mean over images, reference to candidate, in nats, by group.
    bias_amplification : float
        Of the candidate.
    """

    excess_loss: Mapping[str, float]
    excess_loss_gap: float
    std_of_drops: float
    relative_fpr_change: Mapping[str, float]
    relative_fnr_change: Mapping[str, float]
    combined_error_variance: float
    symmetric_distance_error: float
    eopp0: float
    eopp1: float
    eodd: float
    agreement: Mapping[str, float]
    kl_divergence: Mapping[str, float]
    bias_amplification: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        plain: dict[str, Any] = finite_or_none(self)
        return plain


def measures(
    paired: PairedCounts,
    labels: NDArray[np.int64],
    groups: NDArray[np.str_],
    *,
    positive: str | None,
    logits_reference: NDArray[np.float32] | None = None,
    logits: NDArray[np.float32] | None = None,
) -> Measures:
    """Compute all measures of one change.

    Parameters
    ----------
    paired : PairedCounts
        Joint counts of reference and candidate.
    labels : ndarray of int64, shape (n,)
        True classes.
    groups : ndarray of str, shape (n,)
        The group of each image.
    positive : str or None
        The positive class; None (more than two classes) leaves undefined what needs one.
    logits_reference, logits : ndarray of float32, shape (n, classes), optional
        Answers of both; both are needed for losses and KL.
    """
    excess: Mapping[str, float] = {}
    divergence: Mapping[str, float] = {}
    if logits_reference is not None and logits is not None:
        before, after = (literature.cross_entropy(labels, values) for values in (logits_reference, logits))
        excess = _of_all(paired, literature.excess_loss(before, after, groups))
        divergence = _of_all(paired, _means(literature.kl_divergence(logits_reference, logits), groups))
    relative = np.full((len(paired.groups), 2), math.nan)
    variance = distance = amplification = math.nan
    sums = literature.equal_opportunity_sums(paired.candidate)
    if positive is not None:
        relative = literature.relative_error_changes(paired, positive)
        variance = literature.combined_error_variance(paired, positive)
        distance = literature.symmetric_distance_error(paired, positive)
        amplification = literature.bias_amplification(paired.candidate.binary(positive).table)
    return Measures(
        excess_loss=excess,
        excess_loss_gap=literature.excess_loss_gap(dict(excess)) if excess else math.nan,
        std_of_drops=literature.std_of_drops(paired),
        relative_fpr_change=_named(paired, relative[:, 0]),
        relative_fnr_change=_named(paired, relative[:, 1]),
        combined_error_variance=variance,
        symmetric_distance_error=distance,
        eopp0=sums["EOpp0"],
        eopp1=sums["EOpp1"],
        eodd=sums["EOdd"],
        agreement=_named(paired, literature.agreement(paired)),
        kl_divergence=divergence,
        bias_amplification=amplification,
    )


def _named(paired: PairedCounts, values: NDArray[np.float64]) -> dict[str, float]:
    return {group: float(value) for group, value in zip(paired.groups, values, strict=True)}


def _of_all(paired: PairedCounts, values: Mapping[str, float]) -> dict[str, float]:
    """Values of all groups, NaN for a group without images."""
    return {group: values.get(group, math.nan) for group in paired.groups}


def _means(values: NDArray[np.float64], groups: NDArray[np.str_]) -> dict[str, float]:
    names, codes = np.unique(groups, return_inverse=True)
    means = np.bincount(codes, weights=values) / np.bincount(codes)
    return {str(name): float(mean) for name, mean in zip(names, means, strict=True)}
