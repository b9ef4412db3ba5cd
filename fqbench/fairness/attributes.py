"""Several attributes from one prediction run, side by side: what quantization did to each, and to its worst group."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from fqbench.fairness.hypothesis_tests import adjust

if TYPE_CHECKING:
    from fqbench.fairness.evaluated import Evaluation
    from fqbench.fairness.hypothesis_tests import Correction
    from fqbench.fairness.results import Change, ChangeRow

GAP = "equalized_odds_difference"


@dataclass(frozen=True)
class AttributeRow:
    """What changed for one attribute, from the reference to one artifact.

    Attributes
    ----------
    attribute : str
        Its name.
    artifact_id, predictions_id, label : str
        The artifact, what it was counted from, and its name in tables.
    n : int
        Images.
    accuracy : Change
        Over all images: before and after, with the interval of the change.
    p, p_adjusted : float
        Exact McNemar test of that change; corrected over all attributes and artifacts.
    worst_group : str
        The group that lost most; empty where no group has images.
    worst_accuracy : Change or None
        Its change.
    worst_p_adjusted : float
        Its test, corrected over all groups, attributes and artifacts.
    gap_reference, gap : float
        Equalized odds difference before and after.
    gap_change, gap_low, gap_high : float
        Its change with an interval.
    equivalent, different, undecided : int
        Groups with each verdict.
    """

    attribute: str
    artifact_id: str
    predictions_id: str
    label: str
    n: int
    accuracy: Change
    p: float
    p_adjusted: float
    worst_group: str
    worst_accuracy: Change | None
    worst_p_adjusted: float
    gap_reference: float
    gap: float
    gap_change: float
    gap_low: float
    gap_high: float
    equivalent: int
    different: int
    undecided: int


def attribute_rows(evaluations: Sequence[Evaluation]) -> tuple[AttributeRow, ...]:
    """Return one row per attribute and artifact, in the order of the attributes; the reference has none.

    Parameters
    ----------
    evaluations : sequence of Evaluation
        One per attribute, all on the same images and groups.
    """
    compared = [
        (evaluation, artifact, artifact.change)
        for evaluation in evaluations
        for artifact in evaluation.artifacts
        if artifact.change is not None
    ]
    if not compared:
        return ()
    correction = cast("Correction", compared[0][2].correction)
    adjusted = adjust([change.overall.mcnemar_p for _evaluation, _artifact, change in compared], correction)
    rows = []
    for (evaluation, artifact, change), p in zip(compared, adjusted, strict=True):
        worst = _worst(change.groups)
        gap = change.gaps[GAP]
        verdicts = [row.verdict.answer for row in change.groups]
        rows.append(
            AttributeRow(
                attribute=evaluation.attribute,
                artifact_id=artifact.id,
                predictions_id=artifact.predictions_id,
                label=artifact.label,
                n=change.overall.n,
                accuracy=change.overall.accuracy,
                p=change.overall.mcnemar_p,
                p_adjusted=float(p),
                worst_group="" if worst is None else worst.group,
                worst_accuracy=None if worst is None else worst.accuracy,
                worst_p_adjusted=math.nan if worst is None else worst.mcnemar_p_adjusted,
                gap_reference=evaluation.artifacts[0].report.gaps[GAP].value,
                gap=artifact.report.gaps[GAP].value,
                gap_change=gap.value,
                gap_low=gap.low,
                gap_high=gap.high,
                equivalent=verdicts.count("equivalent"),
                different=verdicts.count("different"),
                undecided=verdicts.count("undecided"),
            )
        )
    return tuple(rows)


def _worst(rows: Sequence[ChangeRow]) -> ChangeRow | None:
    return min((row for row in rows if row.n), key=lambda row: row.accuracy.value, default=None)
