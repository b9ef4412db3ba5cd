"""What an evaluation found: the figures of every artifact on the same images; written as JSON and read back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fqbench.contracts.runtime import Level
from fqbench.fairness.measures import Measures
from fqbench.fairness.paired_scores import PairedScoreRow
from fqbench.fairness.results import ChangeReport, GroupReport
from fqbench.fairness.scores import ScoreRow
from fqbench.storage import Stored, finite_or_none


@dataclass(frozen=True)
class EvaluatedArtifact(Stored):
    """The figures of one artifact, and the ids of what they came from.

    Attributes
    ----------
    id, label : str
        The artifact's id and its name in tables.
    predictions_id : str
        Entry of the predictions that were counted.
    runtime : str
        Backend, its version and the device.
    report : GroupReport
        Rates and gaps.
    change : ChangeReport or None
        What changed from the reference; None for the reference itself.
    scores : tuple of ScoreRow
        AUC, calibration error and shift of the logits by group; empty where there are no logits.
    measures : Measures or None
        The literature's measures of the change.
    paired_scores : tuple of PairedScoreRow
        Change of cross-entropy and KL divergence by group; empty for the reference, and where there are no logits.
    level : Level
        How the artifact was executed.
    """

    id: str
    label: str
    predictions_id: str
    runtime: str
    report: GroupReport
    change: ChangeReport | None
    scores: tuple[ScoreRow, ...] = ()
    measures: Measures | None = None
    paired_scores: tuple[PairedScoreRow, ...] = ()
    level: Level = Level.NATIVE

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "id": self.id,
            "label": self.label,
            "predictions_id": self.predictions_id,
            "runtime": self.runtime,
            "level": self.level.value,
            "report": self.report.to_dict(),
            "scores": [finite_or_none(row) for row in self.scores],
            "change": self.change.to_dict() if self.change is not None else None,
            "measures": self.measures.to_dict() if self.measures is not None else None,
            "paired_scores": [finite_or_none(row) for row in self.paired_scores],
        }


@dataclass(frozen=True)
class Evaluation(Stored):
    """All artifacts on the same images.

    Attributes
    ----------
    artifacts : tuple of EvaluatedArtifact
        The reference first.
    data, split : str
        Which images.
    by : tuple of str
        Sensitive features whose intersections are the groups.
    positive : str or None
        The class that counts as positive.
    notice : str
        What has to be said of these data.
    subset : str
        Which part of the split, as in ``gender=feminine``; empty for all of it.
    notes : tuple of str
        Where the data or the preprocessing differ from those that an artifact was made with.
    attribute : str
        Which of several attributes; empty where there is one label.
    """

    artifacts: tuple[EvaluatedArtifact, ...]
    data: str
    split: str
    by: tuple[str, ...]
    positive: str | None
    notice: str
    subset: str = ""
    notes: tuple[str, ...] = ()
    attribute: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "data": self.data,
            "notice": self.notice,
            "notes": list(self.notes),
            "split": self.split,
            "subset": self.subset,
            "attribute": self.attribute,
            "by": list(self.by),
            "positive": self.positive,
            "artifacts": [artifact.to_dict() for artifact in self.artifacts],
        }


@dataclass(frozen=True)
class Evaluations(Stored):
    """The result of one evaluation request: one evaluation per view."""

    views: tuple[Evaluation, ...]
