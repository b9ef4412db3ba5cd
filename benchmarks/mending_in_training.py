"""Does an objective of QAT help the groups that quantization harms, and what does it cost?

Usage: python benchmarks/mending_in_training.py [--workspace DIR] [--seeds 0,1,2] [--objectives A,B] [...]

The experiment is like the demo's, but smaller (synthfaces of 32 pixels, timm's test_resnet). The FP32 model is trained
once a seed and trained on with fake quantization, plainly and with each objective, from the same weights and with the
same seed. Any other flag of `fqbench quantize` changes it, as --images 6400 --model resnet10t, --bits 8 or
--penalty-weight 1. Every figure is a mean over the seeds on the test split, and its interval is from a bootstrap over
seeds and images, without a correction for the number of comparisons. Synthfaces are drawn by a program: the table says
how training behaves here and nothing about people.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from flags import flags_of

import fqbench
from fqbench.config import ObjectiveOptions
from fqbench.data.samples import group_labels
from fqbench.fairness.hierarchy import Design, Patterns, Spread, hierarchical_change
from fqbench.fairness.metrics import accuracy, false_positive_rate, true_positive_rate
from fqbench.models.objectives.compose import OPTIONS, parts_of
from fqbench.predicted_labels import predicted_labels
from fqbench.run import Run
from fqbench.stages.predict import predict_split
from fqbench.stages.read import read
from fqbench.terminal import TerminalReporter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]

PLAIN = "erm"
OBJECTIVES = "distillation,equalized-odds,distillation+equalized-odds"
DEFAULTS: Mapping[str, Any] = {
    "backend": "ort", "method": "qat", "bits": 4, "act_bits": 4, "qat_epochs": 2, "best_by": "last",
    "model": "test_resnet", "images": 3200, "image_size": 32, "test_images": 4800, "epochs": 8,
    "train_precision": "fp32", "by": "skin_tone", "train_by": "skin_tone",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One objective on one measure: its value, the change from FP32 and from plain QAT."""

    measure: str
    objective: str
    value: float
    from_fp32: Spread
    from_plain: Spread | None

    @property
    def verdict(self) -> str:
        """Whether an effect was shown, by the interval of the change from plain QAT."""
        if self.from_plain is None:
            return "-"
        if self.from_plain.low <= 0 <= self.from_plain.high:
            return "no effect could be shown"
        is_gap = self.measure.startswith("gap")
        return "better" if (self.from_plain.value > 0) != is_gap else "worse"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, default=None)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--objectives", default=OBJECTIVES)
    options, rest = parser.parse_known_args()
    given = DEFAULTS | flags_of(rest)
    objectives = [PLAIN, *options.objectives.split(",")]
    # The options of an objective are refused where no objective has them, so one is named from the start.
    run = fqbench.experiment(
        options.workspace, reporter=TerminalReporter(), **(given | {"qat_objective": objectives[-1]})
    )
    seeds = [int(seed) for seed in options.seeds.split(",")]
    asked = ", ".join(f"{name} {value}" for name, value in given.items())
    print(f"{read(run).notice}\n{asked}; training seeds {options.seeds}")
    rows = compared(run, objectives, seeds)
    print("\n| measure | QAT objective | value | change from FP32 | change from plain QAT | verdict |")
    print("|---|---|---:|---|---|---|")
    for row in rows:
        cells = [row.measure, row.objective, f"{100 * row.value:.1f} %", _points(row.from_fp32)]
        cells += ["-" if row.from_plain is None else _points(row.from_plain), row.verdict]
        print("| " + " | ".join(cells) + " |", flush=True)


def compared(run: Run, objectives: Sequence[str], seeds: Sequence[int]) -> list[Row]:
    """Return every objective on every group, on all images and on the gap."""
    columns: dict[str, dict[int, int]] = {name: {} for name in ("fp32", *objectives)}
    answered = []
    for seed in seeds:
        seeded = run.with_options("train", seed=seed)
        made = [fqbench.reference(seeded)]
        for name in objectives:
            made.append(fqbench.quantize(_with_objective(seeded, name)))
        for name, artifact in zip(columns, made, strict=True):
            columns[name][seed] = len(answered)
            answered.append(predict_split(seeded, artifact))
    samples = read(run)
    decided = predicted_labels(answered, samples)
    frame = decided[0].frame
    groups = group_labels(frame, samples.features(run.config.eval.by))
    answers = np.column_stack([one.labels for one in decided])
    patterns = Patterns.count(frame["label"].to_numpy(dtype=np.int64), answers, groups, len(samples.classes))
    measures: dict[str, Statistic] = {f"accuracy, {group}": _accuracy(at) for at, group in enumerate(patterns.groups)}
    measures |= {"accuracy, all": _accuracy(None), "gap of equalized odds": _odds_gap}
    return [_row(run, patterns, columns, measured, name) for measured in measures.items() for name in objectives]


def _with_objective(run: Run, name: str) -> Run:
    """Return the run with an objective of QAT, and of the options only its own: others would be refused."""
    asked = run.config.objectives
    own = {option for part in parts_of(name) for option in OPTIONS.get(part, ())} & asked.model_fields_set
    options = ObjectiveOptions(**{option: getattr(asked, option) for option in own})
    config = run.config.model_copy(update={"objectives": options})
    return replace(run, config=config).with_options("qat", objective=name)


def _row(
    run: Run, patterns: Patterns, columns: Mapping[str, dict[int, int]], measured: tuple[str, Statistic], name: str
) -> Row:
    measure, statistic = measured

    def change(before: str) -> Spread:
        candidates = {seed: (column,) for seed, column in columns[name].items()}
        asked = run.config.eval
        design = Design(columns[before], candidates)
        return hierarchical_change(patterns, design, statistic, confidence=asked.confidence, seed=asked.seed)

    figures = statistic(patterns.tables(patterns.counts.astype(np.float64)))
    value = float(figures[list(columns[name].values())].mean())
    return Row(measure, name, value, change("fp32"), None if name == PLAIN else change(PLAIN))


def _accuracy(place: int | None) -> Statistic:
    def statistic(tables: NDArray[np.float64]) -> NDArray[np.float64]:
        part = tables.sum(axis=1, keepdims=True) if place is None else tables[:, [place]]
        return np.asarray(accuracy(part)[:, 0])

    return statistic


def _odds_gap(tables: NDArray[np.float64]) -> NDArray[np.float64]:
    rates = [true_positive_rate(tables), false_positive_rate(tables)]
    return np.max([rate.max(axis=1) - rate.min(axis=1) for rate in rates], axis=0)


def _points(spread: Spread) -> str:
    return f"{100 * spread.value:+.1f} [{100 * spread.low:+.1f}, {100 * spread.high:+.1f}]"


if __name__ == "__main__":
    main()
