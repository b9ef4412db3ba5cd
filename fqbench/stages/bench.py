"""Bench: compare the latency of artifacts on inputs with known predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fqbench.catalogue import model_of
from fqbench.contracts.artifacts import Artifact
from fqbench.errors import InputError
from fqbench.execution import require_runtime, subject
from fqbench.latency.protocol import measure
from fqbench.latency.results import LatencyReport
from fqbench.latency.zero_weights import refuse_zero_weights
from fqbench.machine import this_machine
from fqbench.predictions import ArtifactPredictions
from fqbench.run import Run
from fqbench.stages.build import execution_of
from fqbench.stages.predict import predict_split
from fqbench.stages.prepare import prepare
from fqbench.workspace import Derivation, Entry
from fqbench.workspace.kinds import BENCHES, BenchFacts

REPORT = "latency.json"
INPUTS = 64


def bench(run: Run, artifacts: Sequence[Artifact], *, again: bool = False) -> LatencyReport:
    """Measure artifacts interleaved in one process, or return the stored measurement.

    Parameters
    ----------
    run : Run
        The experiment.
    artifacts : sequence of Artifact
        The first FP32 one is the reference of the ratios.
    again : bool
        Measure again, even if a stored result exists; earlier measurements are kept.

    Raises
    ------
    DataError
        A weight of a model is all zeros, so its latency would be meaningless.
    """
    return LatencyReport.open(bench_entry(run, artifacts, again=again).file(REPORT))


def bench_entry(run: Run, artifacts: Sequence[Artifact], *, again: bool = False) -> Entry[BenchFacts]:
    """Return the entry that `bench` opens."""
    if not artifacts:
        raise InputError("there is nothing to measure; make an artifact with `fqbench quantize` first.")
    for artifact in artifacts:
        require_runtime(artifact)  # an emulation has no latency: refuse before anything is run
    answered = [predict_split(run, artifact) for artifact in artifacts]
    repeat = 0
    while again and run.workspace.find(_derivation(run, answered, repeat)) is not None:
        repeat += 1

    def build(out: Path) -> BenchFacts:
        _measure(run, answered).save(out / REPORT)
        return BenchFacts(artifacts=tuple(artifact.id for artifact in artifacts), repeat=repeat)

    doing = f"measuring the latency of {len(artifacts)} artifact(s), interleaved"
    return run.produce(_derivation(run, answered, repeat), build, doing)


def _derivation(run: Run, answered: Sequence[ArtifactPredictions], repeat: int) -> Derivation[BenchFacts]:
    asked = run.config.bench
    return Derivation(
        kind=BENCHES,
        slug=f"{len(answered)}-artifacts-batch{asked.batch}-threads{asked.threads}",
        determined_by={
            "artifacts": [answer.artifact.digest for answer in answered],
            "predictions": [answer.entry.digest for answer in answered],
            "options": asked.model_dump(mode="json"),
            "backend_options": {name: dict(options) for name, options in run.config.backends.items()},
            "machine": this_machine().to_dict(),
            "repeat": repeat,
        },
        inputs={f"artifact{index}": answer.artifact.id for index, answer in enumerate(answered)},
    )


def _measure(run: Run, answered: Sequence[ArtifactPredictions]) -> LatencyReport:
    asked = run.config.bench
    models = [model_of(run.workspace, answer.artifact) for answer in answered]
    for path in {model.path for model in models}:
        refuse_zero_weights(path)
    for model in models:
        if model.batch_size(asked.batch) != asked.batch:
            raise InputError(
                f"{model.name} takes {model.batch} image(s) at a time only; leave --batch {asked.batch} out."
            )
    preprocessing = models[0].preprocessing
    if any(model.preprocessing != preprocessing for model in models):
        raise InputError(
            "these artifacts need different preprocessing; measure the artifacts of each model separately."
        )
    count = max(asked.batch, min(INPUTS, len(answered[0].frame)) // asked.batch * asked.batch)
    store = prepare(run, preprocessing).images
    rows = store.rows_of(answered[0].predictions.sample_ids[:count])
    subjects = [
        subject(
            execution_of(run, answer.artifact),
            answer.predictions.logits[: len(rows)],
            store.input_shape,
            batch=asked.batch,
            threads=asked.threads,
        )
        for answer in answered
    ]
    reference = next((answer.artifact.id for answer in answered if answer.artifact.scheme.label == "fp32"), None)
    return measure(
        subjects,
        store.batch(rows),
        batch=asked.batch,
        rounds=asked.rounds,
        seconds=asked.seconds,
        seed=asked.seed,
        reference=reference,
        reporter=run.reporter,
    )
