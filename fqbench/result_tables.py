"""How an evaluation and a measurement are printed for people."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from fqbench.tables import make_table
from fqbench.terminal import stdout

if TYPE_CHECKING:
    from fqbench.fairness import Change, ChangeReport, Estimate, GapEstimate, GroupReport
    from fqbench.fairness.hypothesis_tests import Verdict
    from fqbench.latency.report import LatencyReport, SubjectLatency
    from fqbench.stages.evaluate import EvaluatedArtifact, Evaluation

UNDEFINED = "undefined"
# What DESIGN §8 asks to see, in this order; the others are in --json.
SHOWN_GAPS = {
    "demographic_parity_difference": "demographic parity difference",
    "demographic_parity_ratio": "disparate impact (ratio)",
    "equalized_odds_difference": "equalized odds difference",
    "equal_opportunity_difference": "equal opportunity difference",
    "predictive_equality_difference": "predictive equality difference",
    "accuracy_gap": "accuracy gap",
    "worst_group_accuracy": "worst-group accuracy",
}


def print_evaluation(evaluation: Evaluation) -> None:
    """Print one table of groups and one of gaps an artifact, and what changed from the reference."""
    out = stdout()
    if evaluation.notice:
        out.print(evaluation.notice, style="italic", highlight=False)
    groups = " × ".join(evaluation.by) or "all images together"
    positive = f", positive class {evaluation.positive!r}" if evaluation.positive else ""
    out.print(f"{evaluation.data}, {evaluation.split} split, by {groups}{positive}", highlight=False, markup=False)
    for artifact in evaluation.artifacts:
        _print_artifact(artifact)
    _print_gaps(evaluation)
    for artifact in evaluation.artifacts[1:]:
        if artifact.change is not None:
            _print_change(evaluation.artifacts[0], artifact, artifact.change)


def print_latency(report: LatencyReport) -> None:
    """Print one row an artifact, and every doubt about the figures."""
    out, machine = stdout(), report.machine
    features = ", ".join(machine.features) or "none of the INT8 instructions"
    threads = {subject.facts.get("threads") for subject in report.subjects}
    out.print(
        f"latency, batch {report.batch}, {'/'.join(map(str, sorted(threads, key=str)))} thread(s), "
        f"{report.rounds} interleaved rounds, on {machine.cpu} ({features})",
        highlight=False,
    )
    table = make_table(
        "artifact",
        ">p50 ms",
        ">p90 ms",
        ">p99 ms",
        ">images/s",
        ">speed-up",
        ">int8 MACs",
        ">MB",
        ">peak MB",
        "runtime",
    )
    for subject in report.subjects:
        table.add_row(*_latency_row(subject, reference=subject.id == report.reference))
    out.print(table)
    for subject in report.subjects:
        for mark in subject.marks:
            out.print(f"! {subject.label}: {mark.text}", style="yellow", highlight=False, markup=False)
    for mark in report.marks:
        out.print(f"! {mark.text}", style="yellow", highlight=False, markup=False)


def _latency_row(subject: SubjectLatency, *, reference: bool) -> tuple[str, ...]:
    speedup, arithmetic = subject.speedup, subject.arithmetic
    if reference or speedup is None:
        ratio = "1 (reference)" if reference else "-"
    else:
        ratio = f"{speedup.value:.2f}x [{speedup.low:.2f}, {speedup.high:.2f}]"
    share = f"{arithmetic.integer_share:.1%}" + (
        f" (not {', '.join(arithmetic.uncounted)})" if arithmetic.uncounted else ""
    )
    peak = (subject.facts.get("peak_memory") or {}).get("peak")
    return (
        subject.label,
        f"{subject.p50_ms.value:.3f} [{subject.p50_ms.low:.3f}, {subject.p50_ms.high:.3f}]",
        f"{subject.p90_ms.value:.3f}",
        f"{subject.p99_ms.value:.3f}",
        f"{subject.images_per_second.value:.0f}",
        ratio,
        share,
        f"{subject.facts.get('bytes', 0) / 1e6:.2f}",
        f"{peak / 1e6:.0f}" if peak else "-",
        f"{subject.facts.get('backend', '')} {subject.facts.get('runtime', '')}",
    )


def _print_artifact(artifact: EvaluatedArtifact) -> None:
    out, report = stdout(), artifact.report
    out.print()
    out.print(f"{artifact.label}  ({artifact.id}, {artifact.runtime})", style="bold", highlight=False, markup=False)
    rate = f"{report.confidence:.0%} interval"
    table = make_table(
        "group", ">n", f">accuracy, {rate}", f">selection rate, {rate}", f">TPR, {rate}", f">FPR, {rate}"
    )
    for row in (*report.groups, report.overall):
        name = row.group + (" (small)" if row.small else "")
        rates = (_rate(estimate) for estimate in (row.accuracy, row.selection_rate, row.tpr, row.fpr))
        table.add_row(name, str(row.n), *rates, style="bold" if row is report.overall else None)
    out.print(table)
    for warning in report.warnings:
        out.print(f"! {warning}", style="yellow", highlight=False, markup=False)


def _print_gaps(evaluation: Evaluation) -> None:
    out = stdout()
    out.print()
    first = evaluation.artifacts[0].report
    table = make_table(
        "between groups", *(f">{artifact.label}" for artifact in evaluation.artifacts), "set by", ">by chance"
    )
    for name, title in SHOWN_GAPS.items():
        gaps = [artifact.report.gaps[name] for artifact in evaluation.artifacts]
        table.add_row(title, *(_gap(gap) for gap in gaps), _pair(first, name), _chance(gaps[0]))
    out.print(table)
    out.print(
        f"set by: the groups with the highest and the lowest rate, for {evaluation.artifacts[0].label}. "
        "by chance: what groups of these sizes show on average when there is no difference.",
        style="dim",
        highlight=False,
    )


def _print_change(reference: EvaluatedArtifact, artifact: EvaluatedArtifact, change: ChangeReport) -> None:
    out = stdout()
    out.print()
    out.print(f"{artifact.label} against {reference.label}", style="bold", highlight=False, markup=False)
    table = make_table(
        "group", ">n", ">flips", ">right to wrong", ">Δ accuracy, points", ">p (McNemar, Holm)", "verdict"
    )
    for row in (*change.groups, change.overall):
        p = row.mcnemar_p_adjusted
        table.add_row(
            row.group,
            str(row.n),
            str(row.flips),
            str(row.negative_flips),
            _points(row.accuracy),
            UNDEFINED if math.isnan(p) else f"{p:.3f}",
            _verdict(row.verdict),
            style="bold" if row is change.overall else None,
        )
    out.print(table)


def _rate(estimate: Estimate) -> str:
    if math.isnan(estimate.value):
        return UNDEFINED
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _gap(gap: GapEstimate) -> str:
    if math.isnan(gap.value):
        return UNDEFINED
    left_out = f" without {', '.join(gap.undefined)}" if gap.undefined else ""
    return f"{gap.value:.3f} [{gap.low:.3f}, {gap.high:.3f}]{left_out}"


def _pair(report: GroupReport, name: str) -> str:
    pair = report.gaps[name].pair
    if pair is None:
        return "-"
    return pair[1] if name == "worst_group_accuracy" else f"{pair[0]} > {pair[1]}"


def _chance(gap: GapEstimate) -> str:
    return "-" if math.isnan(gap.noise_floor) else f"{gap.noise_floor:.3f}"


def _verdict(verdict: Verdict) -> str:
    if verdict.answer != "undecided" or not math.isfinite(verdict.images_needed):
        return verdict.answer
    return f"undecided; about {verdict.images_needed:,.0f} images would decide"


def _points(change: Change) -> Any:
    if math.isnan(change.value):
        return UNDEFINED
    return f"{100 * change.value:+.2f} [{100 * change.low:+.2f}, {100 * change.high:+.2f}]"
