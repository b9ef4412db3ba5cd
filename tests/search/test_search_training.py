"""Training within a search: tried where it can help, and nowhere else; a model without a network is told so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fqbench.config import configure
from fqbench.contracts.scheme import Method, Override, Scheme
from fqbench.quant.recipe import read_recipe
from fqbench.report.search import write_found_recipe
from fqbench.run import Run
from fqbench.search import search as searching
from fqbench.search.request import Request
from fqbench.search.results import Outlook, TrialReport
from fqbench.search.search import search
from fqbench.search.trials import objective_of
from fqbench.stages.quantize import quantize
from fqbench.workspace import Workspace

PlantedRun = Callable[..., Run]
MIXED = Scheme(bits=4, overrides=(Override(name="head", bits=8),))


def trial(scheme: Scheme, missed: float = 0.0, size: float = 1.0) -> TrialReport:
    outlook = Outlook("max_group_drop dark", 0.02, missed, missed, missed)
    too_large = Outlook("max_mb", 1.0, size, size, max(0.0, size - 1))
    return TrialReport(1, "a", "ort", "int", "", scheme.model_dump_json(), 1000, outlooks=(outlook, too_large))


@dataclass
class InventedTrials:
    """What was tried before; training gives artifacts that miss a limit by so much, by bits."""

    best_of: TrialReport | None
    missed: dict[int, float]
    size: float = 1.0
    trained_at: list[int] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)

    def best(self, _objective: object) -> TrialReport | None:
        return self.best_of

    def say(self, step: str) -> None:
        self.steps.append(step)

    def trained(self, _backend: str, bits: int, _why: str) -> TrialReport:
        self.trained_at.append(bits)
        return trial(Scheme(method=Method.QAT, bits=bits, range_rule="none"), self.missed[bits], self.size)  # type: ignore[arg-type]


@dataclass
class InventedModel:
    architecture: str
    name: str = "model"


def trained_at(
    best: TrialReport | None,
    missed: dict[int, float],
    minimize: str,
    *,
    size: float = 1.0,
    architecture: str = "timm/x",
) -> InventedTrials:
    one = searching._Search.__new__(searching._Search)
    one.trials = trials = InventedTrials(best, missed, size)  # type: ignore[assignment]
    one.model = InventedModel(architecture)  # type: ignore[assignment]
    one.asked = Request(Path("limits.yaml"), minimize=minimize)  # type: ignore[arg-type]
    one.objective = objective_of(minimize)
    one._train(["ort"], (8, 4, 2))
    return trials  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("best", "missed", "minimize", "size", "expected"),
    [
        (None, {8: 0.0}, "latency", 1.0, [8]),  # 8 bits keep the limits, and fewer are not faster
        (None, {8: 0.1}, "latency", 1.0, [8]),  # fewer bits would harm more
        (None, {8: 0.0, 4: 0.0, 2: 0.1}, "latency", 2.0, [8, 4, 2]),  # harmless and too large: down
        (None, {8: 0.0, 4: 0.0, 2: 0.1}, "size", 1.0, [8, 4, 2]),
        (trial(Scheme(bits=8)), {}, "latency", 1.0, []),
        (trial(Scheme(bits=8)), {4: 0.1}, "size", 1.0, [4]),
        (trial(MIXED), {4: 0.0, 2: 0.1}, "size", 1.0, [4, 2]),  # 4 bits everywhere are smaller than some at 8
        (trial(Scheme(bits=4)), {2: 0.1}, "size", 1.0, [2]),
        (trial(Scheme(bits=2)), {}, "size", 1.0, []),
    ],
)
def test_training_is_tried_only_where_it_could_win_something(
    best: TrialReport | None, missed: dict[int, float], minimize: str, size: float, expected: list[int]
) -> None:
    assert trained_at(best, missed, minimize, size=size).trained_at == expected


def test_an_onnx_file_is_searched_without_training_and_this_is_said(planted_run: PlantedRun, tmp_path: Path) -> None:
    file = tmp_path / "limits.yaml"
    file.write_text("limits: {max_group_drop: 0.05}\n")
    report, _id = search(planted_run(), Request(file, "size", ("ort",), budget=300.0, allow_training=True))
    (said,) = (step for step in report.steps if "cannot be trained" in step)
    assert said.startswith("planted is an ONNX file")
    assert report.passed


@pytest.mark.slow
def test_a_trained_artifact_is_a_trial_like_any_other(pictures: Path, tmp_path: Path) -> None:
    """At 2 bits a small network loses its answers; training wins them back where raised layers cost more bytes."""
    run = Run(
        configure(
            data="folder",
            root=pictures,
            model="test_resnet",
            size=32,
            epochs=6,
            batch_size=32,
            learning_rate=3e-3,
            calib_n=64,
            qat_epochs=2,
        ),
        Workspace(tmp_path / "ws"),
    )
    file = tmp_path / "limits.yaml"
    file.write_text("limits: {max_accuracy_drop: 0.05}\n")
    report, _id = search(run, Request(file, "size", ("ort",), (2,), budget=600.0, allow_training=True))
    (trained,) = (one for one in report.trials if Scheme.model_validate_json(one.scheme).method is Method.QAT)
    assert not trained.failed
    assert trained.label == "ort int2a8-qat"
    write_found_recipe(report, tmp_path / "recipe.yaml")
    again = quantize(run.with_options("quantize", recipe=tmp_path / "recipe.yaml"))
    assert again.id == report.chosen
    assert (read_recipe(tmp_path / "recipe.yaml").method is Method.QAT) == (report.chosen == trained.artifact_id)
