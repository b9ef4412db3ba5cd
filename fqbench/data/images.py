"""Pictures: decoding, resizing, and the prepared store that all later stages read."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fqbench.errors import DataError
from fqbench.reporter import Reporter, Silent

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray
    from PIL.Image import Image

    from fqbench.config import Preprocessing

STAGE_VERSION = 1
PIXELS = "images.npy"
INDEX = "index.parquet"
PROBLEMS = "problems.csv"
MAX_UNREADABLE = 0.01
MAX_PIXELS = 100_000_000
CHUNK = 256


def decode(path: Path, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Decode one picture and bring it to the model's size.

    Parameters
    ----------
    path : Path
        JPEG, PNG or WebP; EXIF orientation is applied, and any mode becomes RGB.
    preprocessing : Preprocessing
        ``size``, ``crop`` and ``interpolation`` are used: the shorter side is resized to ``size / crop`` with
        antialiasing, then the centre is cropped.

    Returns
    -------
    ndarray of uint8, shape (size, size, 3)

    Raises
    ------
    DataError
        The file is no picture, cut short, or larger than 100 million pixels.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own, stricter limit follows
            with Image.open(path) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    raise DataError(f"{path} has {picture.width}x{picture.height} pixels, over the limit; shrink it.")
                picture.draft("RGB", (2 * preprocessing.size, 2 * preprocessing.size))
                upright = ImageOps.exif_transpose(picture)
                rgb = _to_rgb(upright)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path} cannot be decoded ({error}); replace it or take it out of the table.") from error
    return _fit(rgb, preprocessing)


def _to_rgb(picture: Image) -> Image:
    if picture.mode.startswith("I"):  # 16-bit greyscale: Pillow's own conversion would clip it to white
        scaled = np.asarray(picture, dtype=np.float64) / 257.0
        from PIL import Image

        return Image.fromarray(np.clip(scaled, 0, 255).round().astype(np.uint8)).convert("RGB")
    return picture.convert("RGB")


def _fit(picture: Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    from PIL import Image

    size = preprocessing.size
    target = max(size, round(size / preprocessing.crop))
    scale = target / min(picture.size)
    width, height = (max(size, round(side * scale)) for side in picture.size)
    if (width, height) != picture.size:
        filters = {"bilinear": "BILINEAR", "bicubic": "BICUBIC", "lanczos": "LANCZOS", "nearest": "NEAREST"}
        picture = picture.resize((width, height), Image.Resampling[filters[preprocessing.interpolation]])
    left, top = (width - size) // 2, (height - size) // 2
    return np.asarray(picture.crop((left, top, left + size, top + size)), dtype=np.uint8)


@dataclass(frozen=True)
class PreparedImages:
    """Pictures decoded once, as uint8 on disk; normalized to float32 when a batch is asked for.

    Attributes
    ----------
    pixels : ndarray of uint8, shape (N, H, W, 3)
        A read-only memory map.
    sample_ids : ndarray of str, shape (N,)
        Which sample each row is.
    preprocessing : Preprocessing
        ``mean`` and ``std`` of the normalization.
    """

    pixels: NDArray[np.uint8]
    sample_ids: NDArray[np.str_]
    preprocessing: Preprocessing

    def __len__(self) -> int:
        """Number of prepared pictures."""
        return len(self.pixels)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one picture."""
        return (3, self.pixels.shape[1], self.pixels.shape[2])

    def batch(self, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the normalized pictures of ``rows``, float32 (len(rows), 3, H, W), contiguous."""
        return normalize(self.pixels[np.asarray(rows)], self.preprocessing)

    def rows_of(self, sample_ids: Sequence[str] | NDArray[np.str_]) -> NDArray[np.int64]:
        """Return the row of each sample; -1 where its picture could not be decoded."""
        import pandas as pd

        return np.asarray(pd.Index(self.sample_ids).get_indexer(pd.Index(sample_ids)), dtype=np.int64)

    def batches(self, rows: NDArray[np.int64], size: int) -> Iterator[NDArray[np.float32]]:
        """Yield normalized batches of ``size`` rows, the last one shorter; the next is prepared meanwhile."""
        starts = range(0, len(rows), size)
        with ThreadPoolExecutor(1, thread_name_prefix="prepare-batch") as ahead:
            upcoming = None
            for start in starts:
                current = upcoming or ahead.submit(self.batch, rows[start : start + size])
                following = rows[start + size : start + 2 * size]
                upcoming = ahead.submit(self.batch, following) if len(following) else None
                yield current.result()


def normalize(pixels: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Return ``(pixels / 255 - mean) / std`` as contiguous float32 (N, 3, H, W), from uint8 (N, H, W, 3)."""
    scale = (1.0 / (255.0 * np.asarray(preprocessing.std))).astype(np.float32)
    shift = (-np.asarray(preprocessing.mean) / np.asarray(preprocessing.std)).astype(np.float32)
    out = np.empty((len(pixels), 3, *pixels.shape[1:3]), dtype=np.float32)
    for channel in range(3):
        np.multiply(pixels[..., channel], scale[channel], out=out[:, channel])
        out[:, channel] += shift[channel]
    return out


def write_store(
    frame: pd.DataFrame,
    root: Path,
    preprocessing: Preprocessing,
    out: Path,
    *,
    reporter: Reporter | None = None,
    decoder: Callable[[Path, Preprocessing], NDArray[np.uint8]] = decode,
) -> dict[str, object]:
    """Decode every picture of ``frame`` once into ``out``; memory does not grow with their number.

    Parameters
    ----------
    frame : DataFrame
        Columns ``sample_id`` and ``path`` (relative to ``root``).
    root : Path
        Folder of the pictures.
    preprocessing : Preprocessing
        Size, crop and interpolation.
    out : Path
        Existing directory; gets the pixels, their index, and the list of pictures left out.
    reporter : Reporter, optional
        Shown progress.
    decoder : callable
        Turns a path into uint8 (size, size, 3), raising `DataError`.

    Returns
    -------
    dict
        ``images`` and ``unreadable`` counts, and the first unreadable names.

    Raises
    ------
    DataError
        More than 1 % of the pictures cannot be decoded, or none can.
    """
    import pandas as pd
    from numpy.lib.format import open_memmap

    reporter = reporter or Silent()
    shape = (len(frame), preprocessing.size, preprocessing.size, 3)
    pixels = open_memmap(out / PIXELS, mode="w+", dtype=np.uint8, shape=shape)
    readable = np.zeros(len(frame), dtype=bool)
    problems: list[tuple[str, str]] = []
    paths, sample_ids = frame["path"].tolist(), frame["sample_id"].tolist()

    def fill(row: int) -> None:
        try:
            pixels[row] = decoder(root / paths[row], preprocessing)
            readable[row] = True
        except DataError as error:
            problems.append((sample_ids[row], str(error)))

    with (
        ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decode") as pool,
        reporter.track("preparing images", len(frame), "images") as advance,
    ):
        for start in range(0, len(frame), CHUNK):
            chunk = range(start, min(start + CHUNK, len(frame)))
            list(pool.map(fill, chunk))
            advance(len(chunk))
    pixels.flush()
    problems.sort()
    _refuse_if_too_many(problems, len(frame))
    pd.DataFrame({"sample_id": sample_ids, "readable": readable}).to_parquet(out / INDEX, index=False)
    pd.DataFrame(problems, columns=["sample_id", "problem"]).to_csv(out / PROBLEMS, index=False)
    return {
        "images": int(readable.sum()),
        "unreadable": len(problems),
        "unreadable_first": [sample_id for sample_id, _ in problems[:10]],
    }


def open_store(folder: Path, preprocessing: Preprocessing) -> PreparedImages:
    """Open a store that `write_store` wrote; unreadable pictures keep an empty name and are never returned."""
    import pandas as pd

    index = pd.read_parquet(folder / INDEX)
    names = np.where(index["readable"], index["sample_id"].astype(str), "")
    return PreparedImages(np.load(folder / PIXELS, mmap_mode="r"), np.asarray(names, dtype=np.str_), preprocessing)


def _refuse_if_too_many(problems: list[tuple[str, str]], total: int) -> None:
    if len(problems) > MAX_UNREADABLE * total:
        raise DataError(
            f"{len(problems)} of {total} pictures cannot be decoded, more than {MAX_UNREADABLE:.0%}; "
            f"the first: {problems[0][1]}"
        )
