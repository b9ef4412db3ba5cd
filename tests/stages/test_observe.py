"""Observation as a stage: done once, shared by every rule and policy, resumed, and shown."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fqbench.catalogue import open_artifact
from fqbench.errors import DataError, InputError
from fqbench.quant.choice import RULES, SEVEN_BITS
from fqbench.quant.graph import cleaned
from fqbench.quant.rounding import fit_rows
from fqbench.quant.weights import weights_of
from fqbench.report.calibration import calibration_document
from fqbench.report.document import Format
from fqbench.report.renderers import render
from fqbench.report.renderers.text import lines
from fqbench.run import Run
from fqbench.stages import observe as stage
from fqbench.stages.export import export
from fqbench.stages.quantize import quantize, reference
from fqbench.storage import file_digest
from fqbench.testing.uneven_model import write_uneven
from fqbench.workspace import Workspace
from fqbench.workspace.kinds import ARTIFACTS

MakeRun = Callable[..., Run]
NOTHING_ELSE = {"rescaling": "off", "reduce_range": False, "tried": [], "not_tried": {}}


def test_another_rule_or_policy_costs_no_inference(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    first = quantize(make_run())
    monkeypatch.setattr(stage.observing, "observe", None)  # a second observation would fail
    asked = [
        {"range_rule": "percentile=99.9"},
        {"range_rule": "entropy"},
        {"range_rule": "mse"},
        {"calib_policy": "balanced"},
        {"calib_policy": "only=dark×old"},
        {"calib_policy": "minimax"},
        {"bits": 4, "range_rule": "mse"},
    ]
    others = [quantize(make_run(**flags)) for flags in asked]
    assert len({artifact.id for artifact in (first, *others)}) == len(asked) + 1
    assert len({artifact.label for artifact in (first, *others)}) == len(asked) + 1
    assert len(make_run().workspace.entries("records")) == 1


def test_the_manifest_says_what_was_done_to_whom(make_run: MakeRun) -> None:
    run = make_run(range_rule="percentile=99", calib_policy="balanced")
    artifact = run.workspace.get(quantize(run).id, ARTIFACTS).facts
    facts = artifact.details["calibration"]
    assert (facts["policy"], facts["rule"]) == ("balanced", "percentile=99")
    assert facts["groups"] == {"dark×old": 4, "dark×young": 4, "light×old": 4, "light×young": 4}
    tensors = facts["tensors"]
    assert {"images", "b", "d", "logits"} <= set(tensors)
    assert set(tensors["images"]["clipped"]) == set(facts["groups"])
    assert 0.004 < sum(tensors["images"]["clipped"].values()) / 4 < 0.02  # 1 % of all that is seen
    assert artifact.choice["range_rule"] == "percentile=99"
    assert [one["name"] for one in artifact.choice["tried"]] == ["percentile=99", "percentile=99, bias correction"]


@pytest.mark.parametrize("asked", ["on", "off"])
def test_bias_correction_can_be_told(make_run: MakeRun, asked: str) -> None:
    run = make_run(bias_correction=asked, range_rule="minmax")
    artifact = run.workspace.get(quantize(run).id, ARTIFACTS).facts
    assert artifact.details["corrected_biases"] == (3 if asked == "on" else 0)
    assert artifact.choice == {"range_rule": "minmax", "bias_correction": asked, "rounding": "auto", **NOTHING_ELSE}


def test_bias_correction_is_used_where_it_is_closer(make_run: MakeRun) -> None:
    run = make_run(bits=4, range_rule="minmax", rounding="nearest")
    facts = run.workspace.get(quantize(run).id, ARTIFACTS).facts.choice
    off, on = (one["kl_divergence"] + one["worst_kl_divergence"] for one in facts["tried"])
    assert facts["bias_correction"] == ("on" if on < off else "off")


@pytest.mark.parametrize("saturating", [False, True])
def test_the_range_rule_is_chosen_on_validation_images(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, saturating: bool
) -> None:
    monkeypatch.setattr("fqbench.stages.quantize.seven_bits_may_help", lambda *_: saturating)
    run = make_run()
    entry = run.workspace.get(quantize(run).id, ARTIFACTS)
    facts = entry.facts.choice
    tried = {one["name"]: one["kl_divergence"] + one["worst_kl_divergence"] for one in facts["tried"]}
    assert {SEVEN_BITS * saturating + rule for rule in RULES} < set(tried)
    best = min(tried, key=tried.__getitem__)
    rule = best.removeprefix(SEVEN_BITS).split(",")[0]
    assert (facts["range_rule"], facts["bias_correction"]) == (rule, "on" if "bias" in best else "off")
    assert facts["reduce_range"] == best.startswith(SEVEN_BITS) == open_artifact(run.workspace, entry).reduced_range
    assert ("integer_sums" in entry.manifest.determined_by) == saturating
    assert entry.facts.details["calibration"]["rule"] == facts["range_rule"]
    assert "-" not in entry.facts.scheme.label
    assert {path.name for path in entry.path.iterdir()} == {"manifest.json", *entry.facts.files}


def test_rescaling_is_tried_where_it_may_matter(make_run: MakeRun, tmp_path: Path) -> None:
    flags = {"onnx": write_uneven(tmp_path / "uneven.onnx", spread=1.6), "calib_n": 32}
    run = make_run(**flags)
    entry = run.workspace.get(quantize(run).id, ARTIFACTS)
    choice = entry.facts.choice
    scores = {one["name"]: one["kl_divergence"] + one["worst_kl_divergence"] for one in choice["tried"]}
    (name,) = (name for name in scores if name.endswith(", rescaled"))
    assert min(scores, key=scores.__getitem__) == name
    assert scores[name] < 0.2 * min(score for other, score in scores.items() if other != name)
    assert choice["rescaling"] == "on"
    assert entry.facts.details["rescaled"]["largest_change"] < 1e-4
    shown = " ".join(line for line, _style in lines(calibration_document(entry), 100))
    assert "rescaled: factors moved from 2 layers into 2; FP32's own logits change by" in shown
    told = run.workspace.get(quantize(make_run(**flags, rescaling="on")).id, ARTIFACTS).facts
    assert told.details["rescaled"] == entry.facts.details["rescaled"]
    assert "int8-rescaled" in told.scheme.label
    left = run.workspace.get(quantize(make_run(**flags, rescaling="off")).id, ARTIFACTS).facts
    assert "rescaled" not in left.details
    assert choice["tried"][:-1] == left.choice["tried"]


def test_rescaling_that_would_change_answers_is_left_out_and_said(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fqbench.quant.rescaling.CLOSE", 0.0)
    run = make_run(onnx=write_uneven(tmp_path / "uneven.onnx", spread=1.6), calib_n=32)
    entry = run.workspace.get(quantize(run).id, ARTIFACTS)
    assert entry.facts.choice["rescaling"] == "off"
    assert "changes its answers in FP32" in entry.facts.choice["not_tried"]["rescaling"]
    assert not list(entry.path.glob(".tried*"))
    shown = " ".join(line for line, _style in lines(calibration_document(entry), 100))
    assert "rescaling was not tried: rescaling the layers of" in shown


def test_low_bits_are_rounded_from_data_where_that_is_closer(make_run: MakeRun) -> None:
    run = make_run(bits=2, range_rule="minmax", bias_correction="off")
    facts = run.workspace.get(quantize(run).id, ARTIFACTS).facts.choice
    tried = {one["name"]: one["kl_divergence"] + one["worst_kl_divergence"] for one in facts["tried"]}
    assert set(tried) == {"minmax", "minmax, rounded to nearest"}
    assert facts["rounding"] == ("data" if tried["minmax"] <= tried["minmax, rounded to nearest"] else "nearest")


def test_a_weight_is_rounded_once_for_all_candidates(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Forgetful(dict[object, Any]):
        def __contains__(self, key: object) -> bool:
            return False

    def counted(rows: Any, *arguments: Any) -> Any:
        fitted.append(rows.shape)
        return fit_rows(rows, *arguments)

    fitted: list[tuple[int, ...]] = []
    monkeypatch.setattr("fqbench.quant.plan.fit_rows", counted)
    remembered = quantize(make_run(bits=4, rescaling="off"))
    once = len(fitted)
    assert once == len(weights_of(cleaned(export(make_run()).path)))
    monkeypatch.setattr(stage, "with_shared_memory", lambda _run, _entry, record: replace(record, memory=Forgetful()))
    forgotten = quantize(replace(make_run(bits=4, rescaling="off"), workspace=Workspace(tmp_path / "other")))
    assert len(fitted) == once + once * (len(RULES) + 1)  # all rules, and the best with corrected biases
    assert file_digest(forgotten.main_file) == file_digest(remembered.main_file)


def test_without_validation_images_the_rule_is_one_that_holds(make_run: MakeRun, monkeypatch: Any) -> None:
    monkeypatch.setattr("fqbench.stages.quantize._validation", lambda *_: None)
    run = make_run()
    facts = run.workspace.get(quantize(run).id, ARTIFACTS).facts.choice
    assert facts == {"range_rule": "mean_minmax", "bias_correction": "off", "rounding": "auto", **NOTHING_ELSE}


def test_a_group_without_calibration_images_is_an_error(make_run: MakeRun) -> None:
    run = make_run(calib="random", calib_n=3)
    with pytest.raises(DataError, match=r"no calibration image for group\(s\) .*chosen by 'random'"):
        quantize(run)
    assert not run.workspace.entries("records")


def test_an_unknown_group_is_found_before_it_is_used(make_run: MakeRun) -> None:
    with pytest.raises(InputError, match="no group 'young': did you mean"):
        quantize(make_run(calib_policy="only=young"))


def test_a_wrong_policy_stops_before_any_work(make_run: MakeRun) -> None:
    run = make_run(calib_policy="fair")
    with pytest.raises(InputError, match="unknown calibration policy 'fair'"):
        quantize(run)
    assert not run.workspace.entries()


def test_progress_is_gone_once_the_record_is_there(make_run: MakeRun) -> None:
    run = make_run()
    stage.observe(run, export(run))
    assert not list((run.workspace.root / "records").glob(".*scratch*"))


def test_calibration_as_a_document(make_run: MakeRun) -> None:
    run = make_run(range_rule="percentile=99")
    entry = run.workspace.get(quantize(run).id, ARTIFACTS)
    document = calibration_document(entry)
    shown = " ".join(line for line, _style in lines(document, 80))
    assert "policy as-sampled, rule percentile=99" in shown
    assert "dark×old 4" in shown
    assert "tried: range rule percentile=99, bias correction" in shown
    assert json.loads(render(document, Format.JSON))["rule"] == "percentile=99"
    tensors = document.value["tensors"]
    rows = list(csv.DictReader(render(document, Format.CSV).splitlines()))
    assert {(row["tensor"], row["group"]) for row in rows} == {
        (name, group) for name, tensor in tensors.items() for group in tensor["clipped"]
    }
    assert "| tensor | range |" in render(document, Format.MARKDOWN)
    assert "\\begin{tabular}" in render(document, Format.LATEX)
    with pytest.raises(InputError, match="has no calibration"):
        calibration_document(run.workspace.get(reference(run).id, ARTIFACTS))
