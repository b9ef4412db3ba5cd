"""Evaluate: rates per group with intervals, from the predictions of artifacts and their reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.catalogue import model_of
from fqbench.contracts.artifacts import Artifact
from fqbench.data.samples import group_labels
from fqbench.errors import InputError, did_you_mean
from fqbench.fairness import GAPS, change_report, count, count_paired, group_report
from fqbench.fairness.comparison import accuracy_p_values
from fqbench.fairness.evaluated import EvaluatedArtifact, Evaluation, Evaluations
from fqbench.fairness.measures import measures
from fqbench.fairness.paired_scores import PairedScoreRow, paired_score_rows
from fqbench.fairness.scores import ScoreRow, score_rows
from fqbench.predicted_labels import PredictedLabels, predicted_labels
from fqbench.provenance import differences, preprocessing_differences
from fqbench.run import Run
from fqbench.stages.predict import predict_split
from fqbench.stages.read import read, read_entry
from fqbench.workspace import Derivation
from fqbench.workspace.kinds import EVALUATIONS, EXECUTABLE, EvaluationFacts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fqbench.fairness import PairedCounts
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
        No artifacts, or an unknown feature or class.
    """
    return evaluate_views(run.with_options("eval", intersect=True, control=None), artifacts)[0]


def evaluate_views(
    run: Run, artifacts: Sequence[Artifact], *, files: Sequence[Path] = (), confidence: float | None = None
) -> list[Evaluation]:
    """Evaluate as `evaluate`, once for each view that was asked for.

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
    if asked.positive is not None and asked.positive not in samples.classes:
        hint = did_you_mean(asked.positive, samples.classes)
        raise InputError(f"{samples.name} has no class {asked.positive!r} for --positive: {hint}")
    positive = asked.positive if asked.positive or len(samples.classes) > 2 else samples.classes[-1]
    answered = [predict_split(run, artifact) for artifact in artifacts]
    decided = predicted_labels(answered, samples, threshold=asked.threshold, positive=positive, files=files)
    notes = _differences(run, artifacts)
    options = {
        "positive": positive,
        "replicates": asked.replicates,
        "confidence": confidence or asked.confidence,
        "seed": asked.seed,
    }
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
            "options": asked.model_dump(mode="json") | options,
            "notes": notes,
        },
        inputs={f"predictions{index}": one.predictions_id for index, one in enumerate(decided)},
    )

    def build(out: Path) -> EvaluationFacts:
        found = Evaluations(tuple(_evaluation(run, view, decided, options, notes) for view in views))
        found.save(out / REPORT)
        ids = tuple(one.id for one in decided)
        return EvaluationFacts(artifacts=ids, views=len(views), notice=samples.notice)

    doing = f"evaluating {len(decided)} artifact(s) by {', '.join(features) or 'nothing'}"
    return run.produce(derivation, build, doing)


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


def _evaluation(
    run: Run, view: _View, decided: Sequence[PredictedLabels], options: Mapping[str, Any], notes: tuple[str, ...]
) -> Evaluation:
    samples = read(run)
    part = decided if view.where is None else [one.where(*view.where) for one in decided]
    return Evaluation(
        artifacts=_figures_of_all(run, part, view.by, samples.groups(view.by, view.where), options),
        data=samples.name,
        split=run.config.eval.split,
        by=view.by,
        positive=options["positive"],
        notice=samples.notice,
        subset="" if view.where is None else "=".join(view.where),
        notes=notes,
    )


def _figures_of_all(
    run: Run, decided: Sequence[PredictedLabels], by: Sequence[str], known: Sequence[str], options: Mapping[str, Any]
) -> tuple[EvaluatedArtifact, ...]:
    """Figures of all artifacts; p-values are corrected over the groups of all of them together."""
    groups, classes = _Groups(group_labels(decided[0].frame, by), known), read(run).classes
    labels = decided[0].frame["label"].to_numpy(dtype=np.int64)
    reference, *others = decided
    paired = [
        count_paired(labels, reference.labels, one.labels, groups.labels, classes=classes, known_groups=known)
        for one in others
    ]
    tests = [accuracy_p_values(table) for table in paired]
    figures = [_figures(run, reference, groups, None, options)]
    for index, (one, table) in enumerate(zip(others, paired, strict=True)):
        family = [p for other, values in enumerate(tests) if other != index for p in values]
        figures.append(_figures(run, one, groups, _Against(reference, table, family), options))
    return tuple(figures)


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


def _figures(
    run: Run, one: PredictedLabels, groups: _Groups, against: _Against | None, options: Mapping[str, Any]
) -> EvaluatedArtifact:
    asked, classes, positive = run.config.eval, read(run).classes, options["positive"]
    labels = one.frame["label"].to_numpy(dtype=np.int64)
    change = found = None
    if against is not None:
        margins = {"accuracy": asked.accuracy_margin} | dict.fromkeys(GAPS, asked.gap_margin)
        change = change_report(
            against.paired, margins=margins, correction=asked.correction, family=against.family, **options
        )
        logits = {"logits_reference": against.reference.logits, "logits": one.logits}
        found = measures(against.paired, labels, groups.labels, positive=positive, **logits)
    moved: tuple[PairedScoreRow, ...] = ()
    if against is not None and against.reference.logits is not None and one.logits is not None:
        moved = paired_score_rows(
            against.reference.logits,
            one.logits,
            labels,
            groups.labels,
            known_groups=groups.known,
            confidence=options["confidence"],
        )
    scores: tuple[ScoreRow, ...] = ()
    if one.logits is not None:
        scores = score_rows(
            labels,
            one.logits,
            groups.labels,
            known_groups=groups.known,
            positive=classes.index(positive) if positive else None,
            reference=None if against is None else against.reference.logits,
            confidence=options["confidence"],
        )
    return EvaluatedArtifact(
        id=one.id,
        label=one.label,
        predictions_id=one.predictions_id,
        runtime=one.runtime,
        level=one.level,
        report=group_report(
            count(labels, one.labels, groups.labels, classes=classes, known_groups=groups.known), **options
        ),
        change=change,
        scores=scores,
        measures=found,
        paired_scores=moved,
    )
