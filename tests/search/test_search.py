"""A search on the planted case: what it finds, that it goes on when killed, and each reason why it stops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fqbench.contracts.runtime import Availability
from fqbench.errors import DataError, FqbenchError, GateFailed, InputError, UnavailableError
from fqbench.fairness.intervals import paired_difference
from fqbench.plugins import backend as backend_named
from fqbench.quant.recipe import read_recipe
from fqbench.report.search import search_document, summary, write_found_recipe
from fqbench.run import Run
from fqbench.search import search as searching
from fqbench.search import trials as trying
from fqbench.search.diagnose import settled_scheme
from fqbench.search.request import Request, request
from fqbench.search.results import SearchReport
from fqbench.search.search import search
from fqbench.stages.quantize import quantize
from fqbench.workspace.kinds import ARTIFACTS, SEARCHES

PlantedRun = Callable[..., Run]


def limits(folder: Path, text: str = "max_group_drop: 0.05") -> Path:
    file = folder / "limits.yaml"
    file.write_text(f"limits: {{{text}}}\n")
    return file


def asked(folder: Path, text: str = "max_group_drop: 0.05", **changes: object) -> Request:
    values = {"minimize": "size", "backends": ("ort",), "budget": 300.0} | changes
    return Request(limits(folder, text), **values)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def found(planted_run: PlantedRun, tmp_path_factory: pytest.TempPathFactory) -> tuple[SearchReport, str]:
    return search(planted_run(), asked(tmp_path_factory.mktemp("limits")))


def test_the_planted_layer_stays_at_8_bits_and_little_else(found: tuple[SearchReport, str]) -> None:
    report, _id = found
    chosen = report.trial(report.chosen)
    assert "4 bits, planted at 8 bits" in chosen.why
    assert report.passed
    assert all(check.outcome.value == "passed" for check in report.gate.checks)
    assert chosen.bytes < min(one.bytes for one in report.trials if one.why.startswith("range rule"))


def test_what_was_mended_is_claimed_for_the_harmed_group(found: tuple[SearchReport, str]) -> None:
    claim = found[0].claim
    assert claim is not None
    assert (claim.group, claim.shown) == ("blue", True)
    assert claim.reduction.low > 0.1
    assert claim.confidence > 0.95


def test_the_recipe_makes_the_chosen_artifact_again(
    found: tuple[SearchReport, str], planted_run: PlantedRun, tmp_path: Path
) -> None:
    report, _id = found
    write_found_recipe(report, tmp_path / "recipe.yaml")
    scheme = read_recipe(tmp_path / "recipe.yaml")
    assert [override.model_dump(exclude_none=True) for override in scheme.overrides] == [{"name": "planted", "bits": 8}]
    assert scheme == settled_scheme(planted_run(), report.chosen)
    assert quantize(planted_run(recipe=tmp_path / "recipe.yaml")).id == report.chosen


def test_choosing_and_confirming_images_share_nothing_and_hold_all_groups(found: tuple[SearchReport, str]) -> None:
    images = found[0].images
    assert images["choosing"] == images["confirming"] == {"blue": 75, "red": 75}
    assert images["test"] == {"blue": 300, "red": 300}


def test_every_trial_is_an_ordinary_artifact(found: tuple[SearchReport, str], planted_run: PlantedRun) -> None:
    run = planted_run()
    for one in found[0].trials:
        assert run.workspace.get(one.artifact_id, "artifacts").id == one.artifact_id


def test_the_verdict_is_one_gate_on_the_test_split(found: tuple[SearchReport, str], planted_run: PlantedRun) -> None:
    report, entry_id = found
    run = planted_run()
    facts = run.workspace.get(entry_id, SEARCHES).facts
    assert (facts.looks, facts.passed, facts.chosen) == (1, True, report.chosen)
    assert run.workspace.get(facts.gate, "gates").manifest.inputs["artifact1"] == report.chosen
    evaluated = [
        entry.facts.artifacts
        for entry in run.workspace.entries("evaluations")
        if entry.manifest.determined_by["options"]["split"] == "test"
    ]
    tried = {one.artifact_id for one in report.trials}
    assert {one for ids in evaluated for one in ids if one in tried} == {report.chosen}


def test_the_same_search_is_found_in_the_workspace(
    found: tuple[SearchReport, str], planted_run: PlantedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "_Search", None)
    assert search(planted_run(), asked(tmp_path))[1] == found[1]


def test_a_search_with_artifacts_of_an_older_fqbench_is_made_again(
    planted_run: PlantedRun, found: tuple[SearchReport, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Begun(Exception):
        pass

    def begin(*_args: object) -> None:
        raise Begun

    monkeypatch.setattr(searching, "_Search", begin)
    monkeypatch.setattr(searching, "ARTIFACTS", replace(ARTIFACTS, version=ARTIFACTS.version + 1))
    with pytest.raises(Begun):
        search(planted_run(), asked(tmp_path))


def test_the_page_says_what_was_done_and_what_it_cost(found: tuple[SearchReport, str]) -> None:
    report, entry_id = found
    said = summary(report)
    assert said[0].startswith("The smallest artifact found that keeps every limit: ort int4a8-")
    assert said[1].startswith("It has 0.0")
    assert "It mends the group blue" in said[2]
    assert f"{len(report.trials)} trials" in said[3]
    document = search_document(report, entry_id)
    assert [sheet.title for sheet in document.sheets][:2] == ["trials", "finalists"]
    assert len(document.sheets[0].rows) == len(report.trials)
    assert document.value["passed"] is True
    assert document.records is not None
    assert {row[0] for row in document.records.rows} == {one.number for one in report.trials}


@pytest.mark.slow
def test_a_killed_search_goes_on_with_the_trials_that_it_has(
    planted_run: PlantedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, made = planted_run(workspace=tmp_path / "ws"), []

    def counted(run: Run, *arguments: object) -> object:
        made.append(1)
        if len(made) == 4:
            raise KeyboardInterrupt
        return quantize(run, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(trying, "quantize", counted)
    with pytest.raises(KeyboardInterrupt):
        search(run, asked(tmp_path))
    before = {entry.id for entry in run.workspace.entries("artifacts")}
    assert len(before) == 3
    report, _id = search(run, asked(tmp_path))
    assert report.passed
    assert before < {one.artifact_id for one in report.trials}
    used = (run.workspace.root / "searches").glob(".*.scratch")
    assert not list(used)


@pytest.mark.slow
def test_nothing_keeps_the_limits_is_an_answer_with_the_nearest(planted_run: PlantedRun, tmp_path: Path) -> None:
    hard = asked(tmp_path, "max_group_drop: 0.05, max_mb: 0.0149", bits=(8,))
    report, _id = search(planted_run(), hard)
    assert not report.passed
    assert summary(report)[0].startswith("Nothing was shown to keep these limits. The nearest is ort int8-")
    assert len(report.finalists) == 1
    assert not report.finalists[0].kept


def test_a_spent_budget_ends_with_the_best_so_far(planted_run: PlantedRun, tmp_path: Path) -> None:
    ticks = iter(range(10_000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(searching.Budget, "left", property(lambda _budget: next(ticks) < 2))
        report, _id = search(planted_run(), asked(tmp_path, budget=1.0))
    assert report.spent
    assert len(report.trials) == 2
    assert any("the budget of 1 s is spent after 2 trials" in step for step in report.steps)
    assert report.passed


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (
            "max_mb: 0.001",
            InputError,
            r"max_mb 0\.001 cannot be kept with --bits 8,4: the [\d,]+ weights of planted",
        ),
        ("max_group_drop: 0.001", DataError, r"2 group\(s\) have too few images in the test split to decide"),
        ("min_accuracy: 1.0", GateFailed, r"nothing keeps these limits: FP32 itself would not be shown to keep"),
        ("max_mega: 3", InputError, r"limits\.max_mega: Extra inputs"),
    ],
)
def test_limits_that_nothing_can_keep_are_one_sentence(
    planted_run: PlantedRun, tmp_path: Path, text: str, error: type[FqbenchError], message: str
) -> None:
    with pytest.raises(error, match=message):
        search(planted_run(), asked(tmp_path, text))


def test_an_unknown_group_is_named(planted_run: PlantedRun, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no sensitive feature 'hue'"):
        search(planted_run(by=("hue",)), asked(tmp_path))


def test_words_of_the_command_line(tmp_path: Path) -> None:
    words = {"minimize": "size", "backends": "ort", "bits": "4,8", "budget": "2m"}
    assert request(tmp_path, **words) == Request(tmp_path, "size", ("ort",), (8, 4), 120.0)
    with pytest.raises(InputError, match="--minimize does not know 'speed'"):
        request(tmp_path, **words | {"minimize": "speed"})
    with pytest.raises(InputError, match="--minimize takes one objective"):
        request(tmp_path, **words | {"minimize": "size,latency"})
    with pytest.raises(InputError, match="--bits does not know '3'"):
        request(tmp_path, **words | {"bits": "3"})
    with pytest.raises(InputError, match=r"--backends does not know 'orf'"):
        request(tmp_path, **words | {"backends": "orf"})


def test_a_runtime_that_is_not_there_is_left_out(
    planted_run: PlantedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = Availability(None, reason="it is not installed.", remedy="pip install it.")
    monkeypatch.setattr(type(backend_named("ort")), "availability", lambda _self: away)
    with pytest.raises(UnavailableError, match=r"none of the runtimes can be used here: ort is left out: it is not"):
        search(planted_run(), asked(tmp_path))


@pytest.mark.slow
def test_a_runtime_that_vanishes_during_the_search_loses_nothing(
    planted_run: PlantedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def vanishing(run: Run, *arguments: object) -> object:
        made.append(1)
        if len(made) > 5:
            raise UnavailableError("the backend ort cannot run here: its library is gone.")
        return quantize(run, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(trying, "quantize", vanishing)
    report, _id = search(planted_run(), asked(tmp_path, seed=1))
    assert report.passed
    assert [one.failed for one in report.trials].count("") == 5
    assert any("was left out: the backend ort cannot run here: its library is gone." in step for step in report.steps)


def test_a_forecast_has_the_interval_that_the_test_split_will_have(planted_run: PlantedRun, tmp_path: Path) -> None:
    run = planted_run()
    started = searching._Search(
        run, asked(tmp_path), searching.read_gate(limits(tmp_path)), searching.export(run), tmp_path
    )
    forecaster = started.trials.forecaster
    logits = forecaster.reference.copy()
    flipped = np.flatnonzero(forecaster.images.groups == "blue")[:3]
    right = logits.argmax(axis=1) == forecaster.images.labels
    assert right[flipped].all()
    logits[flipped] = logits[flipped, ::-1]
    blue, red = forecaster.of(logits).outlooks
    # 3 of 75 are lost, so 12 of 300 would be, at 97.5 % for two groups
    low, _high = paired_difference(np.array([0]), np.array([12]), np.array([300]), 0.975)
    assert blue.value == pytest.approx(0.04, abs=0.004)  # the noise moves few of these images
    assert blue.high == pytest.approx(-float(low[0]), abs=0.006)
    assert blue.shortfall == pytest.approx(blue.high - 0.05)
    assert red.shortfall == 0


def test_smoothing_keeps_the_mean_and_takes_out_noise() -> None:
    """Forecasts from halves of one population scatter less than raw shares do, and around the same value."""
    from fqbench.gate import GateOptions, Limits
    from fqbench.search.forecast import Forecaster
    from fqbench.search.images import ValidationImages

    rng = np.random.default_rng(0)
    smoothed, raw = [], []
    for _ in range(40):
        labels = rng.integers(0, 2, 60)
        reference = (rng.normal(0, 1.5, (60, 2)) + 2 * np.eye(2)[labels]).astype(np.float32)
        logits = (reference + rng.normal(0, 0.3, (60, 2))).astype(np.float32)
        rows = np.arange(60)
        images = ValidationImages(None, rows, rows.astype(str), np.full(60, "a"), labels)  # type: ignore[arg-type]
        options = GateOptions(limits=Limits(max_group_drop=0.05))
        forecaster = Forecaster(options, images, reference, {"a": 6000}, ("no", "yes"), ("x",), "yes")
        smoothed.append(forecaster.of(logits).outlooks[0].value)
        right = [(answers.argmax(axis=1) == labels).mean() for answers in (reference, logits)]
        raw.append(right[0] - right[1])
    assert np.std(smoothed) < 0.85 * np.std(raw)
    assert np.mean(smoothed) == pytest.approx(np.mean(raw), abs=0.008)
