"""What the clock adds to a runtime's own call: one session and the same images, bare and as `fqbench bench` times them.

Usage: python benchmarks/harness.py [--models resnet10t,resnet50] [--pairs 15] [--seconds 1] [--threads 1]

Bare is a loop around `InferenceSession.run` or `InferRequest.infer` with a reading of the clock before and after each
call. Under the clock is `fqbench.latency.protocol.measure` on the same session, answers checked. They take turns, who
begins is drawn for each pair, and each pair gives the ratio of their two medians (p50) and of their fastest tenths
(p10, which other programs disturb less). The table has the median of the ratios with the interval of its order
statistics; the verdict is that of p50, or of p10 where other programs took more than a tenth of the cores' time. One
artifact alone: several that take turns also take each other's cache, which is what they do in `fqbench bench`. The fast
model is resnet10t at 64 pixels, the slow one resnet50 at 224, both as INT8.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fqbench import plugins
from fqbench.contracts.scheme import Scheme
from fqbench.errors import UnavailableError
from fqbench.latency.noise import Glance, glance
from fqbench.latency.protocol import Subject, measure
from fqbench.latency.statistics import quantile_estimate
from fqbench.machine import this_machine
from fqbench.testing.planned import write_artifact
from fqbench.testing.study_models import study_model
from fqbench.testing.tiny_model import Pictures, calibration_set

if TYPE_CHECKING:
    from numpy.typing import NDArray

IMAGES = 64  # as many as `fqbench bench` goes through
FEWEST = 20
SCHEME = Scheme(bias_correction="off")
SIZES = {"resnet10t": 64, "resnet50": 224}
GOAL = 1.02
HEAD = (
    "model",
    "runtime",
    "bare p50",
    "p50 under the clock, of bare",
    "p10 of bare",
    "p10 added",
    "others",
    "under 2 %",
)
QUANTILES = (0.5, 0.1)
BUSY = 0.1


def main() -> None:
    """Print a row for each model and runtime."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(SIZES))
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=1.0, help="Of each loop, about.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--backends", default="ort,openvino")
    options = parser.parse_args()
    torch.set_num_threads(1)
    machine = this_machine()
    print(f"{machine.cpu}, {machine.cores} cores, {', '.join(machine.features)}; {options.pairs} pairs\n")
    print("| " + " | ".join(HEAD) + " |\n|---|---|---:|---:|---:|---:|---:|---|", flush=True)
    for name in options.models.split(","):
        for backend in options.backends.split(","):
            print(_row(name, backend, options), flush=True)


def _row(name: str, backend: str, options: argparse.Namespace) -> str:
    size = SIZES[name]
    images = np.random.default_rng(0).standard_normal((IMAGES, 3, size, size), dtype=np.float32)
    with TemporaryDirectory(prefix="fqbench-harness-") as scratch:
        for folder in ("model", "artifact"):
            Path(scratch, folder).mkdir()
        model = study_model(name, Path(scratch, "model"), size=size)
        calibration = calibration_set(n=16, images=Pictures(images))
        artifact = write_artifact(plugins.backend(backend), model, SCHEME, Path(scratch, "artifact"), calibration)
        try:
            session = plugins.backend(backend).load(artifact, threads=options.threads, device="cpu")
        except UnavailableError as error:
            return f"| {name}, {size} px | {backend} | left out: {error} | | | |"
        before = glance()
        bare, clocked = np.moveaxis(_pairs(session, _own_call(session), images, options), 1, 0)
        others = _others(before, glance())
    p50, p10 = (quantile_estimate(column, 0.5, 0.95) for column in (clocked / bare).T)
    judged = p10 if others > BUSY else p50
    verdict = "yes" if judged.high < GOAL else "no" if judged.low >= GOAL else "undecided"
    cells = [f"{name}, {size} px", backend, f"{np.median(bare[:, 0]):.3f} ms"]
    cells += [f"{one.value:.3f}x [{one.low:.3f}, {one.high:.3f}]" for one in (p50, p10)]
    cells += [f"{np.median(clocked[:, 1] - bare[:, 1]) * 1e3:+.1f} µs", f"{others:.0%}", verdict]
    return "| " + " | ".join(cells) + " |"


def _own_call(session: Any) -> Callable[[NDArray[np.float32]], Any]:
    """Return the call of the runtime itself that a session of ours makes, without anything of ours around it."""
    if hasattr(session, "_requests"):
        infer = session._requests[1].infer
        return lambda images: infer([images], share_inputs=True, share_outputs=True)
    run, name = session._run, session._input
    return lambda images: run(None, {name: images})


def _pairs(
    session: Any, call: Callable[[NDArray[np.float32]], Any], images: NDArray[np.float32], options: argparse.Namespace
) -> NDArray[np.float64]:
    """Return milliseconds (pairs, 2, quantiles): of the bare loop, and under the clock."""
    expected = np.concatenate([session.run(image[None]) for image in images])
    start = time.perf_counter()
    for image in images:
        call(image[None])
    calls = max(FEWEST, round(options.seconds * len(images) / (time.perf_counter() - start)))
    subject = Subject("subject", "subject", session, expected)

    def bare() -> list[int]:
        return _bare(call, images, calls)

    def clocked() -> list[int]:
        report = measure([subject], images, rounds=calls, seconds=0, replicates=100)
        return [one.nanoseconds for one in report["subject"].runs if not one.warmup]

    generator, found = np.random.default_rng(0), np.empty((options.pairs, 2, len(QUANTILES)))
    for pair in found:
        for which in generator.permutation(2):
            pair[which] = np.quantile((bare, clocked)[which](), QUANTILES) / 1e6
    return found


def _bare(call: Callable[[NDArray[np.float32]], Any], images: NDArray[np.float32], calls: int) -> list[int]:
    """Return the nanoseconds of the calls of a loop around the runtime's call, after some warm-up calls."""
    inputs, times, clock = [image[None] for image in images], [], time.perf_counter_ns
    for number in range(2 * FEWEST):
        call(inputs[number % len(inputs)])
    gc.collect()
    gc.disable()
    try:
        for number in range(calls):
            given = inputs[number % len(inputs)]
            start = clock()
            call(given)
            times.append(clock() - start)
    finally:
        gc.enable()
    return times


def _others(before: Glance, after: Glance) -> float:
    """Return the share of the cores' time that other programs took."""
    spent = (after.busy - before.busy) - (after.own - before.own)
    return max(0.0, spent) / (after.total - before.total)


if __name__ == "__main__":
    main()
