"""Bench: compare the latency of artifacts on inputs with known predictions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fqbench.catalogue import model_of
from fqbench.contracts.artifacts import Artifact
from fqbench.errors import InputError
from fqbench.execution import Execution, require_runtime, subject
from fqbench.latency.further import with_further
from fqbench.latency.mlperf import require_loadgen
from fqbench.latency.protocol import measure
from fqbench.latency.results import LatencyReport
from fqbench.latency.zero_weights import refuse_zero_weights
from fqbench.machine import this_machine, usable_cores
from fqbench.predictions import ArtifactPredictions
from fqbench.run import Run
from fqbench.stages.build import execution_of
from fqbench.stages.predict import predict_split
from fqbench.stages.prepare import prepare
from fqbench.workspace import Derivation, Entry
from fqbench.workspace.kinds import BENCHES, BenchFacts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fqbench.config import BenchOptions

REPORT = "latency.json"
INPUTS = 64


def bench_grid(run: Run, artifacts: Sequence[Artifact], *, again: bool = False) -> tuple[LatencyReport, ...]:
    """Measure artifacts as `bench` does, for every configured batch size and number of threads."""
    asked = run.config.bench
    runs = [
        run.with_options("bench", batch=(batch,), threads=(threads,))
        for threads in asked.threads
        for batch in asked.batch
    ]
    for one in runs:
        combination(one.config.bench)  # refuse before anything is run
    return tuple(bench(one, artifacts, again=again) for one in runs)


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
    InputError
        Several batch sizes or numbers of threads, or more threads than cores.
    """
    return LatencyReport.open(bench_entry(run, artifacts, again=again).file(REPORT))


def bench_entry(run: Run, artifacts: Sequence[Artifact], *, again: bool = False) -> Entry[BenchFacts]:
    """Return the entry that `bench` opens."""
    combination(run.config.bench)
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
    batch, threads = combination(asked)
    return Derivation(
        kind=BENCHES,
        slug=f"{len(answered)}-artifacts-batch{batch}-threads{threads}",
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
    batch, _threads = combination(run.config.bench)
    if run.config.bench.mlperf:
        require_loadgen()  # refuse before anything is measured
    models = [model_of(run.workspace, answer.artifact) for answer in answered]
    for path in {model.path for model in models}:
        refuse_zero_weights(path)
    for model in models:
        if model.batch_size(batch) != batch:
            raise InputError(f"{model.name} takes {model.batch} image(s) at a time only; leave --batch {batch} out.")
    preprocessing = models[0].preprocessing
    if any(model.preprocessing != preprocessing for model in models):
        raise InputError(
            "these artifacts need different preprocessing; measure the artifacts of each model separately."
        )
    count = max(batch, min(INPUTS, len(answered[0].frame)) // batch * batch)
    store = prepare(run, preprocessing).images
    rows = store.rows_of(answered[0].predictions.sample_ids[:count])
    executions = [execution_of(run, answer.artifact) for answer in answered]
    expected = [answer.predictions.logits[: len(rows)] for answer in answered]
    return measure_executions(run, executions, expected, store.batch(rows))


def measure_executions(
    run: Run, executions: Sequence[Execution], expected: Sequence[NDArray[np.float32]], images: NDArray[np.float32]
) -> LatencyReport:
    """Measure what can be executed here, with everything that the options ask for.

    Parameters
    ----------
    run : Run
        Its bench options and its reporter are used.
    executions : sequence of Execution
        The first FP32 one is the reference.
    expected : sequence of ndarray of float32, shape (K, classes)
        What each predicted for the images.
    images : ndarray of float32, shape (K, 3, H, W)
        Prepared inputs.
    """
    asked = run.config.bench
    batch, threads = combination(asked)
    subjects = [
        subject(running, known, images.shape[1:], batch=batch, threads=threads, cold_starts=asked.cold_starts)
        for running, known in zip(executions, expected, strict=True)
    ]
    artifacts = [running.artifact for running in executions]
    report = measure(
        subjects,
        images,
        batch=batch,
        rounds=asked.rounds,
        seconds=asked.seconds,
        seed=asked.seed,
        reference=next((artifact.id for artifact in artifacts if artifact.scheme.label == "fp32"), None),
        reporter=run.reporter,
    )
    loaders = [partial(running.load, threads) for running in executions]
    return with_further(report, subjects, images, loaders=loaders, asked=asked, reporter=run.reporter)


def combination(asked: BenchOptions) -> tuple[int, int]:
    """Return the one batch size and the one number of threads that were asked for.

    Raises
    ------
    InputError
        There are several, or more threads than cores.
    """
    if len(asked.batch) * len(asked.threads) != 1:
        raise InputError(
            "one measurement has one batch size and one number of threads; only `fqbench bench` takes several, "
            "so name one of each with --batch and --threads."
        )
    (batch,), (threads,) = asked.batch, asked.threads
    if threads > usable_cores():
        raise InputError(
            f"--threads {threads} is more than the {usable_cores()} core(s) that this process may use; lower it."
        )
    return batch, threads
