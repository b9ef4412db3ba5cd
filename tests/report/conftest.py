"""A workspace with an evaluation and a measurement, of groups whose names are hostile to HTML, LaTeX and Markdown."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from fqbench.report.document import Document
from fqbench.report.page import Material, gather, page_document
from fqbench.run import Run, experiment
from fqbench.stages.bench import bench
from fqbench.stages.evaluate import evaluate
from fqbench.stages.quantize import quantize, reference
from fqbench.workspace import Workspace
from tests.conftest import write_photos

NAMES = {"light": "<script>boom()</script>", "dark": "כהה & 50%", "young": "a|b_$1", "old": "[x] {y}"}


@pytest.fixture(scope="session")
def hostile_run(tmp_path_factory: pytest.TempPathFactory, classifier: Path) -> Run:
    """INT8 and a simulated scheme, evaluated and timed on photos of groups with hostile names; read only."""
    root = write_photos(tmp_path_factory.mktemp("hostile") / "photos", 240)
    table = root / "metadata.csv"
    with table.open(newline="") as file:
        header, *rows = csv.reader(file)
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([header, *([NAMES.get(cell, cell) for cell in row] for row in rows)])
    run = experiment(
        tmp_path_factory.mktemp("workspace"), data="folder", root=root, onnx=classifier, mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25), calib_n=16, rounds=20, seconds=0.0, replicates=200, range_rule="minmax",
    )  # fmt: skip
    made = [reference(run), quantize(run), quantize(run.with_options("quantize", bits=2, act_bits=4))]
    evaluate(run, made)
    bench(run, made)
    return run


@pytest.fixture(scope="session")
def hostile_workspace(hostile_run: Run) -> Workspace:
    return hostile_run.workspace


@pytest.fixture(scope="session")
def material(hostile_workspace: Workspace) -> Material:
    return gather(hostile_workspace, ())


@pytest.fixture(scope="session")
def document(material: Material) -> Document:
    return page_document(material)
