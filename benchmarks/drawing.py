"""Drawing synthfaces: by one thread and by all cores, and what storing the images costs, in one run.

Usage: python benchmarks/drawing.py [--images N] [--size N] [--rounds N]

Each round draws the same images into a fresh folder by one thread, by all cores, and in memory alone, in turn; figures
are medians over rounds, ratios medians of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from fqbench.data.synthfaces import SynthfacesOptions, draw, draw_batch
from fqbench.machine import this_machine, usable_cores

BATCH = 16


def main() -> None:
    """Print milliseconds per image and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    options = SynthfacesOptions(images=asked.images, test_images=1, size=asked.size)
    ways: dict[str, Callable[[], None]] = {
        "in memory, one thread": lambda: in_memory(options),
        "on disk, one thread": lambda: on_disk(options, 1),
        f"on disk, {usable_cores()} threads": lambda: on_disk(options, usable_cores()),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(asked.rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    print(f"{this_machine().cpu}; {asked.images} images of {asked.size} pixels, medians of {asked.rounds} rounds")
    base = seconds["on disk, one thread"]
    for name, seen in seconds.items():
        ratio = statistics.median(one / other for one, other in zip(base, seen, strict=True))
        print(f"{name:24} {statistics.median(seen) / asked.images * 1e3:6.2f} ms per image  {ratio:5.2f}x")


def in_memory(options: SynthfacesOptions) -> None:
    """Draw without writing."""
    for start in range(0, options.images, BATCH):
        draw_batch(options, start, min(start + BATCH, options.images))


def on_disk(options: SynthfacesOptions, threads: int) -> None:
    """Draw into a folder that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        draw(options, Path(folder), threads=threads)


if __name__ == "__main__":
    main()
