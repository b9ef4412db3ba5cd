"""What the gate would say on the test split, forecast from validation images.

A candidate's answers on some validation images are counted per group, label and pair of predictions. These counts are
scaled to the number of test images of each group, and the gate's own limits are checked on them. So the intervals are
as wide as those of the verdict will be, and a candidate that is just within a limit on the few validation images is not
taken for one that will pass. No answer on a test image is used, only how many test images each group has.

A change of accuracy comes from images near the boundary between two classes, of which a group of 50 has two or three.
So the counts are smoothed: the same small noise is added to FP32's and to the candidate's logits, many times, and
counted each time. An image then counts by how near it is to the boundary, and by how far quantization moves it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.fairness import change_report, count_paired, group_report
from fqbench.fairness.counts import PairedCounts
from fqbench.fairness.evaluated import EvaluatedArtifact, Evaluation
from fqbench.gate import Check, GateOptions, Outcome, check_limits, group_confidence
from fqbench.search.effects import ImageEffects, group_effects, worst_of
from fqbench.search.results import Outlook

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fqbench.search.images import ValidationImages

GAPS = ("max_dp_increase", "max_eo_increase", "max_dp_difference", "max_eo_difference", "min_disparate_impact")
DRAWS, SMOOTHING = 32, 0.25  # of the noise; its size as a share of the median distance between the two largest logits
REPLICATES, FEW_REPLICATES = 1000, 100  # the bootstrap of the gaps, where a limit is on one and where none is


@dataclass(frozen=True)
class Forecast:
    """A candidate on one half of the validation images.

    Attributes
    ----------
    outlooks : tuple of Outlook
        Limit by limit.
    effects : ImageEffects
        Image by image.
    worst_group : str
        The group whose answers changed most.
    kl_divergence, worst_kl_divergence : float
        Over all images, and in that group.
    accuracy_changes : dict
        By group.
    """

    outlooks: tuple[Outlook, ...]
    effects: ImageEffects
    worst_group: str
    kl_divergence: float
    worst_kl_divergence: float
    accuracy_changes: dict[str, float]


@dataclass(frozen=True)
class Forecaster:
    """One half of the validation images with FP32's answers to them.

    Attributes
    ----------
    options : GateOptions
        The limits.
    images : ValidationImages
        The half.
    reference : ndarray of float32, shape (images, classes)
        FP32's logits.
    test_images : mapping
        Images per group of the test split.
    classes : tuple of str
        Names of the classes.
    features : tuple of str
        Sensitive features that name the groups.
    positive : str or None
        The class that counts as positive.
    """

    options: GateOptions
    images: ValidationImages
    reference: NDArray[np.float32]
    test_images: Mapping[str, int]
    classes: tuple[str, ...]
    features: tuple[str, ...]
    positive: str | None

    def of(self, logits: NDArray[np.float32]) -> Forecast:
        """Forecast the checks of a candidate with these logits, shape (images, classes)."""
        counts = self._smoothed(logits)
        effects = ImageEffects.of(self.reference, logits, self.images.labels)
        rows = group_effects(effects, self.images.groups)
        worst = worst_of(rows)
        right = [answers.argmax(axis=1) == self.images.labels for answers in (self.reference, logits)]
        change = right[1].astype(float) - right[0].astype(float)
        return Forecast(
            outlooks=tuple(map(_outlook, self._checks(counts))),
            effects=effects,
            worst_group=worst.group,
            kl_divergence=rows[-1].kl_divergence.value,
            worst_kl_divergence=worst.kl_divergence.value,
            accuracy_changes={
                group: float(change[self.images.groups == group].mean()) for group in np.unique(self.images.groups)
            },
        )

    def _smoothed(self, logits: NDArray[np.float32]) -> PairedCounts:
        """Count the answers of both models under the same noise, summed over all draws."""
        ordered = np.sort(self.reference, axis=1)
        size = SMOOTHING * float(np.median(ordered[:, -1] - ordered[:, -2])) / math.sqrt(2)
        rng, tables, noise = np.random.default_rng(len(self.reference)), [], np.zeros(logits.shape)
        for draw in range(DRAWS):
            # Every second draw is the mirror image of the one before, so that the noise has no mean.
            noise = -noise if draw % 2 else size * rng.standard_normal(logits.shape)
            tables.append(
                count_paired(
                    self.images.labels,
                    (self.reference + noise).argmax(axis=1),
                    (logits + noise).argmax(axis=1),
                    self.images.groups,
                    classes=self.classes,
                    known_groups=tuple(self.test_images),
                )
            )
        return replace(tables[0], table=np.sum([one.table for one in tables], axis=0))

    def _checks(self, counts: PairedCounts) -> tuple[Check, ...]:
        scaled = replace(counts, table=_scaled(counts, self.test_images))
        asked = self.options.limits.model_dump(exclude_none=True)
        groups = len(self.test_images) if "max_group_drop" in asked else 1
        options: dict[str, Any] = {
            "positive": self.positive,
            "replicates": REPLICATES if set(GAPS) & set(asked) else FEW_REPLICATES,
            "confidence": group_confidence(self.options.confidence, groups),
        }
        shared: dict[str, Any] = {"id": "", "label": "", "predictions_id": "", "runtime": ""}
        first = EvaluatedArtifact(**shared, report=group_report(scaled.reference, **options), change=None)
        other = EvaluatedArtifact(
            **shared, report=group_report(scaled.candidate, **options), change=change_report(scaled, **options)
        )
        evaluation = Evaluation((first, other), "", "val", self.features, self.positive, "")
        return check_limits(self.options, [evaluation], None).checks


def _scaled(counts: PairedCounts, wanted: Mapping[str, int]) -> NDArray[np.int64]:
    """Scale the counts of each group to as many images as wanted, rounded to whole images."""
    have = counts.n
    factor = np.array([wanted[group] / n if n else 0.0 for group, n in zip(counts.groups, have, strict=True)])
    scaled: NDArray[np.int64] = np.rint(counts.table * factor[:, None, None, None]).astype(np.int64)
    return scaled


def _outlook(check: Check) -> Outlook:
    at_least = check.limit.startswith("min_")
    end = check.low if at_least else check.high
    missed = check.bound - end if at_least else end - check.bound
    if math.isnan(check.value) or math.isnan(missed):
        missed = math.nan
    elif check.outcome is Outcome.PASSED:
        missed = 0.0
    else:
        missed = max(missed, 0.0)
    return Outlook(check.limit, check.bound, check.value, end, missed)
