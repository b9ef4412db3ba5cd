"""Training throughput of the loop itself: FP32 against bf16, on one device, in one run.

Usage: python benchmarks/training.py [--models A,B] [--size N] [--batch-size N] [--steps N] [--rounds N]

Each round trains every model for a few steps in each precision, in turn, so that drift hits all alike; the ratio is the
median over rounds. Data are random and prepared beforehand: what is timed is batches, augmentation, forward, backward
and the optimizer, not decoding.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from fqbench.config import Preprocessing, TrainOptions
from fqbench.data.images import PreparedImages
from fqbench.machine import this_machine
from fqbench.models import zoo
from fqbench.models.batches import LabelledImages
from fqbench.models.train import Hooks, train

PRECISIONS = ("fp32", "bf16")
DEFAULT = "resnet10t,resnet18,mobilenet_v2,squeezenet1_1"


def main() -> None:
    """Print images a second of each model and precision, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=DEFAULT)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    machine = this_machine()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else machine.cpu
    print(f"{device}, {torch.get_num_threads()} threads, {', '.join(machine.features)}; torch {torch.__version__}")
    print(f"{options.size}x{options.size}, batch {options.batch_size}, medians of {options.rounds} rounds, images/s")
    names = options.models.split(",")
    rates: dict[tuple[str, str], list[float]] = {(name, kind): [] for name in names for kind in PRECISIONS}
    data = random_images(options.batch_size * options.steps, options.size)
    for _ in range(options.rounds):
        for (name, kind), seen in rates.items():
            seen.append(rate(name, data, kind, options.batch_size))
    print(f"{'model':20} {'fp32':>8} {'bf16':>8}  bf16 / fp32")
    for name in names:
        plain, half = rates[name, "fp32"], rates[name, "bf16"]
        ratio = statistics.median(b / a for a, b in zip(plain, half, strict=True))
        print(f"{name:20} {statistics.median(plain):8,.0f} {statistics.median(half):8,.0f}  {ratio:.2f}x")


def random_images(count: int, size: int) -> LabelledImages:
    """Make noise with labels of two classes."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    store = PreparedImages(pixels, np.array([str(row) for row in range(count)]), Preprocessing(size=size))
    zeros = np.zeros(count, dtype=np.int64)
    return LabelledImages(store, np.arange(count, dtype=np.int64), np.arange(count, dtype=np.int64) % 2, zeros)


def rate(name: str, data: LabelledImages, precision: str, batch_size: int) -> float:
    """Train for two epochs and return the images a second of the second, once everything is warm."""
    size = data.images.input_shape[1]
    model = zoo.build(zoo.find(name), classes=2, size=size)
    marks: list[float] = []
    hooks = Hooks(lambda *_: marks.append(time.perf_counter()), lambda *_: marks.append(time.perf_counter()))
    options = TrainOptions.model_validate({"epochs": 2, "batch_size": batch_size, "precision": precision})
    few = LabelledImages(data.images, data.rows[:2], data.labels[:2], data.groups[:2])
    with tempfile.TemporaryDirectory() as folder:
        train(model, data, few, options, Path(folder), hooks=hooks)
    return len(data.rows) / (marks[3] - marks[2])


if __name__ == "__main__":
    main()
