"""``--placement measured``: by a told timer, by a real one, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnx
import pytest

from fqbench.contracts.artifacts import Artifact
from fqbench.errors import InputError, SchemeNotSupported
from fqbench.quant.choice import Validation
from fqbench.quant.placement import RULES
from fqbench.quant.placement_choice import FP32, Speed
from fqbench.report.calibration import calibration_document
from fqbench.report.document import Format
from fqbench.report.renderers import render
from fqbench.run import Run
from fqbench.stages.quantize import quantize, reference
from fqbench.stages.recipe import recipe_of
from fqbench.workspace.kinds import ARTIFACTS, PLACEMENTS
from tests.conftest import Invoke

MakeRun = Callable[..., Run]
DOUBT = "the machine was busy."
PLAIN = {"range_rule": "minmax", "bias_correction": "off"}


def told(monkeypatch: pytest.MonkeyPatch, milliseconds: Mapping[str, float], other: float = 1.5) -> list[set[str]]:
    """Replace the timer: FP32 takes 1 ms, the others what is told; return the names of each comparison."""
    compared: list[set[str]] = []

    def timer(_run: Run, candidates: Mapping[str, Artifact], _validation: Validation) -> dict[str, Speed]:
        compared.append(set(candidates))
        times = {FP32: 1.0} | {name: milliseconds.get(name, other) for name in candidates if name != FP32}
        return {name: Speed(time, time, time * 0.99, time * 1.01, (DOUBT,)) for name, time in times.items()}

    monkeypatch.setattr("fqbench.stages.placement.measured", timer)
    return compared


def float_weights(artifact: Artifact) -> int:
    model = onnx.load(artifact.main_file)
    return sum(
        tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) > 1 for tensor in model.graph.initializer
    )


def test_the_fastest_is_kept_and_stands_in_the_manifest(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = told(monkeypatch, {RULES: 0.8, "head": 0.5})
    run = make_run(placement="measured", **PLAIN)
    artifact = quantize(run)
    assert "int8-measured" in artifact.label
    assert {FP32, RULES, "head", "first layer"} <= compared[0]
    assert float_weights(artifact) == 1
    entry = run.workspace.get(artifact.id, ARTIFACTS)
    choice = entry.facts.choice["placement"]
    assert choice["kept"] == "head"
    assert choice["tried"][0]["name"] == FP32
    assert choice["measured_on"]["machine"]["cpu"]
    assert set(entry.facts.files) | {"manifest.json"} == {path.name for path in entry.path.iterdir()}
    assert entry.facts.scheme.placement == "measured"
    layers = {layer.node: layer for layer in recipe_of(run, artifact.id).layers}
    assert layers["classifier"].is_float
    assert not layers["stem"].is_float


def test_it_is_chosen_once(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = told(monkeypatch, {RULES: 0.5})
    first, again = (quantize(make_run(placement="measured", **PLAIN)) for _ in range(2))
    assert first.id == again.id
    assert len(compared) == 1
    assert quantize(make_run(**PLAIN)).id != first.id


def test_the_rules_files_are_the_default_ones(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    told(monkeypatch, {RULES: 0.5})
    kept, default = quantize(make_run(placement="measured", **PLAIN)), quantize(make_run(**PLAIN))
    assert kept.main_file.read_bytes() == default.main_file.read_bytes()


def test_several_that_help_are_tried_together(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    both = "first layer + head"
    compared = told(monkeypatch, {RULES: 0.9, "first layer": 0.8, "head": 0.7, both: 0.5})
    run = make_run(placement="measured", **PLAIN)
    artifact = quantize(run)
    assert both in compared[1]
    assert run.workspace.get(artifact.id, ARTIFACTS).facts.choice["placement"]["kept"] == both
    assert float_weights(artifact) == 2


def test_what_the_user_asked_for_has_the_last_word(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told(monkeypatch, {RULES: 0.8, "head": 0.5})
    file = tmp_path / "kept.yaml"
    file.write_text(
        "placement: measured\nrange_rule: minmax\nbias_correction: 'off'\noverrides:\n- {role: head, quantize: true}\n"
    )
    assert float_weights(quantize(make_run(recipe=file))) == 0


def test_none_faster_is_one_sentence_and_no_artifact(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    told(monkeypatch, {})
    run = make_run(placement="measured", **PLAIN)
    with pytest.raises(SchemeNotSupported, match=r"no placement of int8-measured.* is proved faster than FP32"):
        quantize(run)
    assert [entry.facts.scheme.label for entry in run.workspace.entries(ARTIFACTS)] == ["fp32"]


def test_what_was_tried_in_vain_is_kept_and_shown(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, invoke: Invoke
) -> None:
    told(monkeypatch, {})
    run = make_run(placement="measured", **PLAIN)
    for number in range(2):  # measured again, not answered from what is kept
        with pytest.raises(SchemeNotSupported, match=r"; `fqbench show \S+` lists what was tried\.$") as error:
            quantize(run)
        assert len(run.workspace.entries(PLACEMENTS)) == number + 1
    kept = run.workspace.get(str(error.value).split("`")[1].split()[-1], PLACEMENTS)
    assert kept.facts.repeat == 1
    assert {one["name"] for one in kept.facts.tried} >= {FP32, RULES, "head"}
    code, out, _err = invoke("show", kept.id, "--workspace", run.workspace.root)
    assert code == 0
    assert "placement: none kept" in out
    assert "1.50 [1.4" in out
    assert "no placement of int8-measured" in " ".join(out.split())


def test_the_document_shows_what_was_tried(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    told(monkeypatch, {RULES: 0.8, "head": 0.5})
    run = make_run(placement="measured", **PLAIN)
    document = calibration_document(run.workspace.get(quantize(run).id, ARTIFACTS))
    text = render(document, Format.MARKDOWN)
    assert "placement: head" in text
    assert text.count(DOUBT) == 1  # it holds for all of them
    assert "0.50 [0.49, 0.51]" in text or "0.50 [0.49, 0.50]" in text  # 0.505, rounded in binary
    assert json.loads(render(document, Format.JSON))["choice"]["placement"]["kept"] == "head"


@pytest.mark.parametrize(
    ("flags", "match"),
    [
        ({"act_bits": 4, "bits": 4}, "no speed to choose a placement by"),
        ({"backend": "trt"}, "are built for a device"),
        ({"method": "ptq_dynamic"}, "is for --method ptq_static"),
    ],
)
def test_what_cannot_be_timed_is_refused_before_any_work(make_run: MakeRun, flags: Any, match: str) -> None:
    run = make_run(placement="measured", **flags)
    with pytest.raises(InputError, match=match):
        quantize(run)
    assert not run.workspace.entries(ARTIFACTS)


def test_fp32_is_the_reference_of_a_recipe_too(make_run: MakeRun, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("range_rule: minmax\n")
    assert reference(make_run(recipe=file)).scheme.label == "fp32"


@pytest.mark.slow
def test_real_times_choose_a_variant_or_refuse(make_run: MakeRun) -> None:
    run = make_run(placement="measured")
    try:
        artifact = quantize(run)
    except SchemeNotSupported as error:
        assert "is proved faster than FP32" in str(error)  # noqa: PT017 - either is right for a network this small
        return
    choice = run.workspace.get(artifact.id, ARTIFACTS).facts.choice["placement"]
    kept = next(one for one in choice["tried"] if one["name"] == choice["kept"])
    assert kept["speed"]["high"] < 1
    assert choice["tried"][0]["speed"]["p50_ms"] > kept["speed"]["p50_ms"]
