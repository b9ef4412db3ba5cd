"""Diagnosis: the planted layer and group are named, a killed one goes on, and simulation agrees with the runtime."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fqbench.errors import InputError
from fqbench.report.diagnosis import diagnosis_document, diagnosis_heatmap
from fqbench.run import Run
from fqbench.search import diagnosis as diagnosing
from fqbench.search.diagnose import diagnose
from fqbench.search.diagnosed import Diagnosis
from fqbench.search.diagnosis import decibels
from fqbench.search.variants import SimulatedSession
from fqbench.stages.quantize import quantize, reference
from fqbench.testing.uneven_model import write_uneven

PlantedRun = Callable[..., Run]


@pytest.fixture(scope="module")
def found(planted_run: PlantedRun) -> Diagnosis:
    return diagnose(planted_run(bits=4), images=200)


def test_the_planted_layer_and_group_come_first(found: Diagnosis) -> None:
    first, second = found.ranked[:2]
    assert first.name == "planted"
    assert first.worst.group == "blue"
    blue, red, _all = first.decisive
    assert blue.kl_divergence.low > 20 * abs(red.kl_divergence.value)
    assert blue.kl_divergence.low > 5 * second.worst.kl_divergence.high
    assert blue.flips > 20
    assert first.effect("weights", "alone")[0].kl_divergence.value > 0.05
    assert first.effect("activations", "alone")[0].kl_divergence.value < 0.005


def test_the_simulated_layers_together_answer_as_the_runtime_does(found: Diagnosis) -> None:
    for simulated, executed in zip(found.joint[0].groups, found.executed, strict=True):
        assert simulated.kl_divergence.value == pytest.approx(executed.kl_divergence.value, rel=0.4, abs=0.01)
        assert simulated.flips == pytest.approx(executed.flips, abs=2)


def test_costs_and_noise_of_each_layer(found: Diagnosis) -> None:
    layers = {layer.name: layer for layer in found.layers}
    assert layers["same_1"].float_bytes == 64 * 64 * 4
    assert layers["same_1"].bytes == 64 * 64 // 2
    assert layers["same_1"].macs == 64 * 64 * 64
    assert layers["planted"].weight_sqnr < layers["same_1"].weight_sqnr
    assert set(layers["planted"].activation_sqnr) == {"red", "blue"}
    assert decibels(0.01, 1.0) == pytest.approx(20)
    assert decibels(0.0, 1.0) == math.inf
    assert math.isnan(decibels(0.0, 0.0))


def test_passes_are_at_most_one_more_than_layers_for_each_side_and_way(
    found: Diagnosis, planted_run: PlantedRun
) -> None:
    one = diagnose(planted_run(bits=4), images=200, sides=("both",), ways=("last",))
    assert one.passes == len(one.layers) + 1
    assert found.passes <= 6 * (len(found.layers) + 1)


def test_a_killed_diagnosis_goes_on_where_it_stopped(
    planted_run: PlantedRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run, loaded = planted_run(workspace=tmp_path, bits=4), []

    class Counted(SimulatedSession):
        def __init__(self, model: object, threads: int) -> None:
            loaded.append(1)
            if len(loaded) == 4:
                raise KeyboardInterrupt
            super().__init__(model, threads)  # type: ignore[arg-type]

    monkeypatch.setattr(diagnosing, "SimulatedSession", Counted)
    with pytest.raises(KeyboardInterrupt):
        diagnose(run, images=40, sides=("both",), ways=("alone",))
    again = diagnose(run, images=40, sides=("both",), ways=("alone",))
    assert len(loaded) == again.passes + 1  # the three passes before the interruption were kept
    loaded.clear()
    assert diagnose(run, images=40, sides=("both",), ways=("alone",)).to_json() == again.to_json()
    assert not loaded


def test_a_rescaled_artifact_is_diagnosed_on_its_own_graph(make_run: Callable[..., Run], tmp_path: Path) -> None:
    """Its integers belong to weights that were moved between layers: in the original graph they would be others'."""
    run = make_run(onnx=write_uneven(tmp_path / "uneven.onnx", spread=1.6), calib_n=32, rescaling="on")
    found = diagnose(run, images=24, sides=("both",), ways=("alone",))
    assert not found.layers[0].name.startswith("all ")
    assert all(layer.weight_sqnr > 30 for layer in found.layers if layer.float_bytes)
    together, executed = found.joint[0].groups[-1], found.executed[-1]
    assert together.kl_divergence.value == pytest.approx(executed.kl_divergence.value, rel=0.5, abs=0.005)


def test_what_has_no_fixed_scales_is_refused(planted_run: PlantedRun) -> None:
    run = planted_run()
    with pytest.raises(InputError, match=r"is in float, so there are no fixed scales to diagnose"):
        diagnose(run, reference(run).id)
    dynamic = quantize(planted_run(method="ptq_dynamic"))
    with pytest.raises(InputError, match="takes its scales from each batch"):
        diagnose(run, dynamic.id)


def test_document_and_heatmap_show_every_layer(found: Diagnosis) -> None:
    document = diagnosis_document(found)
    assert document.sheets[0].rows[0][:4] == ("planted", "Conv", "4/8", "blue")
    assert document.value["layers"][0]["name"] == "planted"
    assert document.records is not None
    assert len(document.records.rows) == sum(len(layer.effects) * 3 for layer in found.layers)
    picture = diagnosis_heatmap(found).svg()
    assert picture.count("<rect") == 1 + 3 * len(found.layers)
    assert all(f">{layer.name}<" in picture for layer in found.layers)


def test_a_heatmap_is_written_as_svg_only(found: Diagnosis, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--plot writes SVG, and .*map\.png has another ending"):
        diagnosis_heatmap(found).save(tmp_path / "map.png")
    diagnosis_heatmap(found).save(tmp_path / "map.svg")
    assert (tmp_path / "map.svg").read_text(encoding="utf-8").startswith("<svg")


def test_few_images_are_shared_equally_by_the_groups() -> None:
    from fqbench.search.images import ValidationImages

    groups = np.array(["a"] * 50 + ["b"] * 7 + ["c"] * 30)
    rows = np.arange(len(groups))
    images = ValidationImages(None, rows, rows.astype(str), groups, rows % 2)  # type: ignore[arg-type]
    assert images.few(40).counts == {"a": 17, "b": 7, "c": 16}
    first, second = images.halves(3)
    assert first.counts == {"a": 25, "b": 4, "c": 15}
    assert sorted([*first.rows, *second.rows]) == list(rows)
    assert images.halves(3)[0].digest == first.digest != images.halves(4)[0].digest
