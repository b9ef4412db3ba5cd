"""Training throughput: fqbench's loop against a bare torch loop, FP32 and bf16, in one run.

Usage: python benchmarks/training_speed.py [--models A,B] [--size N] [--batch-size N] [--steps N] [--rounds N]

The bare loop does forward, cross-entropy, backward and AdamW on a batch that lies ready in memory (channels last).
fqbench's loop, `fqbench.models.train.train`, also reads each batch from the prepared store, normalizes and augments it,
follows a schedule and checks the loss. Each round runs every model in each precision by both loops, in turn, so that
drift hits all alike; ratios are medians over rounds. Neither validation nor the start-up of a run is timed. The last
column is the precision that `--precision auto` takes.
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
    """Print images a second of each model, precision and loop, and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=DEFAULT)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    machine = this_machine()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else machine.cpu
    print(f"{device}, {torch.get_num_threads()} threads, {', '.join(machine.features)}; torch {torch.__version__}")
    print(f"{options.size}x{options.size}, batch {options.batch_size}, medians of {options.rounds} rounds, images/s")
    names = options.models.split(",")
    data = random_images(options.batch_size * options.steps, options.size)
    cells = [(name, precision, loop) for name in names for precision in PRECISIONS for loop in (bare, ours)]
    rates: dict[tuple[str, str, object], list[float]] = {cell: [] for cell in cells}
    for _ in range(options.rounds):
        for (name, precision, loop), seen in rates.items():
            seen.append(loop(name, data, precision, options.batch_size))
    print(f"{'model':18} {'precision':10} {'torch':>8} {'fqbench':>8}  fqbench/torch  bf16/fp32 (fqbench)")
    for name in names:
        half = ratio(rates[name, "bf16", ours], rates[name, "fp32", ours])
        for precision in PRECISIONS:
            plain, mine = rates[name, precision, bare], rates[name, precision, ours]
            print(
                f"{name:18} {precision:10} {statistics.median(plain):8,.0f} {statistics.median(mine):8,.0f}"
                f"  {ratio(mine, plain):12.2f}x {f'{half:8.2f}x' if precision == 'bf16' else ''}"
            )


def ratio(over: list[float], under: list[float]) -> float:
    """Return the median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


def random_images(count: int, size: int) -> LabelledImages:
    """Make noise with labels of two classes."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    store = PreparedImages(pixels, np.array([str(row) for row in range(count)]), Preprocessing(size=size))
    zeros = np.zeros(count, dtype=np.int64)
    return LabelledImages(store, np.arange(count, dtype=np.int64), np.arange(count, dtype=np.int64) % 2, zeros)


def bare(name: str, data: LabelledImages, precision: str, batch_size: int) -> float:
    """Return the images a second of a loop with nothing but torch in it, its first pass left out."""
    size = data.images.input_shape[1]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = zoo.build(zoo.find(name), classes=2, size=size).to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    images = torch.from_numpy(data.images.batch(data.rows[:batch_size]))
    images = images.to(device, memory_format=torch.channels_last)
    labels = torch.from_numpy(data.labels[:batch_size]).to(device)
    steps = len(data.rows) // batch_size
    start = 0.0
    for step in range(2 * steps):
        if step == steps:
            start = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    float(loss.detach())  # waits for a GPU
    return steps * batch_size / (time.perf_counter() - start)


def ours(name: str, data: LabelledImages, precision: str, batch_size: int) -> float:
    """Return the images a second of the second of two epochs by fqbench."""
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
