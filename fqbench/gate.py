"""A gate for CI: limits decided on intervals, not on point estimates; each passes, fails or is undecided."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from xml.etree import ElementTree

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from fqbench.config import read_mapping
from fqbench.contracts.runtime import Level
from fqbench.errors import InputError, did_you_mean
from fqbench.storage import Stored, finite_or_none

if TYPE_CHECKING:
    from fqbench.contracts.artifacts import Artifact
    from fqbench.fairness import ChangeReport, GroupReport
    from fqbench.fairness.evaluated import EvaluatedArtifact, Evaluation
    from fqbench.latency.results import LatencyReport


class Outcome(StrEnum):
    """The outcome of one limit."""

    PASSED = "passed"
    FAILED = "failed"
    UNDECIDED = "undecided"


class Limits(BaseModel):
    """Limits for a release; a limit that is not given is not checked. Fractions, not percentage points."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    max_accuracy_drop: float | None = Field(None, ge=0, le=1)
    max_group_drop: float | None = Field(None, ge=0, le=1)
    max_dp_increase: float | None = Field(None, ge=0, le=1)
    max_eo_increase: float | None = Field(None, ge=0, le=1)
    max_dp_difference: float | None = Field(None, ge=0, le=1)
    max_eo_difference: float | None = Field(None, ge=0, le=1)
    min_disparate_impact: float | None = Field(None, ge=0, le=1)
    min_accuracy: float | None = Field(None, ge=0, le=1)
    min_worst_group_accuracy: float | None = Field(None, ge=0, le=1)
    min_speedup: float | None = Field(None, gt=0)
    max_p50_ms: float | None = Field(None, gt=0)
    max_p99_ms: float | None = Field(None, gt=0)
    max_mb: float | None = Field(None, gt=0)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_truth(cls, value: Any) -> Any:
        if isinstance(value, bool):  # which would be the number 1
            raise PydanticCustomError("truth_value", "Input should be a number")
        return value

    @property
    def needs_latency(self) -> bool:
        """Whether a measurement of latency is needed."""
        return any(value is not None for value in (self.min_speedup, self.max_p50_ms, self.max_p99_ms, self.max_mb))


FRACTIONS = frozenset(
    name for name in Limits.model_fields if name not in {"min_speedup", "max_p50_ms", "max_p99_ms", "max_mb"}
)


class GateOptions(BaseModel):
    """The gate's YAML file.

    Attributes
    ----------
    limits : Limits
        What is checked.
    undecided : {"fail", "pass", "warn"}
        How an undecided limit counts.
    confidence : float
        Of the intervals; over groups and attributes it is raised by Bonferroni's rule, so that it holds for
        all jointly.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    limits: Limits
    undecided: Literal["fail", "pass", "warn"] = "fail"
    confidence: float = Field(0.95, gt=0.5, lt=1, allow_inf_nan=False)


@dataclass(frozen=True)
class Check:
    """One limit on one artifact.

    Attributes
    ----------
    artifact_id, label : str
        Which artifact.
    limit : str
        Name of the limit, and the group where it is about one.
    bound : float
        What must be kept to.
    value, low, high : float
        The figure and its interval; NaN where it is undefined.
    outcome : Outcome
        Passed if the whole interval is within the bound, failed if it is entirely outside.
    images_needed : float
        If undecided: estimated number of images for a decision, given this figure; else NaN.
    note : str
        The reason why the limit is undecided, if it is not the number of images.
    left_out : tuple of str
        Groups whose rate is undefined, so that the figure says nothing about them.
    """

    artifact_id: str
    label: str
    limit: str
    bound: float
    value: float
    low: float
    high: float
    outcome: Outcome
    images_needed: float = math.nan
    note: str = ""
    left_out: tuple[str, ...] = ()

    @property
    def evidence(self) -> str:
        """The estimate with its interval and the bound, in words."""
        if self.note:
            return f"{self.note} (limit {self.bound:g})"
        if math.isnan(self.value):
            return "undefined: no images to compute it from"
        low, high = (f"{end:.4g}" if math.isfinite(end) else "unbounded" for end in (self.low, self.high))
        need = f"; about {self.images_needed:,.0f} images would decide" if math.isfinite(self.images_needed) else ""
        without = f"; without {', '.join(self.left_out)}, undefined there" if self.left_out else ""
        return f"{self.value:.4g} [{low}, {high}] against {self.bound:g}{need}{without}"


@dataclass(frozen=True)
class GateReport(Stored):
    """All checks, and whether the gate is passed."""

    checks: tuple[Check, ...]
    undecided: Literal["fail", "pass", "warn"]

    @property
    def passed(self) -> bool:
        """Whether no check failed, and no undecided check counts as failed."""
        outcomes = {check.outcome for check in self.checks}
        return Outcome.FAILED not in outcomes and not (Outcome.UNDECIDED in outcomes and self.undecided == "fail")

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        checks = [finite_or_none(check) | {"evidence": check.evidence} for check in self.checks]
        return {"passed": self.passed, "undecided": self.undecided, "checks": checks}


def read_gate(path: Path) -> GateOptions:
    """Read a gate's YAML file.

    Raises
    ------
    InputError
        The file is missing, is not YAML, or has an unknown limit.
    """
    otherwise = "holds no limits; write some, as in `limits: {max_group_drop: 0.05}`."
    values = read_mapping(path, "the file of limits", "--limits", otherwise)
    try:
        options = GateOptions.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        name = ".".join(map(str, problem["loc"])) or "the file"
        hint = _hint(problem["type"], name, values)
        raise InputError(f"the file of limits {path}: {name}: {problem['msg']}. {hint}".strip()) from error
    if not options.limits.model_dump(exclude_none=True):
        raise InputError(f"the file of limits {path} sets no limit; a gate that checks nothing passes everything.")
    return options


def _hint(kind: str, name: str, values: Any) -> str:
    """Return the next step after a wrong value in a file of limits."""
    part, _, limit = name.rpartition(".")
    if kind == "extra_forbidden":
        return did_you_mean(limit, Limits.model_fields if part else GateOptions.model_fields)
    if kind == "missing" and isinstance(values, dict):
        found = next((key for key in values if key in Limits.model_fields), "max_group_drop")
        return f"put the limits below it, as in `limits: {{{found}: {values.get(found, 0.05)}}}`."
    if limit in FRACTIONS:
        return "a limit is a fraction: 0.05 stands for 5 points."
    return ""


def check_limits(options: GateOptions, evaluations: Sequence[Evaluation], latency: LatencyReport | None) -> GateReport:
    """Check every artifact except the reference against the limits.

    Parameters
    ----------
    options : GateOptions
        Limits.
    evaluations : sequence of Evaluation
        One, or one per attribute. The first artifact is the reference; the intervals must have been made with
        `group_confidence`.
    latency : LatencyReport or None
        Needed where `Limits.needs_latency`.

    Raises
    ------
    InputError
        There is no artifact to check, only the reference.
    """
    if not evaluations[0].artifacts[1:]:
        raise InputError("the gate has only the reference and no artifact to check; name an artifact.")
    checks: list[Check] = []
    for index, artifact in enumerate(evaluations[0].artifacts[1:], 1):
        for evaluation in evaluations:
            checks += _named(evaluation.attribute, _fairness(options.limits, evaluation.artifacts[index]))
        if latency is not None:
            checks += latency_checks(options.limits, artifact, latency)
    return GateReport(tuple(checks), options.undecided)


def group_confidence(confidence: float, groups: int) -> float:
    """Return the Bonferroni-corrected confidence level of each of several intervals."""
    return 1 - (1 - confidence) / max(groups, 1)


def to_junit(report: GateReport) -> str:
    """Return JUnit XML, as CI systems read it: one test case per check; undecided is an error, a skip or a pass."""
    failures = sum(check.outcome is Outcome.FAILED for check in report.checks)
    undecided = sum(check.outcome is Outcome.UNDECIDED for check in report.checks)
    suite = ElementTree.Element(
        "testsuite",
        name="fqbench gate",
        tests=str(len(report.checks)),
        failures=str(failures),
        errors=str(undecided if report.undecided == "fail" else 0),
        skipped=str(undecided if report.undecided == "warn" else 0),
    )
    kinds = {"fail": "error", "warn": "skipped", "pass": "system-out"}
    for check in report.checks:
        case = ElementTree.SubElement(suite, "testcase", classname=check.label, name=check.limit)
        if check.outcome is Outcome.FAILED:
            ElementTree.SubElement(case, "failure", message=check.evidence)
        elif check.outcome is Outcome.UNDECIDED:
            node = ElementTree.SubElement(case, kinds[report.undecided])
            if report.undecided == "pass":
                node.text = f"undecided: {check.evidence}"
            else:
                node.set("message", f"undecided: {check.evidence}")
        else:
            ElementTree.SubElement(case, "system-out").text = check.evidence
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _named(attribute: str, checks: Iterator[Check]) -> Iterator[Check]:
    """Put the attribute before the name of each limit."""
    for check in checks:
        yield replace(check, limit=f"{attribute}: {check.limit}") if attribute else check


def _fairness(limits: Limits, artifact: EvaluatedArtifact) -> Iterator[Check]:
    report, change = artifact.report, artifact.change
    assert change is not None  # noqa: S101  # only the reference has none
    yield from _changes(limits, artifact, change)
    yield from _levels(limits, artifact, report)


def _changes(limits: Limits, artifact: EvaluatedArtifact, change: ChangeReport) -> Iterator[Check]:
    n = change.overall.n
    if limits.max_accuracy_drop is not None:
        one = change.overall.accuracy
        figures = (-one.value, -one.high, -one.low)
        yield _at_most(artifact, "max_accuracy_drop", limits.max_accuracy_drop, figures, n)
    if limits.max_group_drop is not None:
        for row in change.groups:
            figures = (-row.accuracy.value, -row.accuracy.high, -row.accuracy.low)
            yield _at_most(artifact, f"max_group_drop {row.group}", limits.max_group_drop, figures, row.n)
    increases = {
        "max_dp_increase": "demographic_parity_difference",
        "max_eo_increase": "equalized_odds_difference",
    }
    for limit, name in increases.items():
        bound = getattr(limits, limit)
        if bound is not None:
            gap = change.gaps[name]
            check = _at_most(artifact, limit, bound, (gap.value, gap.low, gap.high), n)
            yield replace(check, left_out=gap.undefined)


def _levels(limits: Limits, artifact: EvaluatedArtifact, report: GroupReport) -> Iterator[Check]:
    n, accuracy = report.overall.n, report.overall.accuracy
    largest = {"max_dp_difference": "demographic_parity_difference", "max_eo_difference": "equalized_odds_difference"}
    for limit, name in largest.items():
        bound = getattr(limits, limit)
        if bound is not None:
            gap = report.gaps[name]
            check = _at_most(artifact, limit, bound, (gap.value, gap.low, gap.high), n)
            yield replace(check, left_out=gap.undefined)
    smallest = {"min_disparate_impact": "demographic_parity_ratio", "min_worst_group_accuracy": "worst_group_accuracy"}
    for limit, name in smallest.items():
        bound = getattr(limits, limit)
        if bound is not None:
            gap = report.gaps[name]
            check = _at_least(artifact, limit, bound, (gap.value, gap.low, gap.high), n)
            yield (
                _about_every_group(check, gap.undefined)
                if name == "worst_group_accuracy"
                else replace(check, left_out=gap.undefined)
            )
    if limits.min_accuracy is not None:
        figures = (accuracy.value, accuracy.low, accuracy.high)
        yield _at_least(artifact, "min_accuracy", limits.min_accuracy, figures, n)


def latency_checks(limits: Limits, artifact: EvaluatedArtifact | Artifact, latency: LatencyReport) -> Iterator[Check]:
    """Yield the checks of speed, latency and size of one artifact."""
    subject = latency[artifact.id]
    level = subject.facts.level
    if limits.min_speedup is not None:
        speedup = subject.speedup
        figures = (math.nan,) * 3 if speedup is None else (speedup.value, speedup.low, speedup.high)
        yield _of_speed(_at_least(artifact, "min_speedup", limits.min_speedup, figures, 0), level)
    for limit, bound, estimate in (
        ("max_p50_ms", limits.max_p50_ms, subject.p50_ms),
        ("max_p99_ms", limits.max_p99_ms, subject.p99_ms),
    ):
        if bound is not None:
            figures = (estimate.value, estimate.low, estimate.high)
            yield _of_speed(_at_most(artifact, limit, bound, figures, 0), level)
    if limits.max_mb is not None:
        size = subject.facts.bytes / 1e6
        yield _at_most(artifact, "max_mb", limits.max_mb, (size, size, size), 0)


def _of_speed(check: Check, level: Level) -> Check:
    """A simulated or emulated model has no speed: the limit stays undecided."""
    if level.has_speed:
        return check
    return replace(
        check, outcome=Outcome.UNDECIDED, images_needed=math.nan, note=f"{level.value}, so its speed is unknown"
    )


def _at_most(
    artifact: EvaluatedArtifact | Artifact, limit: str, bound: float, figures: Sequence[float], n: int
) -> Check:
    value, low, high = figures
    outcome = Outcome.PASSED if high <= bound else (Outcome.FAILED if low > bound else Outcome.UNDECIDED)
    needed = _images_needed(bound, value, high - low, n) if outcome is Outcome.UNDECIDED else math.nan
    return Check(artifact.id, artifact.label, limit, bound, value, low, high, outcome, needed)


def _at_least(
    artifact: EvaluatedArtifact | Artifact, limit: str, bound: float, figures: Sequence[float], n: int
) -> Check:
    value, low, high = figures
    outcome = Outcome.PASSED if low >= bound else (Outcome.FAILED if high < bound else Outcome.UNDECIDED)
    needed = _images_needed(bound, value, high - low, n) if outcome is Outcome.UNDECIDED else math.nan
    return Check(artifact.id, artifact.label, limit, bound, value, low, high, outcome, needed)


def _about_every_group(check: Check, left_out: tuple[str, ...]) -> Check:
    """A limit on every group is undecided if a group has no images."""
    passed = check.outcome is Outcome.PASSED and bool(left_out)
    return replace(check, left_out=left_out, outcome=Outcome.UNDECIDED if passed else check.outcome)


def _images_needed(bound: float, value: float, width: float, n: int) -> float:
    """Width shrinks with the square root of n; return the n for which half of it equals the distance from the bound."""
    distance = abs(bound - value)
    if not n or not math.isfinite(width) or math.isnan(distance) or distance == 0:
        return math.nan
    return math.ceil(n * max(1.0, (width / 2 / distance)) ** 2)
