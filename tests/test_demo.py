"""Which artifacts the demo makes, and from which options; `make test` runs the whole of it with --debug."""

from __future__ import annotations

import pytest

from fqbench import demo
from fqbench.run import Run


@pytest.mark.parametrize("debug", [False, True])
def test_artifacts_of_the_demo(monkeypatch: pytest.MonkeyPatch, debug: bool) -> None:
    asked: list[Run] = []

    def quantize(run: Run) -> int:
        asked.append(run)
        return len(asked)

    monkeypatch.setattr(demo, "reference", lambda _run: 0)
    monkeypatch.setattr(demo, "quantize", quantize)
    monkeypatch.setattr(demo, "evaluate", lambda run, artifacts: (run, artifacts))
    monkeypatch.setattr(demo, "bench", lambda run, artifacts: (run, artifacts))
    made = demo.run_demo(Run(), debug=debug)
    options = [run.config.quantize for run in asked]
    assert [(one.backend, one.method, one.bits) for one in options] == [
        ("ort", "ptq_static", 8), ("ort", "ptq_static", 4), ("ort", "ptq_static", 4),
    ]  # fmt: skip
    assert {one.calib_by for one in options} == {demo.GROUPS}
    assert [one.rounding for one in options] == ["auto", "nearest", "auto"]
    run, artifacts = made.evaluation  # type: ignore[misc]  # what the stub returned
    assert artifacts == [0, 1, 2, 3]
    assert run.config.eval.by == demo.GROUPS
    assert (run.config.data.images < 2000) == debug
    command = "fqbench search --limits limits.yaml --minimize size --by skin_tone,age_group --backends ort"
    assert made.search == ("" if debug else command)


def test_groups_of_the_user_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "reference", lambda _run: 0)
    monkeypatch.setattr(demo, "quantize", lambda _run: 1)
    monkeypatch.setattr(demo, "evaluate", lambda run, _artifacts: run)
    monkeypatch.setattr(demo, "bench", lambda run, _artifacts: run)
    made = demo.run_demo(Run().with_options("eval", by=("skin_tone",)))
    assert made.evaluation.config.eval.by == ("skin_tone",)  # type: ignore[attr-defined]  # what the stub returned
