"""What is gathered: the newest evaluation, the measurement of most of its artifacts, everything they came from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fqbench.contracts.runtime import Level
from fqbench.errors import InputError
from fqbench.report.page import Material, gather, page_document
from fqbench.report.page.material import mark
from fqbench.run import Run
from fqbench.stages.evaluate import evaluate_views
from fqbench.stages.quantize import quantize, reference
from fqbench.workspace import Workspace
from fqbench.workspace.kinds import BENCHES, EVALUATIONS, MODELS, PREDICTIONS


def test_lineage_is_everything_in_the_order_in_which_it_is_made(material: Material) -> None:
    kinds = [entry.kind for entry in material.lineage]
    assert list(dict.fromkeys(kinds)) == [
        "samples", "prepared", "models", "calibrations", "records", "artifacts", "predictions", "evaluations",
        "benches",
    ]  # fmt: skip
    assert not material.missing
    known = {entry.id for entry in material.lineage}
    assert all(set(entry.manifest.inputs.values()) <= known for entry in material.lineage)


def test_subjects_have_their_entries_sizes_and_latencies(material: Material) -> None:
    (view,) = material.views
    assert [subject.name for subject in view.subjects] == ["fp32", "int8/balanced", "int2a4/balanced (simulated)"]
    for subject in view.subjects:
        assert subject.entry is not None
        assert subject.latency is not None
        assert subject.latency.id == subject.figures.id
        assert subject.bytes == sum(
            subject.entry.path.joinpath(name).stat().st_size for name in subject.entry.facts.files
        )


def test_marks() -> None:
    assert mark("a", Level.NATIVE) == mark("a", Level.PACKED) == "a"
    assert mark("a", Level.EMULATED) == "a (emulated)"


def test_without_a_measurement_and_with_entries_gone(hostile_workspace: Workspace, tmp_path: Path) -> None:
    root = tmp_path / "workspace"
    shutil.copytree(hostile_workspace.root, root)
    workspace = Workspace(root)
    (model,) = workspace.entries(MODELS)
    for kind in (BENCHES.name, f"models/{model.id}", "prepared"):
        shutil.rmtree(root / kind)
    found = gather(workspace, ())
    assert found.measurement is None
    assert model.id in found.missing
    text = str(page_document(found).sections)
    assert "fqbench bench makes one" in text
    assert f"no longer in the workspace: {model.id}" in text or model.id in text


def test_several_views_and_a_measurement_by_name(hostile_run: Run, tmp_path: Path) -> None:
    root = tmp_path / "workspace"
    shutil.copytree(hostile_run.workspace.root, root)
    run = Run(hostile_run.config, Workspace(root)).with_options("eval", intersect=False)
    evaluate_views(run, [reference(run), quantize(run)])
    bench = run.workspace.entries(BENCHES)[0]
    newest = run.workspace.entries(EVALUATIONS)[-1]
    found = gather(run.workspace, [newest.id, bench.id])
    assert [view.evaluation.by for view in found.views] == [("tone",), ("age",)]
    assert found.latency is not None
    assert len(found.latency.subjects) == 2  # the third one is not on this page
    names = [figure.name for figure in page_document(found).figures]
    assert {"change-per-group", "change-per-group-2"} <= set(names)
    assert len(names) == len(set(names))


def test_mistakes(hostile_workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no evaluation in .* run `fqbench eval` first"):
        gather(Workspace(tmp_path / "empty"), ())
    with pytest.raises(InputError, match="no evaluations 'nothing'"):
        gather(hostile_workspace, ["nothing"])
    predictions = hostile_workspace.entries(PREDICTIONS)[0]
    with pytest.raises(InputError, match="no evaluations"):
        gather(hostile_workspace, [predictions.id])
    bench = hostile_workspace.entries(BENCHES)[0]
    with pytest.raises(InputError, match="shows one measurement"):
        gather(hostile_workspace, [bench.id, bench.id])
