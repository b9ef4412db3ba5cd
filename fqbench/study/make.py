"""Make one cell: ordinary stages, then the rows that it adds to the table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import numpy as np

from fqbench.catalogue import model_of
from fqbench.contracts.artifacts import Artifact
from fqbench.fairness.evaluated import Evaluation
from fqbench.latency.results import LatencyReport
from fqbench.predictions import ArtifactPredictions
from fqbench.run import Run
from fqbench.stages import bench as benching
from fqbench.stages.evaluate import evaluation_entry, open_evaluations
from fqbench.stages.predict import predict_split
from fqbench.stages.quantize import quantize, reference
from fqbench.stages.read import read
from fqbench.stages.threshold import with_threshold
from fqbench.study.cells import Cell, Phase
from fqbench.study.rows import Row, row, rows_of_evaluation, rows_of_latency
from fqbench.study.table import ALL, VERSION, frame_of, write_parquet
from fqbench.workspace import Derivation, Entry
from fqbench.workspace.kinds import CELLS, EXECUTABLE, CellFacts

if TYPE_CHECKING:
    from fqbench.fairness.decisions import Constraint

Part: TypeAlias = Literal["answers", "latency"]

ROWS = "rows.parquet"
# Entries that a method adds to a trained model, by their role in an artifact's manifest.
MAKING = ("calibration", "record", "tuned")


@dataclass(frozen=True)
class Made:
    """A cell's artifact and its FP32 baseline, which are the same for a baseline cell."""

    run: Run
    artifact: Artifact
    baseline: Artifact

    @property
    def compared(self) -> list[Artifact]:
        """The baseline first."""
        return list({one.id: one for one in (self.baseline, self.artifact)}.values())


def make_answers(run: Run, cell: Cell, *, threads: int | None = None) -> Entry[CellFacts]:
    """Return the cell's figures that come from predictions, running every stage that is missing."""
    made = _made(run, cell, threads)
    read(made.run).require_one_label("a study")
    entry = evaluation_entry(made.run.with_options("eval", intersect=True, control=None), made.compared)
    (evaluation, *_more) = open_evaluations(entry)
    rows = [one | {"source": entry.id} for one in rows_of_evaluation(evaluation.artifacts[-1])]
    return _produced(made, cell, entry, rows + _rows_of_artifact(made), evaluation=evaluation)


def make_latency(run: Run, cell: Cell, *, threads: int | None = None) -> Entry[CellFacts]:
    """Return the cell's latency, measured interleaved with FP32; nothing else must run on the machine."""
    made = _made(run, cell, threads)
    entry = benching.bench_entry(made.run, made.compared)
    report = LatencyReport.open(entry.file(benching.REPORT))
    measured = report.subjects[-1]  # a fitted decision is measured as the artifact that it decides for
    own = rows_of_latency(measured, report.confidence, is_reference=len(report.subjects) == 1)
    rows = [one | {"source": entry.id} for one in own]
    return _produced(made, cell, entry, rows)


def _made(run: Run, cell: Cell, threads: int | None) -> Made:
    own = replace(run, config=cell.config)
    if own.config.eval.threads is None and threads is not None:
        own = own.with_options("eval", threads=threads)
    baseline = reference(replace(run, config=cell.baseline))
    artifact = baseline if cell.phase is Phase.BASELINES else quantize(own)
    if cell.decides:
        artifact = with_threshold(own, artifact, cast("Constraint | None", cell.constraint))
    return Made(own, artifact, baseline)


def _produced(
    made: Made, cell: Cell, source: Entry[Any], rows: Sequence[Row], *, evaluation: Evaluation | None = None
) -> Entry[CellFacts]:
    answered = [predict_split(made.run, one) for one in made.compared]
    shared = _shared(cell, made, answered, evaluation)
    part: Part = "latency" if evaluation is None else "answers"
    derivation = Derivation(
        kind=CELLS,
        slug=f"{cell.id.rpartition('-')[0]}-{part}",
        determined_by={"cell": cell.id, "part": part, "source": [source.id, source.digest], "table": VERSION},
        inputs={"artifact": made.artifact.id, part: source.id},
    )

    def build(out: Path) -> CellFacts:
        write_parquet(frame_of([{"study": "", **shared, **one} for one in rows]), out / ROWS)
        return CellFacts(
            cell=cell.id,
            name=cell.name,
            part=part,
            coordinates=cell.coordinates.to_dict(),
            sources={"artifact": made.artifact.id, part: source.id},
            rows=len(rows),
        )

    return made.run.produce(derivation, build, f"writing the {part} of the cell {cell.name}")


def _shared(cell: Cell, made: Made, answered: Sequence[ArtifactPredictions], evaluation: Evaluation | None) -> Row:
    """Return the columns that all rows of a cell have in common; latencies are of no split and no groups."""
    return {
        "cell": cell.id,
        "phase": cell.phase.value,
        **cell.coordinates.to_dict(),
        "act_bits": made.artifact.scheme.act_bits,
        "level": answered[-1].level.value,
        "split": "" if evaluation is None else evaluation.split,
        "by": "" if evaluation is None else ",".join(evaluation.by),
        "artifact": made.artifact.id,
        "predictions": answered[-1].entry.id,
        "reference": answered[0].entry.id if len(answered) > 1 else "",
        "notice": "" if evaluation is None else evaluation.notice,
    }


def _rows_of_artifact(made: Made) -> list[Row]:
    """Rows about the artifact itself: size, arithmetic, parameters, and the seconds that its stages took."""
    artifact, workspace = made.artifact, made.run.workspace
    entry = workspace.get(artifact.id, EXECUTABLE)
    arithmetic = predict_split(made.run, artifact).arithmetic
    inputs = entry.manifest.inputs
    if "artifact" in inputs:  # a decision: what it decides for was made first
        inputs = {**workspace.get(inputs["artifact"], EXECUTABLE).manifest.inputs, "decides": inputs["artifact"]}
    seconds = entry.manifest.seconds + sum(
        workspace.get(inputs[role]).manifest.seconds for role in (*MAKING, "decides") if role in inputs
    )
    model = model_of(workspace, artifact)
    figures = {
        "size_bytes": artifact.size_on_disk,
        "integer_share": arithmetic.integer_share,
        "total_macs": arithmetic.total_macs,
        "parameters": _parameters(model.path),
    }
    rows = [row(ALL, name, value, source=entry.id) for name, value in figures.items()]
    rows.append(row(ALL, "making_seconds", seconds, timed=True, source=entry.id))
    trained = workspace.get(model.id).manifest.inputs.get("checkpoint")
    if trained is not None:
        spent = workspace.get(trained).manifest.seconds
        rows.append(row(ALL, "training_seconds", spent, timed=True, source=trained))
    return rows


def _parameters(model: Path) -> int:
    """Count the numbers in the initializers of an ONNX file."""
    import onnx

    graph = onnx.load(model, load_external_data=False).graph
    return int(sum(math.prod(one.dims) for one in graph.initializer if np.prod(one.dims or [1]) > 0))
