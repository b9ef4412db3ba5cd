"""An evaluation as sheets for people, and as rows for machines."""

from __future__ import annotations

import csv
import io
import math
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from fqbench.fairness.results import without_images
from fqbench.report.sheets import UNDEFINED, Sheet, print_sheets, to_latex, to_markdown
from fqbench.terminal import Format, print_json, stdout

if TYPE_CHECKING:
    from fqbench.fairness import Change, ChangeReport, Estimate, GapEstimate, GroupReport
    from fqbench.fairness.hypothesis_tests import Verdict
    from fqbench.fairness.results import ChangeRow, GroupRow
    from fqbench.stages.evaluate import EvaluatedArtifact, Evaluation

BAR = 10
# What DESIGN §8 asks to see, in this order; the others are in --json and --csv.
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
    "eopp0": "EOpp0, sum over pairs (FairPrune 2022)",
    "eopp1": "EOpp1, sum over pairs (FairPrune 2022)",
    "eodd": "EOdd, sum over pairs (FairPrune 2022)",
    "bias_amplification": "bias amplification (Iofinova 2023)",
}
RATES = ("accuracy", "selection_rate", "tpr", "fpr", "fnr", "precision", "balanced_accuracy")
CHANGES = ("accuracy", "selection_rate", "tpr", "fpr")


def show_evaluations(evaluations: Sequence[Evaluation], form: Format) -> None:
    """Write evaluations to stdout in one of the formats."""
    if form is Format.JSON:
        values = [evaluation.to_dict() for evaluation in evaluations]
        print_json(values[0] if len(values) == 1 else values)
    elif form is Format.CSV:
        sys.stdout.write(evaluation_csv(evaluations))
    else:
        bars = form is Format.TEXT
        sheets = [sheet for evaluation in evaluations for sheet in evaluation_sheets(evaluation, bars=bars)]
        if form is Format.TEXT:
            print_sheets(sheets, stdout())
        else:
            sys.stdout.write(to_markdown(sheets) if form is Format.MARKDOWN else to_latex(sheets))


def evaluation_sheets(evaluation: Evaluation, *, bars: bool = False) -> list[Sheet]:
    """Return one sheet of groups an artifact, one of gaps, and what changed from the reference.

    Parameters
    ----------
    evaluation : Evaluation
        What to show.
    bars : bool
        Draw accuracies as bars of text, for a terminal.
    """
    groups = " × ".join(evaluation.by) or "all images together"
    positive = f", positive class {evaluation.positive!r}" if evaluation.positive else ""
    subset = f", only {evaluation.subset}" if evaluation.subset else ""
    title = f"{evaluation.data}, {evaluation.split} split{subset}, by {groups}{positive}"
    sheets = [
        Sheet(
            title,
            (),
            notes=(*((evaluation.notice,) if evaluation.notice else ()), *(f"! {note}" for note in evaluation.notes)),
        )
    ]
    sheets += [_groups(artifact, bars=bars) for artifact in evaluation.artifacts]
    sheets.append(_gaps(evaluation))
    if all(artifact.scores for artifact in evaluation.artifacts):
        sheets.append(_scores(evaluation))
    for artifact in evaluation.artifacts[1:]:
        if artifact.change is not None:
            sheets.append(_change(evaluation.artifacts[0], artifact, artifact.change))
    if any(artifact.measures is not None for artifact in evaluation.artifacts):
        sheets.append(_measures(evaluation))
    return sheets


def evaluation_csv(evaluations: Sequence[Evaluation]) -> str:
    """Return every figure as one row: artifact and predictions ids, subset, group, figure, value, interval, n."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [
            "artifact_id",
            "predictions_id",
            "data",
            "split",
            "subset",
            "by",
            "group",
            "figure",
            "value",
            "low",
            "high",
            "n",
        ]
    )
    for evaluation in evaluations:
        for artifact in evaluation.artifacts:
            head = [artifact.id, artifact.predictions_id, evaluation.data, evaluation.split, evaluation.subset]
            for row in _figures(artifact):
                writer.writerow([*head, "×".join(evaluation.by), *("" if _is_nan(cell) else cell for cell in row)])
    return text.getvalue()


def verdict_in_words(reference: str, label: str, change: ChangeReport) -> str:
    """Say for which groups a model is equivalent to its reference, who lost or gained, and what is undecided."""
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
        most = f"; about {max(needed):,.0f} images a group would decide all of them" if needed else ""
        empty = sum(row.n == 0 for row in undecided)
        without = f", {empty} of them without images" if empty else ""
        words.append(f"undecided for {len(undecided)}{without}{most}")
    return "; ".join(words) + "."


def _groups(artifact: EvaluatedArtifact, *, bars: bool) -> Sheet:
    report = artifact.report
    rate = f"{report.confidence:.0%} interval"
    rows = []
    for row in (*report.groups, report.overall):
        bar = (_bar(row.accuracy),) if bars else ()
        rates = (_rate(estimate) for estimate in (row.accuracy, row.selection_rate, row.tpr, row.fpr))
        rows.append((_named(row), str(row.n), *bar, *rates))
    columns = ("group", ">n", *(("",) if bars else ()), f">accuracy, {rate}", ">selection rate", ">TPR", ">FPR")
    title = f"{artifact.label}  ({artifact.id}, {artifact.runtime})"
    return Sheet(title, columns, tuple(rows), tuple(f"! {warning}" for warning in report.warnings), total=True)


def _gaps(evaluation: Evaluation) -> Sheet:
    first = evaluation.artifacts[0].report
    empty = [row.group for row in first.groups if row.n == 0]
    rows = []
    for name, title in SHOWN_GAPS.items():
        gaps = [artifact.report.gaps[name] for artifact in evaluation.artifacts]
        rows.append((title, *(_gap(gap, empty) for gap in gaps), _pair(first, name), _chance(gaps[0])))
    columns = ("between groups", *(f">{artifact.label}" for artifact in evaluation.artifacts), "set by", ">by chance")
    note = (
        f"set by: the groups with the highest and the lowest rate, for {evaluation.artifacts[0].label}. "
        "by chance: what groups of these sizes show on average when there is no difference."
    )
    notes = (f"! {without_images(empty)}", note) if empty else (note,)
    return Sheet("gaps between groups", columns, tuple(rows), notes)


def _scores(evaluation: Evaluation) -> Sheet:
    rows = []
    for index, row in enumerate(evaluation.artifacts[0].scores):
        cells = [row.group]
        for artifact in evaluation.artifacts:
            other = artifact.scores[index]
            cells += [
                UNDEFINED if math.isnan(other.auc.value) else f"{other.auc.value:.3f}",
                UNDEFINED if math.isnan(other.calibration_error) else f"{other.calibration_error:.3f}",
            ]
        rows.append(tuple(cells))
    names = [f">{what} {artifact.label}" for artifact in evaluation.artifacts for what in ("AUC", "ECE")]
    note = "AUC: area under the ROC curve; ECE: expected calibration error. Intervals and logit shifts: --json."
    return Sheet("without a threshold", ("group", *names), tuple(rows), (note,), total=True)


def _measures(evaluation: Evaluation) -> Sheet:
    compared = [(one.label, one.measures) for one in evaluation.artifacts if one.measures is not None]
    rows = []
    for name, title in MEASURES.items():
        values = [getattr(measures, name) for _label, measures in compared]
        rows.append((title, *(UNDEFINED if math.isnan(value) else f"{value:.4f}" for value in values)))
    reference = evaluation.artifacts[0].label
    note = f"Against {reference}; sources in fqbench/fairness/literature.py, values by group in --json."
    return Sheet(
        "measures of the literature", ("measure", *(f">{label}" for label, _measures in compared)), tuple(rows), (note,)
    )


def _change(reference: EvaluatedArtifact, artifact: EvaluatedArtifact, change: ChangeReport) -> Sheet:
    rows = []
    for row in (*change.groups, change.overall):
        p = row.mcnemar_p_adjusted
        rows.append(
            (
                _named(row),
                str(row.n),
                str(row.flips),
                str(row.negative_flips),
                _points(row.accuracy),
                UNDEFINED if math.isnan(p) else f"{p:.3f}",
                _verdict(row.verdict),
            )
        )
    columns = (
        "group", ">n", ">flips", ">right to wrong",
        ">Δ accuracy, points", f">p ({change.correction})", "verdict",
    )  # fmt: skip
    title = f"{artifact.label} against {reference.label}"
    words = verdict_in_words(reference.label, artifact.label, change)
    how = (
        f"p: exact McNemar test, {change.correction} over all groups of all artifacts here (last row: uncorrected); "
        "undecided (about N images): so many of this group would decide at 80 % power."
    )
    return Sheet(title, columns, tuple(rows), (words, how), total=True)


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
    for name, moved in artifact.change.gaps.items():
        yield ["", f"change_of_{name}", moved.value, moved.low, moved.high, artifact.change.overall.n]


def _named(row: GroupRow | ChangeRow) -> str:
    return f"{row.group} (small)" if row.small and row.n else row.group


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _bar(estimate: Estimate) -> str:
    if math.isnan(estimate.value):
        return ""
    eighths = round(estimate.value * BAR * 8)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (" ▏▎▍▌▋▊▉"[rest] if rest else "")


def _rate(estimate: Estimate) -> str:
    if math.isnan(estimate.value):
        return UNDEFINED
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _gap(gap: GapEstimate, empty: Sequence[str]) -> str:
    """A gap with the groups that are left out of it, except those without images: the sheet names these once."""
    if math.isnan(gap.value):
        return UNDEFINED
    undefined = [group for group in gap.undefined if group not in empty]
    left_out = f" without {', '.join(undefined)}" if undefined else ""
    return f"{gap.value:.3f} [{gap.low:.3f}, {gap.high:.3f}]{left_out}"


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


def _points(change: Change) -> str:
    if math.isnan(change.value):
        return UNDEFINED
    return f"{100 * change.value:+.2f} [{100 * change.low:+.2f}, {100 * change.high:+.2f}]"


def _verdict(verdict: Verdict) -> str:
    if verdict.answer != "undecided" or not math.isfinite(verdict.images_needed):
        return verdict.answer
    return f"undecided (about {verdict.images_needed:,.0f} images)"
