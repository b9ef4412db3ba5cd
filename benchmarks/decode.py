"""JPEG files to 224x224 RGB: what each library takes, as a ratio to plain Pillow, and what threads gain.

Usage: python benchmarks/decode.py [--rounds N]

Pictures are noise of all scales, as compressible as photographs; each way decodes the same bytes, one after another
in every round, and the median of the ratios is printed with the distance from Pillow's pixels.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fqbench.config import Preprocessing
from fqbench.data.decoding import decode
from fqbench.machine import this_machine, usable_cores

SIZE = 224
SOURCES = ((178, 218), (448, 448), (1024, 1024))
Way = Callable[[Path], NDArray[Any]]


def main() -> None:
    """Print one table of ratios a source, then the gain by threads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    rounds = parser.parse_args().rounds
    import cv2

    cv2.setNumThreads(1)
    print(f"{this_machine().cpu}, one core; ratios to plain Pillow, medians of {rounds} interleaved rounds")
    with tempfile.TemporaryDirectory() as folder:
        for width, height in SOURCES:
            path = Path(folder) / f"{width}x{height}.jpg"
            Image.fromarray(picture(width, height)).save(path, quality=90)
            _compare(path, rounds)
        for width, height in SOURCES[:2]:
            _threads(Path(folder) / f"{width}x{height}.jpg")


def picture(width: int, height: int) -> NDArray[np.uint8]:
    """Draw noise whose amplitude falls with its frequency, as in photographs."""
    rng, total = np.random.default_rng(0), np.zeros((height, width, 3))
    for step in (128, 64, 32, 16, 8, 4, 2):
        grid = rng.normal(0, 12 * step**0.35, (height // step + 2, width // step + 2, 3)) + 128
        coarse = Image.fromarray(np.clip(grid, 0, 255).astype(np.uint8))
        total += np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64) - 128
    return np.clip(total + 128, 0, 255).astype(np.uint8)


def _compare(path: Path, rounds: int) -> None:
    ways = _ways()
    expected = ways["Pillow"](path).astype(int)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way(path)
            times[name].append(time.perf_counter() - start)
    print(f"\n{path.stem} ({path.stat().st_size / 1000:.0f} kB)")
    for name, way in ways.items():
        ratio = statistics.median(a / b for a, b in zip(times["Pillow"], times[name], strict=True))
        off = np.abs(way(path).astype(int) - expected)
        print(
            f"  {name:28} {1000 * statistics.median(times[name]):7.3f} ms {ratio:5.2f}x   "
            f"mean difference {off.mean():.2f}, largest {off.max()}"
        )


def _threads(path: Path) -> None:
    """Decode the same number of pictures with one thread and with one a core, in turn."""
    preprocessing, cores = Preprocessing(size=SIZE), usable_cores()
    rates: dict[int, list[float]] = {1: [], cores: []}
    for _ in range(7):
        for threads, seen in rates.items():
            with ThreadPoolExecutor(threads) as pool:
                start = time.perf_counter()
                list(pool.map(lambda _: decode(path, preprocessing), range(400)))
                seen.append(400 / (time.perf_counter() - start))
    gain = statistics.median(many / one for one, many in zip(rates[1], rates[cores], strict=True))
    print(f"\n{path.stem}: {statistics.median(rates[cores]):,.0f} images/s on {cores} threads, {gain:.2f}x one thread")


def _ways() -> Mapping[str, Way]:
    import cv2

    def pillow(path: Path, draft: int = 0) -> NDArray[Any]:
        with Image.open(path) as opened:
            if draft:
                opened.draft("RGB", (draft, draft))
            rgb = opened.convert("RGB")
        scale = SIZE / min(rgb.size)
        width, height = (round(side * scale) for side in rgb.size)
        left, top = (width - SIZE) // 2, (height - SIZE) // 2
        resized = rgb.resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(resized.crop((left, top, left + SIZE, top + SIZE)))

    def opencv(path: Path) -> NDArray[Any]:
        pixels = cv2.cvtColor(np.asarray(cv2.imread(str(path))), cv2.COLOR_BGR2RGB)
        scale = SIZE / min(pixels.shape[:2])
        height, width = (round(side * scale) for side in pixels.shape[:2])
        resized = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        left, top = (width - SIZE) // 2, (height - SIZE) // 2
        return np.asarray(resized)[top : top + SIZE, left : left + SIZE]

    preprocessing = Preprocessing(size=SIZE)
    ways: dict[str, Way] = {
        "Pillow": pillow,
        "Pillow, draft": lambda path: pillow(path, SIZE),
        "OpenCV": opencv,
        "fqbench (simplejpeg, OpenCV)": lambda path: decode(path, preprocessing),
        "fqbench, bicubic": lambda path: decode(path, preprocessing.model_copy(update={"interpolation": "bicubic"})),
    }
    try:
        ways["torchvision.io"] = _torchvision()
    except ImportError as error:
        print(f"torchvision is left out: {error}")
    return ways


def _torchvision() -> Way:
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg
    from torchvision.transforms.v2 import functional

    torch.set_num_threads(1)

    def way(path: Path) -> NDArray[Any]:
        content = torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
        pixels = decode_jpeg(content, mode=ImageReadMode.RGB)
        resized = functional.resize(pixels, [SIZE], antialias=True)
        return np.asarray(functional.center_crop(resized, [SIZE, SIZE]).permute(1, 2, 0).numpy())

    return way


if __name__ == "__main__":
    main()
