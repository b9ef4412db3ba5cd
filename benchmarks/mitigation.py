"""How much of what naive quantization costs the worst-off group does a search win back, without training?

Usage: python benchmarks/mitigation.py [--workspace DIR] [--bits 4] [--limits max_group_drop=0.02] [--budget 20m] [...]

Any flag of `fqbench quantize` chooses data and model, as --model lcnet_100, --onnx FILE or --by skin_tone. Compared,
on one runtime and on the test split, are

* naive: extremes as ranges, rounding to nearest, no correction, the same bits everywhere;
* search: what `fqbench search --minimize size` chooses, seeing validation images only;
* no groups: uniform mixed precision by plain sensitivity. Layers are raised to 8 bits in the order of the KL divergence
  over all images that they would win back per byte, until the artifact is as large as the search's; the last one that
  is smaller is shown, too.

The worst-off group is the one that naive quantization costs most accuracy. Its share won back is 1 minus the ratio of
the two losses; the interval is a bootstrap over its images, paired. Synthfaces are drawn by a program: the table says
how mitigation behaves here and nothing about people.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import fqbench
from fqbench.catalogue import artifact_named
from fqbench.contracts.scheme import Scheme
from fqbench.data.samples import group_labels
from fqbench.run import Run
from fqbench.search.assignment import Assignment
from fqbench.search.diagnose import diagnose_scheme, settled_scheme
from fqbench.search.diagnosed import LAST
from fqbench.search.images import validation_images
from fqbench.search.request import request
from fqbench.search.search import search
from fqbench.stages.bench import bench
from fqbench.stages.export import export
from fqbench.stages.predict import predict_split
from fqbench.stages.quantize import quantize, reference
from fqbench.stages.read import read
from fqbench.terminal import TerminalReporter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fqbench.contracts.artifacts import Artifact

NAIVE = {"range_rule": "minmax", "weight_rule": "minmax", "bias_correction": "off", "rounding": "nearest"}
DRAWS = 4000
HIGH = 8


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
    smaller = larger = naive
    for count in range(1, len(order) + 1):
        smaller, larger = larger, quantize(run, Assignment(low, dict.fromkeys(order[:count], HIGH)).scheme)
        if larger.size_on_disk >= size:
            break
    return smaller, larger


def right(run: Run, artifact: Artifact) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    """Return whether each test image is answered correctly, and its group."""
    found = predict_split(run, artifact)
    labels = found.frame["label"].to_numpy()
    groups = group_labels(found.frame, read(run).features(run.config.eval.by))
    return (found.predictions.labels == labels).astype(np.float64), groups


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
    latency = bench(run, [fp32, *(one.artifact for one in candidates)])
    rows = []
    for one in candidates:
        loss = before[mine] - after[one.name][mine]
        half = 1.96 * float(loss.std(ddof=1)) / np.sqrt(mine.sum())
        share = won_back(before[mine], after["naive"][mine], after[one.name][mine])
        p50 = latency[one.artifact.id].p50_ms
        told = f"{share[0]:.0%} [{share[1]:.0%}, {share[2]:.0%}]" if one.name != "naive" else "-"
        rows.append(
            (
                f"{one.name} ({one.artifact.id})",
                f"{worst}: {100 * loss.mean():.1f} ± {100 * half:.1f}",
                told,
                f"{one.artifact.size_on_disk / 1e6:.2f} MB",
                f"{p50.value:.2f} [{p50.low:.2f}, {p50.high:.2f}] ms",
                f"{one.seconds:.0f} s",
            )
        )
    return rows


def clock(start: float) -> float:
    """Return the seconds since a time; what the workspace has already costs none."""
    return time.monotonic() - start


def main() -> None:
    """Run the comparison and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", default="mitigation_runs")
    parser.add_argument("--bits", type=int, default=4, choices=(8, 4, 2))
    parser.add_argument("--limits", default="max_group_drop=0.02")
    parser.add_argument("--budget", default="20m")
    asked, rest = parser.parse_known_args()
    flags = {
        name.removeprefix("--").replace("-", "_"): value for name, value in zip(rest[::2], rest[1::2], strict=True)
    }
    run = fqbench.experiment(asked.workspace, reporter=TerminalReporter(), **{"backend": "ort"} | flags)
    start = time.monotonic()
    naive = Candidate("naive", quantize(run, Scheme.model_validate({"bits": asked.bits, **NAIVE})), clock(start))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "limits.yaml"
        file.write_text(f"limits: {{{asked.limits.replace('=', ': ')}}}\n", encoding="utf-8")
        bits = ",".join(str(each) for each in sorted({HIGH, asked.bits}, reverse=True))
        wanted = request(file, minimize="size", backends=run.config.quantize.backend, bits=bits, budget=asked.budget)
        report, _entry = search(run, wanted)
    chosen = Candidate("search", artifact_named(run.workspace, report.chosen), report.seconds)
    start = time.monotonic()
    smaller, larger = without_groups(run, naive.artifact, chosen.artifact.size_on_disk)
    plain = [
        Candidate("no groups, smaller", smaller, clock(start)),
        Candidate("no groups, larger", larger, clock(start)),
    ]
    print(f"limits {asked.limits}, {'passed' if report.passed else 'NOT passed'} by the search's artifact\n")
    print("\t".join(("artifact", "loss of the worst-off group, points", "won back", "size", "p50", "time to find")))
    for row in rows_of(run, [naive, chosen, *plain]):
        print("\t".join(row))


if __name__ == "__main__":
    main()
