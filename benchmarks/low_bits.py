"""What weights of 4 and 2 bits cost after training: accuracy, latency next to INT8 in one measurement, size on disk.

Usage: python benchmarks/low_bits.py [--workspace DIR] [--models lcnet_100,resnet10t] [--docs] [...]

Networks as in defaults.py; any other flag of `fqbench bench` changes the experiment, as --images 3200 or --rounds 100.
Goals: 4-bit weights lose at most 1.5 points and 2-bit ones at most 6, and both take at most 5 % longer than INT8. A
network that misses a goal of accuracy is quantized once more with its first, depthwise and last layers at 8 bits; what
that wins back is the reason that is printed. Synthfaces are drawn by a program: the table says how quantization behaves
here and nothing about people.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from synthfaces_networks import DOCS, Loss, losses, parser, put, runs, setting, training

import fqbench
from fqbench.contracts.artifacts import Artifact
from fqbench.contracts.scheme import Override, Scheme
from fqbench.errors import InputError
from fqbench.latency.results import LatencyReport
from fqbench.machine import this_machine
from fqbench.quant.recipe import write_recipe
from fqbench.run import Run
from fqbench.stages.bench import bench
from fqbench.stages.read import read

CONVOLUTIONAL = (
    "lcnet_100", "squeezenet1_1", "resnet10t", "mobilenetv3_large_100", "mobilenet_v2", "efficientnet_b0", "resnet50",
)  # fmt: skip
GOALS = {4: 1.5, 2: 6.0}  # points, by bits of the weights
SLOWER = 1.05  # of INT8's time
KEPT_ROLES = ("first", "depthwise", "head")
HEADER = (
    "| network | images, epochs | weights | accuracy | loss, points | loss of the worst group, points | p50 ms "
    "| of INT8's | MB |\n"
    "|---|---|---|---:|---:|---|---:|---:|---:|"
)


def main() -> None:
    """Print the table, row by row, and write it into the documentation if asked."""
    options, rest = parser(__doc__, CONVOLUTIONAL).parse_known_args()
    rows, missed, notice = [], [], ""
    print(HEADER, flush=True)
    for name, run in runs(options, rest):
        notice = f"{read(run).notice} {setting(run)} on {this_machine().cpu}."
        found, reasons = _network(name, run)
        rows += found
        missed += reasons
        print("\n".join(found), flush=True)
    print("\n".join(["", *missed]))
    if options.docs:
        put(DOCS / "recipes.md", "low-bits", "\n".join([notice, "", HEADER, *rows, "", *missed]))


def _network(name: str, run: Run) -> tuple[list[str], list[str]]:
    """Return the rows of a network and the reasons of missed goals."""
    made = [fqbench.reference(run)]
    made += [fqbench.quantize(run.with_options("quantize", bits=bits)) for bits in (8, *GOALS)]
    lost = losses(run, made)
    report = bench(run, made)
    times = {one.id: one.p50_ms.value for one in report.subjects}
    rows, reasons = [], []
    for artifact, loss in zip(made, lost, strict=True):
        ratio = times[artifact.id] / times[made[1].id]
        bits = artifact.scheme.bits
        cells = [name, training(run), f"{bits} bits" if bits < 32 else "FP32"]
        cells += [f"{loss.accuracy:.1%}", f"{loss.overall:+.2f}"]
        cells += [loss.of_the_worst if bits < 32 else "", f"{times[artifact.id]:.3f}", f"{ratio:.2f}"]
        rows.append("| " + " | ".join([*cells, f"{artifact.size_on_disk / 1e6:.2f}"]) + " |")
        if bits in GOALS:
            reasons += _missed(name, run, artifact, loss)
            reasons += _slower(name, artifact, made, report) if ratio > SLOWER else []
    return rows, reasons


def _missed(name: str, run: Run, artifact: Artifact, loss: Loss) -> list[str]:
    """Quantize again with sensitive layers at 8 bits where the accuracy misses its goal, and say what that changes."""
    bits = artifact.scheme.bits
    if loss.overall <= GOALS[bits]:
        return []
    told = f"- {name}, {bits} bits: MISSED, {loss.overall:+.2f} points where {GOALS[bits]} were the goal"
    better = _kept(run, bits)
    if better is None:
        return [f"{told}."]
    kept = losses(run, [fqbench.reference(run), better])[1]
    roles = ", ".join(str(one.role) for one in better.scheme.overrides)
    return [
        f"{told}; with the layers {roles} at 8 bits it is "
        f"{kept.overall:+.2f}, at {better.size_on_disk / 1e6:.2f} instead of {artifact.size_on_disk / 1e6:.2f} MB."
    ]


def _kept(run: Run, bits: int) -> Artifact | None:
    """Return the artifact with sensitive layers at 8 bits; roles that the network does not have are left out."""
    for roles in (KEPT_ROLES, ("first", "head")):
        overrides = tuple(Override(role=role, bits=8) for role in roles)
        with tempfile.TemporaryDirectory(prefix="fqbench-low-bits-") as folder:
            file = Path(folder) / "kept.yaml"
            write_recipe(Scheme(bits=bits, range_rule="auto", overrides=overrides), file)
            try:
                return fqbench.quantize(run.with_options("quantize", recipe=file))
            except InputError:  # no layer is depthwise
                continue
    return None


def _slower(name: str, artifact: Artifact, made: Sequence[Artifact], report: LatencyReport) -> list[str]:
    """Say how much of the arithmetic of both is in integers, and what speaks against the figures."""
    shares = {one.id: one.arithmetic.integer_share for one in report.subjects}
    doubts = "; ".join(mark.text for one in report.subjects if one.id == artifact.id for mark in one.marks)
    doubts += "; ".join(mark.text for mark in report.marks)
    return [
        f"- {name}, {artifact.scheme.bits} bits: MISSED, slower than INT8 by more than 5 %; integer arithmetic "
        f"{shares[artifact.id]:.1%} next to INT8's {shares[made[1].id]:.1%}. {doubts}"
    ]


if __name__ == "__main__":
    main()
