"""How much of what quantization after training loses does training with fake quantization win back?

Usage: python benchmarks/qat_recovery.py [--workspace DIR] [--seeds 0,1,2] [--bits 4/8,4/4,2/8] [...]

Bits are those of weights/activations. The experiment is the demo's (synthfaces, resnet10t): the FP32 model is trained
once a seed, quantized after training, and trained on with fake quantization from the same weights; any other flag of
`fqbench quantize`, as --range-rule mse or --images 2000, changes it. Every figure is a mean over the seeds, and its
interval is from a bootstrap over seeds and images. Synthfaces are drawn by a program: the table says how training
behaves here and nothing about people.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from flags import flags_of

import fqbench
from fqbench.contracts.artifacts import Artifact
from fqbench.data.samples import group_labels
from fqbench.fairness.hierarchy import Design, Patterns, Spread, hierarchical_change
from fqbench.fairness.metrics import accuracy
from fqbench.predicted_labels import predicted_labels
from fqbench.run import Run
from fqbench.stages.predict import predict_split
from fqbench.stages.read import read
from fqbench.terminal import TerminalReporter

if TYPE_CHECKING:
    from numpy.typing import NDArray

GROUPS = "skin_tone,age_group"
METHODS = ("ptq_static", "qat")


@dataclass(frozen=True)
class Row:
    """One group: what is lost after training, what is lost after QAT, and the difference of the two."""

    group: str
    images: int
    fp32: float
    ptq: Spread
    qat: Spread
    won: Spread

    @property
    def verdict(self) -> str:
        """Whether at least half of the loss is won back; said only where there is a loss."""
        if self.ptq.high >= 0:
            return "no significant loss"
        share = self.won.value / -self.ptq.value
        return f"{share:.0%}, {'at least half' if share >= 0.5 else 'LESS THAN HALF'}"


def main() -> None:
    """Print a table for each pair of bits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, default=None)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--bits", default="4/8,4/4,2/8", help="of weights/activations")
    options, rest = parser.parse_known_args()
    flags: dict[str, Any] = {"backend": "torch_fx", "calib_by": GROUPS, "by": GROUPS} | flags_of(rest)
    run = fqbench.experiment(options.workspace, reporter=TerminalReporter(), **flags)
    seeds = [int(seed) for seed in options.seeds.split(",")]
    print(f"{read(run).notice}\n{run.config.eval.split} split, training seeds {options.seeds}; points of accuracy")
    for pair in options.bits.split(","):
        bits, act_bits = map(int, pair.split("/"))
        _print(pair, compared(run.with_options("quantize", bits=bits, act_bits=act_bits), seeds))


def compared(run: Run, seeds: Sequence[int]) -> list[Row]:
    """Return all groups, all images last."""
    artifacts: list[Artifact] = []
    columns: dict[str, dict[int, int]] = {name: {} for name in ("fp32", *METHODS)}
    answered = []
    for seed in seeds:
        seeded = run.with_options("train", seed=seed)
        made = [fqbench.reference(seeded)]
        made += [fqbench.quantize(seeded.with_options("quantize", method=method)) for method in METHODS]
        for name, artifact in zip(columns, made, strict=True):
            columns[name][seed] = len(artifacts)
            artifacts.append(artifact)
            answered.append(predict_split(seeded, artifact))
    samples = read(run)
    decided = predicted_labels(answered, samples)
    frame = decided[0].frame
    groups = group_labels(frame, samples.features(run.config.eval.by))
    answers = np.column_stack([one.labels for one in decided])
    patterns = Patterns.count(frame["label"].to_numpy(dtype=np.int64), answers, groups, len(samples.classes))
    return [_row(run, patterns, columns, place) for place in (*range(len(patterns.groups)), None)]


def _row(run: Run, patterns: Patterns, columns: dict[str, dict[int, int]], place: int | None) -> Row:
    statistic = _accuracy_of(place)
    inside = np.full(len(patterns.rows), fill_value=True) if place is None else patterns.rows[:, 0] == place

    def change(before: str, after: str) -> Spread:
        candidates = {seed: (column,) for seed, column in columns[after].items()}
        asked = run.config.eval
        return hierarchical_change(
            patterns, Design(columns[before], candidates), statistic, confidence=asked.confidence, seed=asked.seed
        )

    figures = statistic(patterns.tables(patterns.counts.astype(np.float64)))
    return Row(
        group="all" if place is None else patterns.groups[place],
        images=int(patterns.counts[inside].sum()),
        fp32=float(figures[list(columns["fp32"].values())].mean()),
        ptq=change("fp32", "ptq_static"),
        qat=change("fp32", "qat"),
        won=change("ptq_static", "qat"),
    )


def _accuracy_of(place: int | None) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    def statistic(tables: NDArray[np.float64]) -> NDArray[np.float64]:
        part = tables.sum(axis=1, keepdims=True) if place is None else tables[:, [place]]
        return np.asarray(accuracy(part)[:, 0])

    return statistic


def _print(pair: str, rows: Sequence[Row]) -> None:
    print(f"\n{pair} bits (weights/activations)\n")
    print("| group | images | FP32 | after PTQ | after QAT | QAT vs. PTQ | recovered |")
    print("|---|---:|---:|---|---|---|---|")
    for row in rows:
        cells = [row.group, str(row.images), f"{100 * row.fp32:.1f} %"]
        cells += [_points(row.ptq), _points(row.qat), _points(row.won), row.verdict]
        print("| " + " | ".join(cells) + " |", flush=True)


def _points(spread: Spread) -> str:
    return f"{100 * spread.value:+.1f} [{100 * spread.low:+.1f}, {100 * spread.high:+.1f}]"


if __name__ == "__main__":
    main()
