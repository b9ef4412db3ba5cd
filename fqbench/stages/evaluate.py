"""Evaluate: rates per group with intervals, from the predictions of artifacts and their reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.catalogue import model_of
from fqbench.contracts.artifacts import Artifact
from fqbench.data.samples import Samples, group_labels
from fqbench.errors import InputError
from fqbench.fairness import GAPS, change_report, count, count_paired, group_report
from fqbench.fairness.comparison import accuracy_p_values
from fqbench.fairness.evaluated import EvaluatedArtifact, Evaluation, Evaluations
from fqbench.fairness.measures import Measures, measures
from fqbench.fairness.paired_scores import PairedScoreRow, paired_score_rows
from fqbench.fairness.scores import ScoreRow, score_rows
from fqbench.predicted_labels import Output, PredictedLabels, predicted_labels
from fqbench.predictions import ArtifactPredictions
from fqbench.provenance import differences, preprocessing_differences
from fqbench.run import Run
from fqbench.stages.named import positive_class
from fqbench.stages.predict import predict_split
from fqbench.stages.read import read, read_entry
from fqbench.stages.saturation import require_one_kind_of_sums
from fqbench.workspace import Derivation
from fqbench.workspace.kinds import EVALUATIONS, EXECUTABLE, EvaluationFacts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fqbench.fairness import ChangeReport, PairedCounts
    from fqbench.workspace import Entry

REPORT = "fairness.json"


def open_evaluations(entry: Entry[EvaluationFacts]) -> tuple[Evaluation, ...]:
    """Read the evaluations that an entry holds.

    Raises
    ------
    DataError
        They are of another version of fqbench.
    """
    return Evaluations.open(entry.file(REPORT)).views


def evaluate(run: Run, artifacts: Sequence[Artifact]) -> Evaluation:
    """Evaluate artifacts on the configured split; the first is the reference of all changes.

    Parameters
    ----------
    run : Run
        The experiment.
    artifacts : sequence of Artifact
        At least one; FP32 first, so that changes are those that quantization made.

    Returns
    -------
    Evaluation
        Every group of the data set; one without images in the split has n = 0 and undefined figures.

    Raises
    ------
    InputError
        No artifacts, an unknown feature or class, or several attributes, of which `evaluate_views` returns one
        evaluation each.
    """
    read(run).require_one_label("evaluate")
    return evaluate_views(run.with_options("eval", intersect=True, control=None), artifacts)[0]


def evaluate_views(
    run: Run, artifacts: Sequence[Artifact], *, files: Sequence[Path] = (), confidence: float | None = None
) -> list[Evaluation]:
    """Evaluate as `evaluate`, once for each view that was asked for, and for each attribute of the data.

    Several attributes come from the same predictions: the images are run once. p-values are corrected over all of them.

    Parameters
    ----------
    run : Run
        The experiment; ``intersect`` off gives one view per feature, ``control`` one for each value of that feature.
    artifacts : sequence of Artifact
        The first is the reference.
    files : sequence of Path
        Predictions made elsewhere, as CSV or Parquet with ``sample_id`` and ``prediction`` or ``logits``.
    confidence : float, optional
        In place of the configured one.
    """
    return list(open_evaluations(evaluation_entry(run, artifacts, files=files, confidence=confidence)))


def evaluation_entry(
    run: Run, artifacts: Sequence[Artifact], *, files: Sequence[Path] = (), confidence: float | None = None
) -> Entry[EvaluationFacts]:
    """Return the entry that `evaluate_views` opens."""
    if not artifacts:
        raise InputError("there is nothing to evaluate; make an artifact with `fqbench quantize` first.")
    asked, samples = run.config.eval, read(run)
    features = tuple(feature for feature in samples.features(asked.by) if feature != asked.control)
    groupings = [features] if asked.intersect else [(feature,) for feature in features]
    positive_class(run, samples.labellings[0])  # a misspelt class is told before anything is run
    answered = [predict_split(run, artifact) for artifact in artifacts]
    labellings = _labellings(run, answered, files)
    decided = labellings[0].decided
    notes = (*_differences(run, artifacts), *require_one_kind_of_sums(answered))
    options = {"replicates": asked.replicates, "confidence": confidence or asked.confidence, "seed": asked.seed}
    views = _views(run, decided[0], groupings)
    derivation = Derivation(
        kind=EVALUATIONS,
        slug=f"{len(decided)}-artifacts-{asked.split}",
        determined_by={
            "samples": read_entry(run).digest,
            "predictions": [
                [one.digest, one.id, one.label, one.predictions_id, one.runtime, one.level] for one in decided
            ],
            "views": [[list(view.by), view.where] for view in views],
            "options": asked.model_dump(mode="json") | options | {"positive": labellings[0].positive},
            "notes": notes,
        },
        inputs={f"predictions{index}": one.predictions_id for index, one in enumerate(decided)},
    )

    def build(out: Path) -> EvaluationFacts:
        found = Evaluations(tuple(one for view in views for one in _evaluations(run, view, labellings, options, notes)))
        found.save(out / REPORT)
        ids = tuple(one.id for one in decided)
        return EvaluationFacts(artifacts=ids, views=len(found.views), notice=samples.notice)

    of = f" on {len(labellings)} attributes" if samples.attributes else ""
    doing = f"evaluating {len(decided)} artifact(s){of} by {', '.join(features) or 'nothing'}"
    return run.produce(derivation, build, doing)


@dataclass(frozen=True)
class _Labelling:
    """The data set with one label, and what all artifacts predict for it."""

    samples: Samples
    positive: str | None
    output: Output | None
    decided: tuple[PredictedLabels, ...]

    @property
    def attribute(self) -> str:
        return "" if self.output is None else self.output.name

    def where(self, subset: tuple[str, str] | None) -> _Labelling:
        """Return the part with one value of a feature."""
        return self if subset is None else replace(self, decided=tuple(one.where(*subset) for one in self.decided))


def _outputs(samples: Samples) -> tuple[Output | None, ...]:
    names = [one.name for one in samples.attributes]
    return tuple(Output(index, name, len(names)) for index, name in enumerate(names)) or (None,)


def _labellings(run: Run, answered: Sequence[ArtifactPredictions], files: Sequence[Path]) -> list[_Labelling]:
    samples, found = read(run), []
    for one, output in zip(samples.labellings, _outputs(samples), strict=True):
        positive = positive_class(run, one)
        threshold = run.config.eval.threshold
        decided = predicted_labels(answered, one, threshold=threshold, positive=positive, files=files, output=output)
        found.append(_Labelling(one, positive, output, tuple(decided)))
    return found


@dataclass(frozen=True)
class _View:
    """Features that make the groups, and the value of a control feature that the images have."""

    by: tuple[str, ...]
    where: tuple[str, str] | None


def _views(run: Run, decisions: PredictedLabels, groupings: Sequence[tuple[str, ...]]) -> list[_View]:
    control = run.config.eval.control
    if control is None:
        return [_View(by, None) for by in groupings]
    read(run).features([control])
    values = sorted(decisions.frame[control].astype(str).unique())
    return [_View(by, (control, value)) for by in groupings for value in values]


def _differences(run: Run, artifacts: Sequence[Artifact]) -> tuple[str, ...]:
    told: list[str] = []
    for artifact in artifacts:
        entry = run.workspace.get(artifact.id, EXECUTABLE)
        told += differences(run.workspace, entry, read_entry(run))
        told += preprocessing_differences(model_of(run.workspace, artifact), run.config.preprocessing)
    return tuple(dict.fromkeys(told))


def _evaluations(
    run: Run, view: _View, labellings: Sequence[_Labelling], options: Mapping[str, Any], notes: tuple[str, ...]
) -> list[Evaluation]:
    """Return one evaluation per label; p-values are corrected over the groups, artifacts and labels of the view."""
    parts = [labelling.where(view.where) for labelling in labellings]
    known = read(run).groups(view.by, view.where)
    groups = _Groups(group_labels(parts[0].decided[0].frame, view.by), known)
    paired = [_paired(part, groups) for part in parts]
    family = _Family([[accuracy_p_values(table) for table in tables] for tables in paired])
    return [
        Evaluation(
            artifacts=_Figures(run, part, groups, options).of_all(tables, family.of(number)),
            data=part.samples.name,
            split=run.config.eval.split,
            by=view.by,
            positive=part.positive,
            notice=part.samples.notice,
            subset="" if view.where is None else "=".join(view.where),
            notes=notes,
            attribute=part.attribute,
        )
        for number, (part, tables) in enumerate(zip(parts, paired, strict=True))
    ]


def _paired(part: _Labelling, groups: _Groups) -> list[PairedCounts]:
    """Return the joint counts of the reference and each other artifact."""
    labels = part.decided[0].frame["label"].to_numpy(dtype=np.int64)
    reference, *others = part.decided
    shared = {"classes": part.samples.classes, "known_groups": groups.known}
    return [count_paired(labels, reference.labels, one.labels, groups.labels, **shared) for one in others]


@dataclass(frozen=True)
class _Family:
    """The uncorrected p-values of all tests of a view: per label, per artifact, per group."""

    p_values: Sequence[Sequence[NDArray[np.float64]]]

    def of(self, label: int) -> list[list[float]]:
        """Return for each artifact, on one label, all p-values but its own."""
        return [
            [
                float(p)
                for other, tests in enumerate(self.p_values)
                for number, values in enumerate(tests)
                if (other, number) != (label, artifact)
                for p in values
            ]
            for artifact in range(len(self.p_values[label]))
        ]


@dataclass(frozen=True)
class _Groups:
    """The group of each image, and all groups of the data set, also those without images here."""

    labels: NDArray[np.str_]
    known: Sequence[str]


@dataclass(frozen=True)
class _Against:
    """What an artifact is compared with: the reference, their joint counts, and the p-values of the other artifacts."""

    reference: PredictedLabels
    paired: PairedCounts
    family: Sequence[float]


@dataclass(frozen=True)
class _Figures:
    """What determines the figures of all artifacts, apart from their predictions."""

    run: Run
    part: _Labelling
    groups: _Groups
    options: Mapping[str, Any]

    def of_all(
        self, paired: Sequence[PairedCounts], families: Sequence[Sequence[float]]
    ) -> tuple[EvaluatedArtifact, ...]:
        reference, *others = self.part.decided
        against = [_Against(reference, table, family) for table, family in zip(paired, families, strict=True)]
        return (self.of(reference, None), *map(self.of, others, against))

    def of(self, one: PredictedLabels, against: _Against | None) -> EvaluatedArtifact:
        classes, groups = self.part.samples.classes, self.groups
        labels = one.frame["label"].to_numpy(dtype=np.int64)
        counts = count(labels, one.labels, groups.labels, classes=classes, known_groups=groups.known)
        positive = self.part.positive
        return EvaluatedArtifact(
            id=one.id,
            label=one.label,
            predictions_id=one.predictions_id,
            runtime=one.runtime,
            level=one.level,
            report=group_report(counts, positive=positive, **self.options),
            change=None if against is None else self._change(against),
            scores=self._scores(one, labels, against),
            measures=None if against is None else self._measures(one, labels, against),
            paired_scores=() if against is None else self._moved(one, labels, against),
        )

    def _change(self, against: _Against) -> ChangeReport:
        asked = self.run.config.eval
        margins = {"accuracy": asked.accuracy_margin} | dict.fromkeys(GAPS, asked.gap_margin)
        return change_report(
            against.paired,
            positive=self.part.positive,
            margins=margins,
            correction=asked.correction,
            family=against.family,
            **self.options,
        )

    def _measures(self, one: PredictedLabels, labels: NDArray[np.int64], against: _Against) -> Measures:
        logits = {"logits_reference": against.reference.logits, "logits": one.logits}
        return measures(against.paired, labels, self.groups.labels, positive=self.part.positive, **logits)

    def _moved(self, one: PredictedLabels, labels: NDArray[np.int64], against: _Against) -> tuple[PairedScoreRow, ...]:
        if against.reference.logits is None or one.logits is None:
            return ()
        return paired_score_rows(
            against.reference.logits,
            one.logits,
            labels,
            self.groups.labels,
            known_groups=self.groups.known,
            confidence=self.options["confidence"],
        )

    def _scores(
        self, one: PredictedLabels, labels: NDArray[np.int64], against: _Against | None
    ) -> tuple[ScoreRow, ...]:
        if one.logits is None:
            return ()
        positive = self.part.positive
        return score_rows(
            labels,
            one.logits,
            self.groups.labels,
            known_groups=self.groups.known,
            positive=self.part.samples.classes.index(positive) if positive else None,
            reference=None if against is None else against.reference.logits,
            confidence=self.options["confidence"],
        )
