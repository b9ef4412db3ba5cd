"""Bench: the latency of artifacts against each other, on the inputs that their predictions are known for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fqbench import latency, plugins
from fqbench.artifacts import Artifact
from fqbench.latency import LatencyReport, Subject
from fqbench.machine import this_machine
from fqbench.quant.untrained import refuse_untrained
from fqbench.stages.predict import Answered, predict_split, usable
from fqbench.stages.prepare import prepare
from fqbench.stages.quantize import model_of
from fqbench.stages.run import Run
from fqbench.workspace import Entry, Recipe

STAGE_VERSION = 1
REPORT = "latency.json"
INPUTS = 64


def bench(run: Run, artifacts: Sequence[Artifact], *, repeat: int = 0) -> Entry:
    """Measure artifacts interleaved in one process, or return the measurement that was made before.

    Parameters
    ----------
    run : Run
        The experiment.
    artifacts : sequence of Artifact
        The first FP32 one is the reference of the ratios.
    repeat : int
        Another number is another measurement of the same things.

    Returns
    -------
    Entry
        With ``latency.json``.
    """
    answered = [predict_split(run, artifact) for artifact in artifacts]
    asked = run.config.bench
    recipe = Recipe(
        kind="benches",
        slug=f"{len(artifacts)}-artifacts-batch{asked.batch}-threads{asked.threads}",
        version=STAGE_VERSION,
        determined_by={
            "artifacts": [artifact.digest for artifact in artifacts],
            "predictions": [answer.entry.digest for answer in answered],
            "options": asked.model_dump(mode="json"),
            "machine": this_machine().to_dict(),
            "repeat": repeat,
        },
        inputs={f"artifact{index}": artifact.id for index, artifact in enumerate(artifacts)},
    )

    def build(out: Path) -> Mapping[str, object]:
        report = _measure(run, answered)
        (out / REPORT).write_text(json.dumps(report.to_dict(), indent=1) + "\n", encoding="utf-8")
        return {"artifacts": [artifact.id for artifact in artifacts], "repeat": repeat}

    return run.produce(recipe, build, f"measuring the latency of {len(artifacts)} artifact(s), interleaved")


def _measure(run: Run, answered: Sequence[Answered]) -> LatencyReport:
    asked = run.config.bench
    for path in {model_of(run.workspace, answer.artifact).path for answer in answered}:
        refuse_untrained(path)
    subjects, images = [], None
    for answer in answered:
        artifact = answer.artifact
        store = prepare(run, model_of(run.workspace, artifact).preprocessing)
        count = max(asked.batch, min(INPUTS, len(answer.frame)) // asked.batch * asked.batch)
        rows = store.images.rows_of(answer.predictions.sample_ids[:count])
        images = store.images.batch(rows)
        session = usable(plugins.backend(artifact.backend)).load(artifact, threads=asked.threads, device=asked.device)
        facts = {"bytes": artifact.size_on_disk, "threads": asked.threads, "backend": artifact.backend}
        subjects.append(Subject(artifact.id, artifact.label, session, answer.predictions.logits[: len(rows)], facts))
    assert images is not None  # noqa: S101  # there is at least one artifact, or `measure` refuses below
    reference = next((answer.artifact.id for answer in answered if answer.artifact.scheme.label == "fp32"), None)
    return latency.measure(
        subjects,
        images,
        batch=asked.batch,
        rounds=asked.rounds,
        seconds=asked.seconds,
        seed=asked.seed,
        reference=reference,
        reporter=run.reporter,
    )
