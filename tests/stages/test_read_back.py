"""What was asked for before is read, not computed again; what it was computed from decides whether it is the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fqbench import gate as gates
from fqbench.run import Run
from fqbench.stages import evaluate as evaluating
from fqbench.stages import replicate as replicating
from fqbench.stages.evaluate import evaluate, evaluate_views
from fqbench.stages.gate import gate
from fqbench.stages.quantize import quantize, reference
from fqbench.stages.replicate import replicate
from fqbench.workspace.kinds import EVALUATIONS, GATES, REPLICATIONS

MakeRun = Callable[..., Run]


def refuse(*_arguments: object, **_options: object) -> None:
    pytest.fail("this was computed before")


def test_an_evaluation_asked_for_again_is_read(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run()
    artifacts = [reference(run), quantize(run)]
    first = evaluate(run, artifacts)
    for name in ("group_report", "change_report", "measures", "score_rows"):
        monkeypatch.setattr(evaluating, name, refuse)
    assert repr(evaluate(run.with_options("eval"), artifacts)) == repr(first)
    assert len(run.workspace.entries(EVALUATIONS)) == 1


@pytest.mark.parametrize("option", [{"by": ("tone",)}, {"seed": 1}, {"positive": "no"}, {"intersect": False}])
def test_another_question_is_another_evaluation(make_run: MakeRun, option: dict[str, object]) -> None:
    run = make_run()
    first = evaluate_views(run, [reference(run)])
    other = evaluate_views(run.with_options("eval", **option), [reference(run)])
    assert repr(other) != repr(first)
    assert len(run.workspace.entries(EVALUATIONS)) == 2


def test_a_replication_asked_for_again_is_read(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run()
    first = replicate(run, (), (0, 1))
    monkeypatch.setattr(replicating, "hierarchical_change", refuse)
    assert repr(replicate(run, (), (0, 1))) == repr(first)
    (entry,) = run.workspace.entries(REPLICATIONS)
    assert entry.facts.draws == (0, 1)


def test_a_gate_asked_for_again_is_read(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = make_run()
    limits = tmp_path / "limits.yaml"
    limits.write_text("limits: {max_accuracy_drop: 0.5}")
    first = gate(run, limits)
    monkeypatch.setattr(gates, "_changes", refuse)
    assert repr(gate(run, limits)) == repr(first)
    (entry,) = run.workspace.entries(GATES)
    assert entry.facts.passed is first.passed
    limits.write_text("limits: {max_accuracy_drop: 0.4}")
    with pytest.raises(pytest.fail.Exception):
        gate(run, limits)
