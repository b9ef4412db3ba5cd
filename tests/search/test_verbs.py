"""The verbs on the command line: what they print, what they write, and their exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fqbench.cli import main
from fqbench.run import Run

PlantedRun = Callable[..., Run]


@pytest.fixture
def flags(planted_run: PlantedRun, planted_workspace: Path) -> list[str]:
    config = planted_run().config
    given = {
        "data": "folder",
        "root": config.data.root,
        "onnx": config.model.onnx,
        "size": 8,
        "mean": "none",
        "calib-n": 64,
        "workspace": planted_workspace,
    }
    return [part for name, value in given.items() for part in (f"--{name}", str(value))]


def exit_code(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    code = stopped.value.code
    return code if isinstance(code, int) else 0


def test_diagnose_prints_json_and_writes_a_plot(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plot = tmp_path / "layers.svg"
    few = ["--sides", "weights", "--ways", "alone", "--diagnose-images", "40"]
    assert exit_code("diagnose", "--bits", "4", *few, "--plot", str(plot), "--json", *flags) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["layers"][0]["name"] == "planted"
    assert plot.read_text(encoding="utf-8").startswith("<svg")


def test_search_writes_the_recipe_and_its_exit_code_is_the_gates(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limits, recipe = tmp_path / "limits.yaml", tmp_path / "recipe.yaml"
    limits.write_text("limits: {max_group_drop: 0.05}\n")
    own = ["--limits", str(limits), "--minimize", "size", "--backends", "ort", "--budget", "5m", "--out", str(recipe)]
    assert exit_code("search", *own, "--json", *flags) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["passed"] is True
    assert "planted" in recipe.read_text(encoding="utf-8")
    assert exit_code("list", "searches", "--workspace", flags[-1]) == 0
    assert found["id"] in capsys.readouterr().out
    assert exit_code("search", "--limits", str(limits), "--budget", "0m", *flags) == 2
    assert "leaves no time for a single trial" in capsys.readouterr().err
