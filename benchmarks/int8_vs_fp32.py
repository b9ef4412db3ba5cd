"""INT8 against FP32 on ONNX Runtime, and fqbench's evaluation rate against the bare session, in one run.

Usage: python benchmarks/int8_vs_fp32.py [--workspace DIR] [--rounds N]

Uses the demo's model, trained first where the workspace does not have it. Ratios hold for this machine's CPU features.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import fqbench
from fqbench import plugins
from fqbench.catalogue import model_of
from fqbench.contracts.artifacts import Artifact
from fqbench.latency.protocol import Subject, measure
from fqbench.machine import this_machine, usable_cores
from fqbench.predictions import predict
from fqbench.run import Run
from fqbench.stages.prepare import prepare
from fqbench.stages.read import read
from fqbench.terminal import TerminalReporter

BATCH = 32


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, default=None)
    parser.add_argument("--rounds", type=int, default=300)
    options = parser.parse_args()
    run = fqbench.experiment(options.workspace, reporter=TerminalReporter())
    artifacts = [fqbench.reference(run), fqbench.quantize(run)]
    machine = this_machine()
    print(f"{machine.cpu}, {machine.cores} cores, {', '.join(machine.features)}")
    _latency(run, artifacts, options.rounds)
    for artifact in artifacts:
        _evaluation_rate(run, artifact)


def _latency(run: Run, artifacts: list[Artifact], rounds: int) -> None:
    store = prepare(run, model_of(run.workspace, artifacts[0]).preprocessing)
    images = store.images.batch(range(64))
    sessions = [plugins.backend(artifact.backend).load(artifact, threads=1, device="cpu") for artifact in artifacts]
    subjects = [Subject(a.id, a.label, session) for a, session in zip(artifacts, sessions, strict=True)]
    report = measure(subjects, images, rounds=rounds, reference=artifacts[0].id)
    for subject in report.subjects:
        speedup = subject.speedup
        assert speedup is not None
        print(
            f"{subject.label:20} p50 {subject.p50_ms.value:7.3f} ms, {speedup.value:5.2f}x FP32 "
            f"[{speedup.low:.2f}, {speedup.high:.2f}], int8 MACs {subject.arithmetic.integer_share:.1%}"
        )


def _evaluation_rate(run: Run, artifact: Artifact) -> None:
    """Compare `predict` on the test split with the session alone on the same batches, made beforehand, in turn."""
    store = prepare(run, model_of(run.workspace, artifact).preprocessing)
    _frame, rows = store.readable(read(run).split("test"))
    session = plugins.backend(artifact.backend).load(artifact, threads=usable_cores(), device="cpu")
    batches = list(store.images.batches(rows, BATCH))

    def bare() -> None:
        for batch in batches:
            session.run(batch)

    def evaluated() -> None:
        predict(session, store.images, rows, batch_size=BATCH)

    bare()
    pairs = [(_seconds(bare), _seconds(evaluated)) for _ in range(7)]
    rate = statistics.median(alone / whole for alone, whole in pairs)
    per_second = len(rows) / statistics.median(whole for _, whole in pairs)
    print(
        f"{artifact.label:20} evaluation {per_second:7.0f} images/s, {rate:.2f} of the bare session's rate (goal 0.9)"
    )


def _seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
