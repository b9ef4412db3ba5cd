"""The demo's summary on evaluations and latencies made by hand: every sentence follows from the figures."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from fqbench.contracts.runtime import Arithmetic, Level
from fqbench.demo import Demo
from fqbench.fairness import change_report, count, count_paired, group_report
from fqbench.fairness.evaluated import EvaluatedArtifact, Evaluation
from fqbench.fairness.results import ChangeRow
from fqbench.latency.conditions import conditions
from fqbench.latency.interval import Interval
from fqbench.latency.results import LatencyReport, SubjectFacts, SubjectLatency
from fqbench.machine import this_machine
from fqbench.report.demo import demo_document
from fqbench.report.document import Note
from fqbench.report.layout import cell_width
from fqbench.report.renderers.text import lines
from fqbench.report.summary import summary

GROUPS = ("dark", "light", "medium")
NONE = "none of the 3 loses as much as 1 point of accuracy (proved)"
FEW = {"replicates": 200, "positive": "yes"}


def evaluated(images: int = 2000, **broken: Mapping[str, int]) -> Evaluation:
    """FP32, right on nine of ten images, and artifacts that turn some right answers of a group into wrong ones.

    A negative number turns wrong answers into right ones.
    """
    groups = np.repeat(GROUPS, images)
    labels = np.tile([0, 1], len(groups) // 2)
    right = np.arange(len(groups)) % 10 != 0
    classes = ("no", "yes")

    def artifact(name: str, changes: Mapping[str, int] | None) -> EvaluatedArtifact:
        now = right.copy()
        for group, number in (changes or {}).items():
            mine = np.flatnonzero((groups == group) & (right == (number > 0)))
            now[mine[: abs(number)]] = number < 0
        before, after = np.where(right, labels, 1 - labels), np.where(now, labels, 1 - labels)
        change = change_report(count_paired(labels, before, after, groups, classes=classes), **FEW)  # type: ignore[arg-type]
        report = group_report(count(labels, after, groups, classes=classes), **FEW)  # type: ignore[arg-type]
        return EvaluatedArtifact(
            f"net-{name}-{name.encode().hex():0<8}", f"ort {name}", "p", "ort 1", report,
            None if changes is None else change,
        )  # fmt: skip

    artifacts = (artifact("fp32", None), *(artifact(name, changes) for name, changes in broken.items()))
    return Evaluation(artifacts, "made", "test", ("tone",), "yes", "made by hand")


def timed(evaluation: Evaluation, *speedups: float, level: Level = Level.NATIVE, spread: float = 0.05) -> LatencyReport:
    """FP32 in 4 ms and 20 MB, the others as many times as fast; each smaller than the one before."""
    subjects = []
    for index, (one, speed) in enumerate(zip(evaluation.artifacts, (1.0, *speedups), strict=True)):
        ms = Interval(4 / speed, 3.9 / speed, 4.1 / speed)
        ratio = Interval(1 / speed, (1 - spread) / speed, (1 + spread) / speed)
        level_of_this = Level.NATIVE if index == 0 else level
        subjects.append(
            SubjectLatency(
                one.id,
                one.label,
                ms,
                ms,
                ms,
                ms,
                ratio if level_of_this.has_speed else None,
                None,
                Arithmetic(100 if index else 0, 100),
                (),
                (),
                SubjectFacts("ort", "1", level_of_this, 1, 20_000_000 // (index + 1)),
            )
        )
    clock = time.perf_counter_ns
    return LatencyReport(
        tuple(subjects), evaluation.artifacts[0].id, 1, 200, 3.0, 0, 0.95, this_machine(), conditions(clock), ()
    )


def test_harmless_is_proved_for_every_group_and_shipped() -> None:
    evaluation = evaluated(int8={})
    speed, harm, advice = summary(evaluation, timed(evaluation, 3.6))
    assert "fp32 takes 4.00 ms; int8 1.11 ms, 3.6 times as fast." in speed
    assert harm == "int8 harms no group: the accuracy of all 3 is within 1 point of fp32's (proved)."
    assert advice == "What to do: ship int8: 3.6 times as fast as fp32, 10.0 in place of 20.0 MB, no group harmed."


def test_harmed_groups_are_named_and_the_repair_is_compared() -> None:
    evaluation = evaluated(int8={}, int2={"dark": 600, "light": 200}, qat={"dark": 2})
    _speed, int8, int2, qat, advice = summary(evaluation, timed(evaluation, 3.0, 3.0, 3.0))
    assert "harms" not in int8.replace("harms no group", "")
    assert int2.startswith("int2 harms 2 of 3 groups: dark loses 30.0 points [")
    assert "light loses 10.0 points [" in int2
    assert "dark, hit hardest by int2 (-30.0), changes by -0.1 points." in qat
    # Equally fast and harmless: the smaller of the two.
    assert advice.startswith("What to do: ship qat: 3.0 times as fast as fp32, 5.0 in place of 20.0 MB")
    assert advice.endswith("Do not ship int2.")


def test_a_repair_that_still_harms_is_not_shipped() -> None:
    evaluation = evaluated(int2={"dark": 600}, qat={"dark": 120})
    *_rest, qat, advice = summary(evaluation, timed(evaluation, 3.0, 3.0))
    assert qat.startswith("qat harms 1 of 3 groups: dark loses 6.0 points")
    assert "changes by -6.0 points" in qat
    assert advice == "What to do: keep fp32, or try more bits or --method qat; every artifact harms a group."


def test_undecided_is_neither_harmless_nor_harmed() -> None:
    evaluation = evaluated(images=100, int8={"dark": 1})
    _speed, harm, advice = summary(evaluation, timed(evaluation, 3.6))
    change = evaluation.artifacts[1].change
    assert change is not None
    needed = max(row.verdict.images_needed for row in change.groups)
    assert harm.startswith(
        "int8: 0 of 3 groups are within 1 point of fp32's accuracy (proved); undecided for dark, light"
    )
    assert f"and 1 more (about {needed:,.0f} images per group would decide)." in harm
    assert advice == (
        f"What to do: no artifact is proved harmless; evaluate int8 on about {needed:,.0f} images per group "
        "before you ship it."
    )


def test_a_gain_is_no_harm() -> None:
    evaluation = evaluated(int8={"dark": -150})
    _speed, harm, advice = summary(evaluation, timed(evaluation, 2.0))
    assert (
        harm == "int8 harms no group: none of the 3 loses as much as 1 point of accuracy (proved); 1 gained accuracy."
    )
    assert advice.startswith("What to do: ship int8")


def test_a_group_that_cannot_have_lost_a_point_is_not_harmed_though_it_may_have_gained_more() -> None:
    evaluation = evaluated(images=2000, int8={"dark": -14})  # +0.7 points: the interval reaches beyond one point
    change = evaluation.artifacts[1].change
    assert change is not None
    row = change.row("dark")
    assert row.accuracy.low > -row.verdict.margin
    # The same change with a verdict left open, as where gains and losses are many.
    verdict = replace(row.verdict, answer="undecided", images_needed=9000.0)
    wide = replace(row, accuracy=replace(row.accuracy, low=-0.003, high=0.012), verdict=verdict)
    worse = replace(row, accuracy=replace(row.accuracy, low=-0.0101, high=0.012), verdict=verdict)

    def said(one: ChangeRow) -> tuple[str, ...]:
        groups = tuple(one if other.group == "dark" else other for other in change.groups)
        artifact = replace(evaluation.artifacts[1], change=replace(change, groups=groups))
        made = replace(evaluation, artifacts=(evaluation.artifacts[0], artifact))
        return summary(made, timed(made, 2.0))[1:]

    harm, advice = said(wide)
    assert harm == f"int8 harms no group: {NONE}; dark may have gained more than 1 point."
    assert advice.startswith("What to do: ship int8")
    harm, advice = said(worse)
    assert "undecided for dark (about 9,000 images per group would decide)" in harm
    assert advice.startswith("What to do: no artifact is proved harmless")


def test_a_simulated_artifact_has_no_speed_and_is_not_shipped() -> None:
    evaluation = evaluated(int4={})
    speed, _harm, advice = summary(evaluation, timed(evaluation, 3.6, level=Level.SIMULATED))
    assert "int4 is simulated, so its latency says nothing about speed" in speed
    assert "times as fast" not in speed + advice
    assert advice.startswith("What to do: measure the speed of int4")


@pytest.mark.parametrize(
    ("speedup", "said"), [(0.7, "slower (0.70 times as fast)"), (1.02, "not distinguishable from fp32")]
)
def test_what_is_not_faster_is_shipped_for_its_size_only(speedup: float, said: str) -> None:
    evaluation = evaluated(int8={})
    speed, _harm, advice = summary(evaluation, timed(evaluation, speedup))
    assert said in speed
    assert advice.startswith("What to do: keep fp32, or ship int8 for its size (10.0 in place of 20.0 MB)")


def test_what_was_not_timed_has_no_speed() -> None:
    evaluation = evaluated(int8={}, int2={"dark": 600})
    report = timed(evaluation, 3.6, 3.6)
    speed, *_rest = summary(evaluation, replace(report, subjects=report.subjects[:2]))
    assert "int8" in speed
    assert "int2" not in speed


def test_the_document_fits_100_columns_and_two_screens_and_details_adds_the_rest() -> None:
    evaluation = evaluated(int8={}, int2={"dark": 600}, qat={"dark": 2})
    demo = Demo(evaluation, timed(evaluation, 3.0, 3.0, 3.0))
    short, long = demo_document(demo), demo_document(demo, details=True)
    shown = [line for line, _style in lines(short, 100)]
    assert max(map(cell_width, shown)) <= 100
    assert len(shown) <= 2 * 40
    said = [section.text for section in short.sections if isinstance(section, Note)]
    assert said[:5] == list(summary(demo.evaluation, demo.latency))
    assert short.value == long.value
    assert short.value["summary"] == said[:5]
    titles = {sheet.title for sheet in long.sheets} - {sheet.title for sheet in short.sheets}
    assert {"fp32: rates per group", "int2 against fp32", "measures of the literature"} - titles == {
        "measures of the literature"  # these evaluations have none
    }
    mending = demo_document(replace(demo, search="fqbench search --limits limits.yaml"))
    last = [section.text for section in mending.sections if isinstance(section, Note)][5]
    assert last.startswith("What mends harm: `fqbench search --limits limits.yaml` looks for the smallest artifact")
    changes = short.sheets[0]
    assert changes.rows[0][0] == "dark"
    assert changes.rows[0][3].startswith("-30.0 [")
    assert [cell[-1] for cell in changes.rows[0][2:]] == ["=", "-", "="]


def test_many_harmful_artifacts_are_counted() -> None:
    few = evaluated(int8={}, **{f"int2_{number}": {"dark": 600} for number in range(4)})
    assert summary(few, None)[-1].endswith("Do not ship int2_0 or int2_1 or int2_2 or int2_3.")
    many = evaluated(int8={}, **{f"int2_{number}": {"dark": 600} for number in range(6)})
    assert summary(many, None)[-1].endswith("Do not ship int2_0, int2_1 or the 4 others that harm a group.")
