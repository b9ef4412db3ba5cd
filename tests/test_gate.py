"""The gate decides on intervals: passed, failed, or too few data, and what each becomes for a CI system."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
from pydantic import ValidationError

from fqbench.contracts.runtime import Arithmetic, Level
from fqbench.errors import InputError
from fqbench.fairness import change_report, count, count_paired, group_report
from fqbench.fairness.evaluated import EvaluatedArtifact, Evaluation
from fqbench.gate import GateOptions, Limits, Outcome, check_limits, group_confidence, read_gate, to_junit
from fqbench.latency.protocol import Subject, measure
from fqbench.latency.results import SubjectFacts
from fqbench.plugins import SessionBase

POSITIVE = ("min_speedup", "max_p50_ms", "max_p99_ms", "max_mb")


def evaluation(n: int, *, lost: dict[str, float], confidence: float = 0.95) -> Evaluation:
    """Two groups of n images; the reference is right for 90 %, the candidate loses the given share of a group."""
    groups = np.repeat(["dark", "light"], n)
    truth = np.tile([0, 1], n)
    reference = truth.copy()
    candidate = truth.copy()
    for start in (0, n):
        reference[start : start + n // 10] ^= 1
        candidate[start : start + n // 10] ^= 1
    for group, share in lost.items():
        start = {"dark": 0, "light": n}[group] + n // 2
        candidate[start : start + round(share * n)] ^= 1
    options = {"replicates": 500, "confidence": confidence}
    paired = count_paired(truth, reference, candidate, groups)

    def artifact(name: str, answers: np.ndarray, change: object) -> EvaluatedArtifact:
        made = group_report(count(truth, answers, groups), **options)
        return EvaluatedArtifact(name, name, f"p-{name}", "here", made, change)  # type: ignore[arg-type]

    artifacts = (artifact("fp32", reference, None), artifact("int8", candidate, change_report(paired, **options)))
    return Evaluation(artifacts, "faces", "test", ("tone",), "1", "")


def outcomes(limits: Limits, found: Evaluation, undecided: str = "fail") -> dict[str, Outcome]:
    made = check_limits(GateOptions(limits=limits, undecided=undecided), [found], None)  # type: ignore[arg-type]
    return {check.limit: check.outcome for check in made.checks}


def test_a_large_drop_of_one_group_fails_and_names_it() -> None:
    found = evaluation(2000, lost={"dark": 0.1})
    assert outcomes(Limits(max_group_drop=0.02), found) == {
        "max_group_drop dark": Outcome.FAILED,
        "max_group_drop light": Outcome.PASSED,
    }


def test_few_images_do_not_decide_and_say_how_many_would() -> None:
    found = evaluation(60, lost={"dark": 0.0})
    made = check_limits(GateOptions(limits=Limits(max_group_drop=0.01)), [found], None)
    assert {check.outcome for check in made.checks} == {Outcome.UNDECIDED}
    assert all(check.images_needed > 60 for check in made.checks)
    assert not made.passed
    assert replace(made, undecided="warn").passed
    assert replace(made, undecided="pass").passed


def test_a_point_estimate_inside_the_limit_is_not_enough() -> None:
    found = evaluation(100, lost={"dark": 0.01})
    assert outcomes(Limits(max_accuracy_drop=0.02), found) == {"max_accuracy_drop": Outcome.UNDECIDED}


@pytest.mark.parametrize(
    ("limits", "outcome"),
    [
        (Limits(min_accuracy=0.8), Outcome.PASSED),
        (Limits(min_accuracy=0.99), Outcome.FAILED),
        (Limits(min_worst_group_accuracy=0.99), Outcome.FAILED),
        (Limits(min_disparate_impact=0.5), Outcome.PASSED),
        (Limits(max_dp_difference=0.5), Outcome.PASSED),
        (Limits(max_eo_difference=0.9), Outcome.PASSED),
        (Limits(max_dp_increase=0.5), Outcome.PASSED),
        (Limits(max_eo_increase=0.9), Outcome.PASSED),
    ],
)
def test_every_limit(limits: Limits, outcome: Outcome) -> None:
    assert set(outcomes(limits, evaluation(3000, lost={"dark": 0.02})).values()) == {outcome}


@pytest.mark.parametrize("value", [-0.01, 1.01])
@pytest.mark.parametrize("limit", [name for name in Limits.model_fields if name not in POSITIVE])
def test_limits_are_fractions(limit: str, value: float) -> None:
    assert getattr(Limits.model_validate({limit: 1}), limit) == 1
    with pytest.raises(ValidationError, match=r"less than or equal to 1|greater than or equal to 0"):
        Limits.model_validate({limit: value})


@pytest.mark.parametrize("limit", POSITIVE)
def test_speeds_latencies_and_sizes_are_above_zero(limit: str) -> None:
    assert getattr(Limits.model_validate({limit: 0.01}), limit) == 0.01
    with pytest.raises(ValidationError, match="greater than 0"):
        Limits.model_validate({limit: 0})


def test_an_undefined_figure_is_undecided_never_passed() -> None:
    groups, truth = np.array(["a"] * 50 + ["b"] * 50), np.array([0] * 50 + [0, 1] * 25)
    options = {"replicates": 200}
    made = group_report(count(truth, truth, groups, classes=["0", "1"]), **options)
    change = change_report(count_paired(truth, truth, truth, groups, classes=["0", "1"]), **options)
    first = EvaluatedArtifact("fp32", "fp32", "p", "here", made, None)
    found = Evaluation((first, replace(first, id="int8", change=change)), "f", "test", ("g",), "1", "")
    check = check_limits(GateOptions(limits=Limits(max_eo_difference=0.5)), [found], None).checks[0]
    if math.isnan(check.value):
        assert check.outcome is Outcome.UNDECIDED
        assert "undefined" in check.evidence
    else:
        assert check.value == 0


def test_junit_counts_what_failed() -> None:
    made = check_limits(GateOptions(limits=Limits(max_group_drop=0.02)), [evaluation(2000, lost={"dark": 0.1})], None)
    suite = ElementTree.fromstring(to_junit(made))
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    (failure,) = suite.iter("failure")
    assert "against 0.02" in str(failure.get("message"))
    undecided = check_limits(GateOptions(limits=Limits(max_group_drop=0.01)), [evaluation(60, lost={})], None)
    assert ElementTree.fromstring(to_junit(undecided)).get("errors") == "2"
    assert ElementTree.fromstring(to_junit(replace(undecided, undecided="warn"))).get("skipped") == "2"


def test_a_group_without_images_leaves_open_what_is_claimed_of_every_group() -> None:
    truth, groups, known = np.array([0, 1] * 500), np.repeat(["a", "b"], 500), ["a", "b", "none"]
    made = group_report(count(truth, truth, groups, known_groups=known), replicates=200)
    change = change_report(count_paired(truth, truth, truth, groups, known_groups=known), replicates=200)
    first = EvaluatedArtifact("fp32", "fp32", "p", "here", made, None)
    found = Evaluation((first, replace(first, id="int8", change=change)), "f", "test", ("g",), "1", "")
    limits = Limits(min_disparate_impact=0.5, min_worst_group_accuracy=0.5)
    assert outcomes(limits, found) == {
        "min_disparate_impact": Outcome.PASSED,
        "min_worst_group_accuracy": Outcome.UNDECIDED,
    }
    failed = outcomes(Limits(min_worst_group_accuracy=1.0), evaluation(3000, lost={"dark": 0.1}))
    assert failed == {"min_worst_group_accuracy": Outcome.FAILED}


def test_more_images_do_not_decide_a_latency() -> None:
    estimate = SimpleNamespace(value=2.0, low=1.0, high=3.0)
    facts = SimpleNamespace(level=Level.NATIVE, bytes=10**6)
    latency = {"int8": SimpleNamespace(facts=facts, speedup=None, p50_ms=estimate, p99_ms=estimate)}
    limits = Limits(max_p50_ms=1.5, max_p99_ms=1.5)
    made = check_limits(GateOptions(limits=limits), [evaluation(60, lost={})], latency)  # type: ignore[arg-type]
    assert [check.outcome for check in made.checks] == [Outcome.UNDECIDED] * 2
    assert all(math.isnan(check.images_needed) for check in made.checks)


@pytest.mark.parametrize(("policy", "errors", "skipped"), [("fail", "2", "0"), ("warn", "0", "2"), ("pass", "0", "0")])
def test_junit_counts_undecided_checks_as_the_policy_says(policy: str, errors: str, skipped: str) -> None:
    undecided = check_limits(GateOptions(limits=Limits(max_group_drop=0.01)), [evaluation(60, lost={})], None)
    text = to_junit(replace(undecided, undecided=policy))  # type: ignore[arg-type]
    assert text.startswith("<?xml")
    suite = ElementTree.fromstring(text)
    assert (suite.get("errors"), suite.get("skipped"), suite.get("failures")) == (errors, skipped, "0")


def test_bonferroni() -> None:
    assert group_confidence(0.95, 5) == pytest.approx(0.99)
    assert group_confidence(0.95, 1) == 0.95


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("limits: {max_acuracy_drop: 0.01}", "did you mean 'max_accuracy_drop'"),
        ("limits: {max_accuracy_drop: 2}", "max_accuracy_drop"),
        ("limits: {}", "sets no limit"),
        ("- 1", "the file"),
        ("", "holds no limits; write some, as in `limits:"),
        ("a: [", "is not YAML"),
        ("limits: {max_group_drop: yes}", "limits.max_group_drop: Input should be a valid number"),
        ("limits: {max_group_drop: true}", "limits.max_group_drop: Input should be a number"),
        ("limits: {max_mb: true}", "limits.max_mb: Input should be a number"),
        ("limits: {max_group_drop: .nan}", "limits.max_group_drop: Input should be a finite number"),
        ("limits: {max_p50_ms: .inf}", "limits.max_p50_ms: Input should be a finite number"),
        ("limits: {min_speedup: -1.5}", "limits.min_speedup: Input should be greater than 0"),
        ("limits: {max_group_drop: 5}", "max_group_drop: .*a limit is a fraction: 0.05 stands for 5 points"),
        ("limits: {max_group_drop: 5%}", "max_group_drop: .*a limit is a fraction: 0.05 stands for 5 points"),
        ("limits: {max_group_drop: [0.1]}", "limits.max_group_drop: Input should be a valid number"),
        ("limits: {Max-Group-Drop: 0.1}", "did you mean 'max_group_drop'"),
        ("limits:\n  max_mb: 3\n  max_mb: 30\n", "the key 'max_mb' stands there twice in line 3"),
        ("max_group_drop: 0.1", "put the limits below it, as in `limits: {max_group_drop: 0.1}`"),
        ("limits: {max_mb: 3}\nundecidd: pass", "did you mean 'undecided'"),
        ("limits: {max_mb: 3}\nundecided: maybe", "undecided: Input should be 'fail', 'pass' or 'warn'"),
        ("limits: {max_mb: 3}\nconfidence: 95", "confidence: Input should be less than 1"),
        ("limits: {max_mb: 3}\nconfidence: .nan", "confidence: "),
    ],
)
def test_limits_that_cannot_be_read(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "limits.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_gate(path)


def test_numbers_as_people_write_them(tmp_path: Path) -> None:
    path = tmp_path / "limits.yaml"
    path.write_text("limits: &strict {max_group_drop: 1e-3, max_mb: '12.5'}\nundecided: warn\n")
    options = read_gate(path)
    assert (options.limits.max_group_drop, options.limits.max_mb, options.undecided) == (0.001, 12.5, "warn")


def test_no_limits_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be read .*; check --limits"):
        read_gate(tmp_path / "missing.yaml")


def test_nothing_but_the_reference() -> None:
    found = evaluation(60, lost={})
    with pytest.raises(InputError, match="only the reference and no artifact to check"):
        check_limits(
            GateOptions(limits=Limits(min_accuracy=0.5)), [replace(found, artifacts=found.artifacts[:1])], None
        )


def test_a_simulated_model_has_no_speed_to_keep_to() -> None:
    """Fast or slow, its limits on speed stay undecided, and say why; its size is decided all the same."""
    clock = iter(range(0, 10**9, 1000)).__next__

    def subject(name: str, level: Level) -> Subject:
        facts = SubjectFacts(level=level, bytes=1_000_000)
        return Subject(name, name, StillSession(), None, facts)

    report = measure(
        [subject("fp32", Level.NATIVE), subject("int8", Level.SIMULATED)],
        np.zeros((4, 3, 8, 8), np.float32),
        rounds=20,
        seconds=0,
        reference="fp32",
        clock=clock,
    )
    assert report["int8"].speedup is None
    assert report["fp32"].speedup is not None
    limits = Limits(min_speedup=0.1, max_p50_ms=1e9, max_p99_ms=1e9, max_mb=2)
    checks = check_limits(GateOptions(limits=limits), [evaluation(500, lost={"dark": 0.0})], report).checks
    found = {check.limit: check for check in checks}
    for limit in ("min_speedup", "max_p50_ms", "max_p99_ms"):
        assert found[limit].outcome is Outcome.UNDECIDED
        assert "simulated, so its speed is unknown" in found[limit].evidence
    assert found["max_mb"].outcome is Outcome.PASSED


class StillSession(SessionBase):
    arithmetic = Arithmetic(0, 1)

    def run(self, images: np.ndarray) -> np.ndarray:
        return np.zeros((len(images), 2), np.float32)
