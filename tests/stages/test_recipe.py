"""The verbs on recipes: an artifact's, resolved layer by layer, and a file's before anything is made."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fqbench.contracts.scheme import Override
from fqbench.report.document import Format
from fqbench.report.recipe import recipe_document
from fqbench.report.renderers import render
from fqbench.run import Run
from fqbench.stages.quantize import quantize
from fqbench.stages.recipe import check_recipe, recipe_of
from fqbench.workspace.kinds import ARTIFACTS

MakeRun = Callable[..., Run]
HYBRID = "bits: 4\nrange_rule: minmax\noverrides:\n- {role: head, quantize: false}\n"


@pytest.fixture
def hybrid(tmp_path: Path) -> Path:
    file = tmp_path / "hybrid.yaml"
    file.write_text(HYBRID)
    return file


def test_an_artifact_is_made_by_a_recipe_file_and_shows_it(make_run: MakeRun, hybrid: Path) -> None:
    run = make_run(recipe=hybrid)
    artifact = quantize(run)
    assert artifact.scheme.bits == 4
    assert artifact.scheme.overrides == (Override(role="head", quantize=False),)
    assert "-mixed-" in artifact.label
    resolved = recipe_of(run, artifact.id)
    head = next(layer for layer in resolved.layers if "head" in layer.roles)
    assert head.is_float
    document = recipe_document(resolved.title, resolved.layers, resolved.ranges)
    rows = json.loads(render(document, Format.JSON))["layers"]
    assert {row["bits"] for row in rows} == {4, None}
    assert any(row["low"] is not None for row in rows)


def test_the_short_form_is_the_same_recipe(make_run: MakeRun, hybrid: Path) -> None:
    by_file = quantize(make_run(recipe=hybrid))
    by_flags = quantize(make_run(bits=4, range_rule="minmax", keep_float=("head",)))
    assert by_flags.id == by_file.id


@pytest.mark.parametrize("backend", ["ort", "trt"])
def test_one_file_resolves_alike_for_every_runtime(make_run: MakeRun, tmp_path: Path, backend: str) -> None:
    file = tmp_path / "three.yaml"
    file.write_text(
        "range_rule: minmax\noverrides:\n- {role: first, quantize: false}\n- {op: Gemm, range_rule: mse}\n"
        "- {role: head, weight_rule: minmax}\n"
    )
    found = check_recipe(make_run(backend=backend), file)
    assert found.problems == ()
    assert found.layers == check_recipe(make_run(backend="ort"), file).layers


@pytest.mark.slow
def test_the_artifacts_of_one_file_have_the_same_table(make_run: MakeRun, tmp_path: Path) -> None:
    """Not only the file: what three runtimes made of it, read back from their manifests."""
    file = tmp_path / "three.yaml"
    file.write_text(
        "range_rule: minmax\nbias_correction: 'off'\noverrides:\n- {role: first, quantize: false}\n"
        "- {name: 'layer1.*', range_rule: mse}\n- {role: head, weight_rule: minmax}\n"
    )
    network = {"onnx": None, "mean": None, "std": None, "model": "test_resnet", "size": 32, "epochs": 1}
    tables = {}
    for backend in ("ort", "torch_fx", "trt"):
        run = make_run(**network, batch_size=16, backend=backend, recipe=file)
        found = recipe_of(run, quantize(run).id)
        document = recipe_document("", found.layers)
        tables[backend] = json.loads(render(document, Format.JSON))["layers"]
    assert tables["ort"] == tables["torch_fx"] == tables["trt"]
    rows = {row["layer"]: row for row in tables["ort"] if row["range_rule"] is not None}
    assert {row["range_rule"] for name, row in rows.items() if name.startswith("layer1.")} == {"mse"}
    assert {row["range_rule"] for name, row in rows.items() if not name.startswith("layer1.")} == {"minmax"}
    assert [row["quantized"] for row in tables["ort"]].count(False) == 1


def test_what_a_runtime_cannot_do_is_said_with_the_nearest(make_run: MakeRun, hybrid: Path) -> None:
    found = check_recipe(make_run(backend="trt"), hybrid)
    assert len(found.problems) == 1
    assert "--bits 4 --act-bits 32" in found.problems[0]
    assert not make_run().workspace.entries(ARTIFACTS)
