"""The recipe of important layers: written, resolved, stored, quantized; and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fqbench.contracts.scheme import Override
from fqbench.errors import DataError, InputError
from fqbench.quant.recipe import read_recipe, write_recipe
from fqbench.report.document import Format
from fqbench.report.importance import importance_document
from fqbench.report.renderers import render
from fqbench.run import Run
from fqbench.stages.importance import important
from fqbench.stages.quantize import quantize

pytest.importorskip("torch")

MakeRun = Callable[..., Run]
NETWORK = {"onnx": None, "mean": None, "std": None, "model": "test_resnet", "size": 32, "epochs": 1, "batch_size": 16}
ASKED = {"keep": 2, "bits": 8, "by": "fisher", "per_group": 4}


@pytest.fixture(autouse=True)
def four_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """The validation split of these photos has 7 or 8 images of a group."""
    for module in ("models", "report"):
        monkeypatch.setattr(f"fqbench.{module}.importance.FEWEST", 4)


def test_a_recipe_keeps_layers_for_the_worst_off_groups(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(**NETWORK, bits=4, range_rule="minmax", bias_correction="off", rounding="nearest")
    found = important(run, **ASKED)
    assert found.importance.groups == ("dark×old", "dark×young", "light×old", "light×young")
    assert found.importance.images.tolist() == [4] * 4
    paths = {one.layer for one in found.kept}
    assert {layer.path for layer in found.layers if layer.bits == 8 and layer.weight} == paths
    assert {layer.bits for layer in found.layers if layer.weight and layer.path not in paths} == {4}
    file = tmp_path / "kept.yaml"
    write_recipe(found.scheme, file)
    assert read_recipe(file) == found.scheme
    made = quantize(make_run(**NETWORK, recipe=file))
    assert made.scheme.overrides == tuple(Override(name=one.layer, bits=8) for one in found.kept)
    document = importance_document(found, file)
    value = json.loads(render(document, Format.JSON))
    assert value["kept"] == [{"layer": one.layer, "group": one.group} for one in found.kept]
    assert len(value["values"]) == len(found.importance.layers) * 4
    assert all(one.layer in render(document, Format.MARKDOWN) for one in found.kept)
    before = {entry.id for entry in run.workspace.entries("importances")}
    other = important(run, **(ASKED | {"by": "gradient", "bits": 32}))
    assert {entry.id for entry in run.workspace.entries("importances")} == before  # both measures are stored
    assert all(override.quantize is False for override in other.scheme.overrides)
    low = important(run.with_options("quantize", act_bits=4), **ASKED)
    assert {override.act_bits for override in low.scheme.overrides} == {8}


@pytest.mark.parametrize(
    ("flags", "asked", "message"),
    [
        (
            {"onnx": None, "model": "test_resnet", "bits": 8},
            {},
            r"no layer of int8.* has fewer than 8 bits; give --bits 4",
        ),
        ({"bits": 4}, {}, r"bright came as ONNX or as a program, which has no gradients here"),
        ({"bits": 4}, {"by": "hessian"}, r"--importance hessian: give fisher or gradient"),
        ({"bits": 4}, {"bits": 6}, r"--kept-bits 6: give 8, or 32 for float"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    make_run: MakeRun, flags: dict[str, object], asked: dict[str, object], message: str
) -> None:
    more = NETWORK if "onnx" in flags else {}
    with pytest.raises(InputError, match=message):
        important(make_run(**(more | flags)), **(ASKED | asked))  # type: ignore[arg-type]


def test_too_few_images_are_refused(make_run: MakeRun) -> None:
    with pytest.raises(DataError, match="no group has 4 images"):
        important(make_run(**NETWORK, bits=4), **(ASKED | {"per_group": 3}))
