"""How much of what naive quantization costs the worst-off group does a search win back, without training?

Usage: python benchmarks/mitigation.py [--workspace DIR] [--bits 4] [--limits max_group_drop=0.02] [--budget 20m]
           [--minimize size|latency] [--allow-training] [--naive-act-bits 4] [...]

Any flag of `fqbench quantize` chooses data and model, as --model lcnet_100, --onnx FILE or --by skin_tone. Compared,
on one runtime and on the test split, are

* naive: extremes as ranges, rounding to nearest, no correction, the same bits everywhere; with --naive-act-bits 4 its
  activations have 4 bits, which is simulated and not timed. Nothing else has, since a search takes what kernels run;
* search: what `fqbench search` chooses, seeing validation images only; with --allow-training also what it chooses where
  it may train. The time of the latter is that of both, since it finds the trials of the former done;
* no groups: uniform mixed precision by plain sensitivity. Layers are raised to 8 bits (from 8 bits, to float) in the
  order of the KL divergence over all images that they would win back per byte, until the artifact is as large as the
  search's; the last one that is smaller is shown, too;
* nncf: `nncf.quantize_with_accuracy_control` with the accuracy of the worst-off group as its metric, the same drop, the
  same calibration images, and all validation images that the search sees. Its model runs on OpenVINO, so give
  --backend openvino to compare runtimes that are the same. It quantizes to 8 bits, so at fewer bits it is left out, and
  where nncf is not installed.

The worst-off group is the one that naive quantization costs most accuracy. Its share won back is 1 minus the ratio of
the two losses; the interval is a bootstrap over its images, paired. Latencies are those of one image, interleaved, in
one process. Synthfaces are drawn by a program: the table says
how mitigation behaves here and nothing about people.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from flags import flags_of

import fqbench
from fqbench.catalogue import artifact_named
from fqbench.contracts.artifacts import Artifact
from fqbench.contracts.scheme import Scheme
from fqbench.data.samples import group_labels
from fqbench.execution import execution, logits_of
from fqbench.latency.interval import Interval
from fqbench.latency.protocol import Subject, measure
from fqbench.latency.results import LatencyReport, SubjectFacts
from fqbench.run import Run
from fqbench.search.assignment import FLOAT, Assignment
from fqbench.search.diagnose import diagnose_scheme, settled_scheme
from fqbench.search.diagnosed import LAST
from fqbench.search.images import validation_images
from fqbench.search.request import request
from fqbench.search.search import search
from fqbench.search.trials import has_speed
from fqbench.stages.export import export
from fqbench.stages.observe import observe
from fqbench.stages.predict import predict_split
from fqbench.stages.prepare import prepare
from fqbench.stages.quantize import quantize, reference
from fqbench.stages.read import read
from fqbench.terminal import TerminalReporter

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAIVE = {"range_rule": "minmax", "weight_rule": "minmax", "bias_correction": "off", "rounding": "nearest"}
DRAWS = 4000
HIGH = 8
PEER, PEER_RUNTIME, DROP = "nncf", "openvino", "max_group_drop"
TIMED = 64  # images that latencies are measured on
BATCH = 32


@dataclass(frozen=True)
class Candidate:
    """One artifact, and the seconds that it took to find."""

    name: str
    artifact: Artifact
    seconds: float


def without_groups(run: Run, naive: Artifact, size: int) -> tuple[Artifact, Artifact]:
    """Return what plain sensitivity gives: the last artifact that is smaller than ``size``, and the next one."""
    low = settled_scheme(run, naive.id)
    images = validation_images(run, export(run)).few(256)
    found = diagnose_scheme(run, naive, low, images, sides=("both",), ways=(LAST,))
    gains = {
        layer.name: layer.effect("both", LAST)[-1].kl_divergence.value / layer.bytes
        for layer in found.layers
        if layer.float_bytes
    }
    order = sorted(gains, key=lambda name: -gains[name])
    raised = HIGH if low.bits < HIGH else FLOAT
    smaller = larger = naive
    for count in range(1, len(order) + 1):
        smaller, larger = larger, quantize(run, Assignment(low, dict.fromkeys(order[:count], raised)).scheme)
        if larger.size_on_disk >= size:
            break
    return smaller, larger


def worst_group_accuracy(right: NDArray[np.bool_], groups: NDArray[np.str_]) -> float:
    """Return the accuracy of the group with the lowest one."""
    return min(float(right[groups == name].mean()) for name in np.unique(groups))


def accuracy_controlled(run: Run, drop: float, out: Path) -> Candidate | str:
    """Return what NNCF makes of the FP32 model, or why it cannot be asked."""
    if run.config.quantize.bits != HIGH:
        return f"{PEER} is left out: it quantizes to {HIGH} bits."
    try:
        import nncf
        import openvino
    except ImportError as error:
        return f"{PEER} is left out: {error}; `pip install nncf openvino` brings it."
    nncf.set_log_level(logging.ERROR)
    model = export(run)
    calibration, _record = observe(run, model)
    images = validation_images(run, model)

    def validated(compiled: Any, items: Iterable[int]) -> tuple[float, list[float]]:
        places = np.fromiter(items, dtype=np.int64)
        answered = [compiled(images.store.batch(images.rows[place : place + 1]))[0].argmax() for place in places]
        right = np.asarray(answered) == images.labels[places]
        return worst_group_accuracy(right, images.groups[places]), [float(one) for one in right]

    start = time.monotonic()
    made = nncf.quantize_with_accuracy_control(
        openvino.Core().read_model(model.path),
        nncf.Dataset([calibration.images.batch(calibration.rows[[place]]) for place in range(len(calibration))]),
        nncf.Dataset(list(range(len(images)))),
        validated,
        max_drop=drop,
        subset_size=len(calibration),
    )
    openvino.save_model(made, out / "model.xml", compress_to_fp16=False)
    details = {"input_shape": list(model.input_shape)}
    artifact = Artifact(PEER_RUNTIME, Scheme.float32(), out, ("model.xml", "model.bin"), details)
    return Candidate(PEER, artifact, clock(start))


def right(run: Run, artifact: Artifact) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    """Return whether each test image is answered correctly, and its group."""
    samples = read(run)
    store = prepare(run, export(run).preprocessing)
    frame, rows = store.readable(samples.split("test"))
    if artifact.id:
        answered = predict_split(run, artifact).predictions.labels
    else:
        logits = logits_of(artifact, store.images.batches(rows, BATCH))
        assert logits is not None, "it has just been made for a runtime that is here"
        answered = logits.argmax(axis=1)
    groups = group_labels(frame, samples.features(run.config.eval.by))
    return (answered == frame["label"].to_numpy()).astype(np.float64), groups


def timed(run: Run, artifacts: Sequence[tuple[str, Artifact]]) -> LatencyReport:
    """Measure artifacts on the same test images, interleaved; the first one is the reference."""
    store = prepare(run, export(run).preprocessing)
    _frame, rows = store.readable(read(run).split("test"))
    asked, threads = run.config.bench, run.config.bench.threads[0]
    subjects = [
        Subject(
            name,
            name,
            execution(artifact).load(threads),
            facts=SubjectFacts(artifact.backend, threads=threads, bytes=artifact.size_on_disk),
        )
        for name, artifact in artifacts
    ]
    images = store.images.batch(rows[:TIMED])
    return measure(subjects, images, rounds=asked.rounds, seconds=asked.seconds, reference=subjects[0].id)


def won_back(
    fp32: NDArray[np.float64], naive: NDArray[np.float64], other: NDArray[np.float64]
) -> tuple[float, float, float]:
    """Return the share of the loss that is won back with a 95 % interval, from answers to the same images."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(fp32), (DRAWS, len(fp32)))
    loss, left = (fp32 - naive)[drawn].mean(axis=1), (fp32 - other)[drawn].mean(axis=1)
    shares = 1 - left[loss > 0] / loss[loss > 0]
    low, high = np.quantile(shares, [0.025, 0.975])
    return float(1 - (fp32 - other).mean() / (fp32 - naive).mean()), float(low), float(high)


def rows_of(run: Run, candidates: Sequence[Candidate]) -> list[tuple[str, ...]]:
    """Return the table: loss of the worst-off group, share won back, size, latency, seconds."""
    fp32 = reference(run)
    before, groups = right(run, fp32)
    after = {one.name: right(run, one.artifact)[0] for one in candidates}
    worst = max(np.unique(groups), key=lambda name: float((before - after["naive"])[groups == name].mean()))
    mine = groups == worst
    lost = (before - after["naive"])[mine].sum()
    real = [(one.name, one.artifact) for one in candidates if has_speed(one.artifact.backend, one.artifact.scheme)]
    latency = timed(run, [("fp32", fp32), *real])
    rows = []
    for one in candidates:
        loss = before[mine] - after[one.name][mine]
        half = 1.96 * float(loss.std(ddof=1)) / np.sqrt(mine.sum())
        told = "-"
        if one.name != "naive" and lost > 0:
            share = won_back(before[mine], after["naive"][mine], after[one.name][mine])
            told = f"{share[0]:.0%} [{share[1]:.0%}, {share[2]:.0%}]"
        p50, speedup = "simulated", "-"
        if one.name in dict(real):
            p50, speedup = interval_of(latency[one.name].p50_ms, 3) + " ms", interval_of(latency[one.name].speedup, 2)
        rows.append(
            (
                f"{one.name} ({one.artifact.id or one.artifact.backend})",
                f"{worst}: {100 * loss.mean():.1f} ± {100 * half:.1f}",
                told,
                f"{one.artifact.size_on_disk / 1e6:.2f} MB",
                p50,
                speedup,
                f"{one.seconds:.0f} s",
            )
        )
    return rows


def interval_of(one: Interval | None, digits: int) -> str:
    """Return a value and its interval as text."""
    assert one is not None, "the first artifact is the reference"
    return f"{one.value:.{digits}f} [{one.low:.{digits}f}, {one.high:.{digits}f}]"


def clock(start: float) -> float:
    """Return the seconds since a time; what the workspace has already costs none."""
    return time.monotonic() - start


def searched(run: Run, asked: argparse.Namespace, *, training: bool) -> tuple[Candidate, bool]:
    """Return what the search chooses, and whether the test split confirms it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "limits.yaml"
        file.write_text(f"limits: {{{asked.limits.replace('=', ': ')}}}\n", encoding="utf-8")
        wanted = request(
            file,
            minimize=asked.minimize,
            backends=run.config.quantize.backend,
            bits=",".join(str(each) for each in sorted({HIGH, asked.bits}, reverse=True)),
            budget=asked.budget,
            allow_training=training,
        )
        report, _entry = search(run, wanted)
    name = "search, may train" if training else "search"
    return Candidate(name, artifact_named(run.workspace, report.chosen), report.seconds), report.passed


def main() -> None:
    """Run the comparison and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", default="mitigation_runs")
    parser.add_argument("--bits", type=int, default=4, choices=(8, 4, 2))
    parser.add_argument("--limits", default=f"{DROP}=0.02")
    parser.add_argument("--budget", default="20m")
    parser.add_argument("--minimize", default="size", choices=("size", "latency"))
    parser.add_argument("--allow-training", action="store_true")
    parser.add_argument("--naive-act-bits", type=int, default=8, choices=(8, 4, 2))
    asked, rest = parser.parse_known_args()
    options: dict[str, Any] = {"backend": "ort", "bits": asked.bits} | flags_of(rest)
    run = fqbench.experiment(asked.workspace, reporter=TerminalReporter(), **options)
    start = time.monotonic()
    scheme = Scheme.model_validate({"bits": asked.bits, "act_bits": asked.naive_act_bits, **NAIVE})
    naive = Candidate("naive", quantize(run, scheme), clock(start))
    chosen, passed = searched(run, asked, training=False)
    found = [(chosen, passed)]
    if asked.allow_training:
        trained, passed = searched(run, asked, training=True)
        found.append((replace(trained, seconds=chosen.seconds + trained.seconds), passed))
    start = time.monotonic()
    smaller, larger = without_groups(run, naive.artifact, chosen.artifact.size_on_disk)
    candidates = [
        naive,
        *(one for one, _passed in found),
        Candidate("no groups, smaller", smaller, clock(start)),
        Candidate("no groups, larger", larger, clock(start)),
    ]
    limits = dict(part.split("=") for part in asked.limits.split(", "))
    with tempfile.TemporaryDirectory() as folder:
        peer = (
            accuracy_controlled(run, float(limits[DROP]), Path(folder))
            if DROP in limits
            else f"{PEER} is left out: its metric is the worst group's accuracy, which no {DROP} limits."
        )
        candidates += [peer] if isinstance(peer, Candidate) else []
        rows = rows_of(run, candidates)
    for one, passed in found:
        print(f"limits {asked.limits}: {'passed' if passed else 'NOT passed'} by the artifact of: {one.name}")
    print()
    print("\t".join(("artifact", "loss of the worst-off group, points", "won back", "size", "p50", "speed-up", "time")))
    for row in rows:
        print("\t".join(row))
    if isinstance(peer, str):
        print(peer)


if __name__ == "__main__":
    main()
