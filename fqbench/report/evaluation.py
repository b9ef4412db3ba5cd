"""An evaluation as a document."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fqbench.fairness.results import without_images
from fqbench.report.document import UNDEFINED, Bars, Document, Heading, Records, Section, Sheet, notes, warnings
from fqbench.report.names import legend, said_once, short_names

if TYPE_CHECKING:
    from fqbench.fairness import Change, ChangeReport, Estimate, GapEstimate, GroupReport
    from fqbench.fairness.evaluated import EvaluatedArtifact, Evaluation
    from fqbench.fairness.hypothesis_tests import Verdict
    from fqbench.fairness.results import ChangeRow, GroupRow

# In this order; the others are in --json and --csv.
SHOWN_GAPS = {
    "demographic_parity_difference": "demographic parity difference",
    "demographic_parity_ratio": "disparate impact (ratio)",
    "equalized_odds_difference": "equalized odds difference",
    "equal_opportunity_difference": "equal opportunity difference",
    "predictive_equality_difference": "predictive equality difference",
    "accuracy_gap": "accuracy gap",
    "worst_group_accuracy": "worst-group accuracy",
}
MEASURES = {
    "excess_loss_gap": "excess loss, largest difference (Tran 2022)",
    "std_of_drops": "standard deviation of accuracy drops (FairGRAPE 2022)",
    "combined_error_variance": "CEV of relative FPR and FNR changes (Blakeney 2021)",
    "symmetric_distance_error": "SDE of relative FPR and FNR changes (Blakeney 2021)",
    "eopp0": "EOpp0, sum over classes and pairs (FairPrune 2022)",
    "eopp1": "EOpp1, sum over classes and pairs (FairPrune 2022)",
    "eodd": "EOdd, sum over classes and pairs (FairPrune 2022)",
    "bias_amplification": "bias amplification (Iofinova 2023)",
}
PROBABILITIES = (
    "Δ cross-entropy above 0: less probability for the true class. KL divergence: distance of the probabilities. "
    "Neither is an accuracy: both use every image, not only those whose answer changed, and so need fewer images."
)
RATES = ("accuracy", "selection_rate", "tpr", "fpr", "fnr", "precision", "balanced_accuracy")
CHANGES = ("accuracy", "selection_rate", "tpr", "fpr")


RECORDS = (
    "artifact_id", "predictions_id", "data", "split", "subset", "by", "group", "figure", "value", "low", "high", "n",
)  # fmt: skip


def evaluation_document(*evaluations: Evaluation) -> Document:
    """Return the evaluations of one or several parts of a split.

    The sections of each: what was evaluated, a sheet of groups per artifact, the gaps, the figures without a threshold,
    the change from the reference, and the literature's measures. The value is one evaluation's, or a list.
    """
    values = [evaluation.to_dict() for evaluation in evaluations]
    sections = [section for evaluation in evaluations for section in _sections(evaluation)]
    records = [row for evaluation in evaluations for row in _records(evaluation)]
    return Document(tuple(sections), values[0] if len(values) == 1 else values, Records(RECORDS, records))


def _sections(evaluation: Evaluation) -> Iterator[Section]:
    artifacts, ids = evaluation.artifacts, [artifact.id for artifact in evaluation.artifacts]
    labels = [artifact.label for artifact in artifacts]
    names = short_names(labels, ids)
    yield Heading(_title(evaluation))
    yield from notes(evaluation.notice)
    yield from warnings(*evaluation.notes)
    yield legend(names, ids, {"runtime": [artifact.runtime for artifact in artifacts]})
    remarks = [(name, text) for name, one in zip(names, artifacts, strict=True) for text in one.report.warnings]
    yield from said_once(remarks, names)
    yield from (_groups(name, artifact) for name, artifact in zip(names, artifacts, strict=True))
    yield _gaps(evaluation, names)
    if all(artifact.scores for artifact in artifacts):
        yield _scores(evaluation, names)
    changes = [
        (name, artifact, artifact.change)
        for name, artifact in zip(names[1:], artifacts[1:], strict=True)
        if artifact.change is not None
    ]
    for name, artifact, change in changes:
        sheet = _change(names[0], name, change)
        used = (artifact.predictions_id, artifacts[0].predictions_id)
        yield replace(sheet, sources=(used,) * len(sheet.rows))
    if changes:
        yield from notes(_how(changes[0][2]))
    paired = [
        _paired_scores(names[0], name, artifact)
        for name, artifact in zip(names, artifacts, strict=True)
        if artifact.paired_scores
    ]
    yield from paired
    if paired:
        yield from notes(PROBABILITIES)
    if any(artifact.measures is not None for artifact in artifacts):
        yield _measures(evaluation, names)


def _title(evaluation: Evaluation) -> str:
    groups = " × ".join(evaluation.by) or "all images together"
    positive = f", positive class {evaluation.positive!r}" if evaluation.positive else ""
    subset = f", only {evaluation.subset}" if evaluation.subset else ""
    attribute = f", {evaluation.attribute}" if evaluation.attribute else ""
    return f"{evaluation.data}, {evaluation.split} split{subset}{attribute}, by {groups}{positive}"


def verdict_in_words(reference: str, label: str, change: ChangeReport) -> str:
    """Describe which groups are equivalent to the reference, which lost or gained, and which are undecided."""
    rows = change.groups
    equivalent = [row for row in rows if row.verdict.answer == "equivalent"]
    margin = rows[0].verdict.margin if rows else float("nan")
    words = [
        f"{label} is equivalent to {reference} for {len(equivalent)} of {len(rows)} groups "
        f"(accuracy, margin {100 * margin:g} point{'s' if margin != 0.01 else ''})"
    ]
    for row in rows:
        if row.verdict.answer == "different":
            verb = "lost" if row.accuracy.value < 0 else "gained"
            words.append(
                f"{row.group} {verb} {abs(100 * row.accuracy.value):.1f} points {_interval(row.accuracy)}, "
                f"p = {row.mcnemar_p_adjusted:.3g} after {change.correction}"
            )
    undecided = [row for row in rows if row.verdict.answer == "undecided"]
    if undecided:
        needed = [row.verdict.images_needed for row in undecided if math.isfinite(row.verdict.images_needed)]
        most = f"; about {max(needed):,.0f} images per group would decide all of them" if needed else ""
        empty = sum(row.n == 0 for row in undecided)
        without = f", {empty} of them without images" if empty else ""
        words.append(f"undecided for {len(undecided)}{without}{most}")
    return "; ".join(words) + "."


def _groups(name: str, artifact: EvaluatedArtifact) -> Sheet:
    report = artifact.report
    shown = (*report.groups, report.overall)
    rows = [
        (_named(row), str(row.n), *map(_rate, (row.accuracy, row.selection_rate, row.tpr, row.fpr))) for row in shown
    ]
    columns = ("group", ">n", f">accuracy, {report.confidence:.0%} interval", ">selection rate", ">TPR", ">FPR")
    bars = Bars(2, tuple(row.accuracy.value for row in shown))
    sources = ((artifact.id, artifact.predictions_id),) * len(rows)
    return Sheet(f"{name}: rates per group", columns, tuple(rows), total=True, bars=bars, sources=sources)


def _gaps(evaluation: Evaluation, names: Sequence[str]) -> Sheet:
    first = evaluation.artifacts[0].report
    empty = [row.group for row in first.groups if row.n == 0]
    rows, remarks = [], []
    for key, title in SHOWN_GAPS.items():
        gaps = [artifact.report.gaps[key] for artifact in evaluation.artifacts]
        rows.append((title, *map(_gap, gaps), _chance(gaps[0]), _pair(first, key)))
        remarks += [
            (name, text) for name, gap in zip(names, gaps, strict=True) if (text := _left_out(title, gap, empty))
        ]
    columns = ("gap between groups", *(f">{name}" for name in names), ">by chance", "set by")
    how = (
        f"set by: the groups with the highest and the lowest rate, for {names[0]}. "
        "by chance: the average gap between groups of these sizes if there is no difference."
    )
    below = (*warnings(without_images(empty) if empty else ""), *said_once(remarks, names, warning=False), *notes(how))
    return Sheet("gaps between groups", columns, tuple(rows), below)


def _scores(evaluation: Evaluation, names: Sequence[str]) -> Sheet:
    rows = []
    for index, row in enumerate(evaluation.artifacts[0].scores):
        scores = [artifact.scores[index] for artifact in evaluation.artifacts]
        figures = [figure for score in scores for figure in (score.auc.value, score.calibration_error)]
        rows.append((row.group, *(UNDEFINED if math.isnan(figure) else f"{figure:.3f}" for figure in figures)))
    columns = [f">{what} {name}" for name in names for what in ("AUC", "ECE")]
    how = "AUC: area under the ROC curve. ECE: expected calibration error. Intervals and logit shifts: --json."
    return Sheet("without a threshold", ("group", *columns), tuple(rows), notes(how), total=True)


def _measures(evaluation: Evaluation, names: Sequence[str]) -> Sheet:
    compared = [
        (name, one.measures) for name, one in zip(names, evaluation.artifacts, strict=True) if one.measures is not None
    ]
    rows = []
    for key, title in MEASURES.items():
        values = [getattr(measures, key) for _name, measures in compared]
        rows.append((title, *(UNDEFINED if math.isnan(value) else f"{value:.4f}" for value in values)))
    how = f"Against {names[0]}; sources in fqbench/fairness/literature.py, values per group in --json."
    columns = ("measure", *(f">{name}" for name, _measures in compared))
    return Sheet("measures of the literature", columns, tuple(rows), notes(how))


def _change(reference: str, name: str, change: ChangeReport) -> Sheet:
    rows = []
    for row in (*change.groups, change.overall):
        p = row.mcnemar_p_adjusted
        rows.append(
            (
                _named(row),
                str(row.n),
                points(row.accuracy),
                _verdict(row.verdict),
                UNDEFINED if math.isnan(p) else f"{p:.3f}",
                str(row.flips),
                str(row.negative_flips),
            )
        )
    columns = (
        "group", ">n", ">Δ accuracy, points", "verdict",
        f">p ({change.correction})", ">flips", ">right to wrong",
    )  # fmt: skip
    words = verdict_in_words(reference, name, change)
    return Sheet(f"{name} against {reference}", columns, tuple(rows), notes(words), total=True)


def _how(change: ChangeReport) -> str:
    return (
        f"p: exact McNemar test, {change.correction} over all groups of all artifacts here (last row: uncorrected). "
        "undecided (about N images): estimated sample size for this group to reach a verdict with 80 % power."
    )


def _records(evaluation: Evaluation) -> Iterator[list[object]]:
    by = "×".join(evaluation.by)
    for artifact in evaluation.artifacts:
        head = [artifact.id, artifact.predictions_id, evaluation.data, evaluation.split, evaluation.subset, by]
        yield from ([*head, *row] for row in _figures(artifact))


def _paired_scores(reference: str, name: str, artifact: EvaluatedArtifact) -> Sheet:
    rows = tuple(
        (row.group, str(row.n), _nats(row.cross_entropy_change, "+.4f"), _nats(row.kl_divergence, ".4f"))
        for row in artifact.paired_scores
    )
    columns = ("group", ">n", ">Δ cross-entropy, nats", ">KL divergence, nats")
    title = f"probabilities of {name} against {reference}"
    return Sheet(title, columns, rows, total=True)


def _figures(artifact: EvaluatedArtifact) -> Iterator[list[object]]:
    for row in (*artifact.report.groups, artifact.report.overall):
        for name in RATES:
            rate: Estimate = getattr(row, name)
            yield [row.group, name, rate.value, rate.low, rate.high, rate.n]
    for name, gap in artifact.report.gaps.items():
        yield ["", name, gap.value, gap.low, gap.high, artifact.report.overall.n]
    if artifact.change is None:
        return
    for change in (*artifact.change.groups, artifact.change.overall):
        for name in CHANGES:
            one: Change = getattr(change, name)
            yield [change.group, f"change_of_{name}", one.value, one.low, one.high, one.n]
        yield [change.group, "flips", change.flips, "", "", change.n]
        yield [change.group, "negative_flips", change.negative_flips, "", "", change.n]
    for score in artifact.paired_scores:
        for name in ("cross_entropy_change", "kl_divergence"):
            mean: Estimate = getattr(score, name)
            yield [score.group, name, mean.value, mean.low, mean.high, mean.n]
    for name, moved in artifact.change.gaps.items():
        yield ["", f"change_of_{name}", moved.value, moved.low, moved.high, artifact.change.overall.n]


def _named(row: GroupRow | ChangeRow) -> str:
    return f"{row.group} (small)" if row.small and row.n else row.group


def _rate(estimate: Estimate) -> str:
    if math.isnan(estimate.value):
        return UNDEFINED
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _nats(estimate: Estimate, form: str) -> str:
    if math.isnan(estimate.value):
        return UNDEFINED
    if math.isnan(estimate.low):
        return f"{estimate.value:{form}}"
    return f"{estimate.value:{form}} [{estimate.low:{form}}, {estimate.high:{form}}]"


def _gap(gap: GapEstimate) -> str:
    return UNDEFINED if math.isnan(gap.value) else f"{gap.value:.3f} [{gap.low:.3f}, {gap.high:.3f}]"


def _left_out(title: str, gap: GapEstimate, empty: Sequence[str]) -> str:
    """Name the groups that a gap is computed without, except those without images, which the sheet names once."""
    undefined = [group for group in gap.undefined if group not in empty]
    if not undefined or math.isnan(gap.value):
        return ""
    return f"{title} is computed without {', '.join(undefined)}, whose rate is undefined."


def _pair(report: GroupReport, name: str) -> str:
    pair = report.gaps[name].pair
    if pair is None:
        return "-"
    return pair[1] if name == "worst_group_accuracy" else f"{pair[0]} > {pair[1]}"


def _chance(gap: GapEstimate) -> str:
    return "-" if math.isnan(gap.noise_floor) else f"{gap.noise_floor:.3f}"


def _interval(change: Change) -> str:
    """In points, in the direction of the change: what a group lost is positive here."""
    low, high = (-change.high, -change.low) if change.value < 0 else (change.low, change.high)
    return f"[{100 * low:.1f}, {100 * high:.1f}]"


def points(change: Change) -> str:
    """Return a change of a share in percentage points, with its interval."""
    if math.isnan(change.value):
        return UNDEFINED
    return f"{100 * change.value:+.2f} [{100 * change.low:+.2f}, {100 * change.high:+.2f}]"


def _verdict(verdict: Verdict) -> str:
    if verdict.answer != "undecided" or not math.isfinite(verdict.images_needed):
        return verdict.answer
    return f"undecided (about {verdict.images_needed:,.0f} images)"
