"""The prepared store: every picture decoded once, as uint8 on disk, for all later stages."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from fqbench.data.decoding import decode
from fqbench.errors import DataError, WorkspaceError
from fqbench.machine import usable_cores
from fqbench.reporter import Reporter, Silent
from fqbench.storage import size_in_words

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from fqbench.config import Preprocessing
    from fqbench.data.pictures import Picture, Pictures

    Map = np.memmap[Any, np.dtype[Any]]

Made = TypeVar("Made")

PIXELS = "images.npy"
INDEX = "index.parquet"
PROBLEMS = "problems.csv"
PROGRESS = "progress.npy"  # which rows are done, while the store is being filled
MAX_UNREADABLE = 0.01
CHUNK = 256
CHUNKS_A_FLUSH = 16
SPARE_BYTES = 64 << 20  # left free on the disk for the index and everybody else


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
        return ahead(lambda step: self.batch(rows[starts[step] : starts[step] + size]), len(starts))


def ahead(make: Callable[[int], Made], steps: int) -> Iterator[Made]:
    """Yield ``make(0)`` to ``make(steps - 1)``, each made in another thread while the last one is used."""
    with ThreadPoolExecutor(1, thread_name_prefix="prepare-batch") as pool:
        upcoming = pool.submit(make, 0) if steps else None
        for step in range(steps):
            current, upcoming = upcoming, pool.submit(make, step + 1) if step + 1 < steps else None
            if current is not None:
                yield current.result()


def normalize(pixels: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Return ``(pixels / 255 - mean) / std`` as contiguous float32 (N, 3, H, W), from uint8 (N, H, W, 3)."""
    scale, shift = _scale_and_shift(preprocessing)
    out = np.empty((len(pixels), 3, *pixels.shape[1:3]), dtype=np.float32)
    for channel in range(3):
        np.multiply(pixels[..., channel], scale[channel], out=out[:, channel])
        out[:, channel] += shift[channel]
    return out


def normalize_nhwc(pixels: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Return the values of `normalize` as contiguous float32 (N, H, W, 3)."""
    count, height, width, channels = pixels.shape
    # A row of pixels at a time: numpy is slow where the innermost axis has three elements.
    scale, shift = (np.tile(values, width) for values in _scale_and_shift(preprocessing))
    out = np.multiply(pixels.reshape(count, height, width * channels), scale, dtype=np.float32)
    out += shift
    return out.reshape(pixels.shape)


def _scale_and_shift(preprocessing: Preprocessing) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    mean, deviation = np.asarray(preprocessing.mean), np.asarray(preprocessing.std)
    return (1.0 / (255.0 * deviation)).astype(np.float32), (-mean / deviation).astype(np.float32)


def write_store(
    frame: pd.DataFrame,
    pictures: Pictures,
    preprocessing: Preprocessing,
    out: Path,
    *,
    scratch: Path | None = None,
    threads: int | None = None,
    reporter: Reporter | None = None,
    decoder: Callable[[Picture, Preprocessing], NDArray[np.uint8]] = decode,
) -> dict[str, object]:
    """Decode every picture of ``frame`` once into ``out``; memory does not grow with their number.

    Parameters
    ----------
    frame : DataFrame
        Columns ``sample_id`` and ``path``.
    pictures : Pictures
        What opens the pictures of these paths.
    preprocessing : Preprocessing
        Size, crop and interpolation.
    out : Path
        Existing directory; gets the pixels, their index, and the list of pictures left out.
    scratch : Path, optional
        A directory on the same disk that outlives a killed run: the next one goes on where that one stopped.
    threads : int, optional
        Pictures decoded at once; all usable cores by default. The decoders release Python's lock.
    reporter : Reporter, optional
        Shown progress.
    decoder : callable
        Turns a picture into uint8 (height, width, 3), raising `DataError`.

    Returns
    -------
    dict
        ``images`` and ``unreadable`` counts, and the first unreadable names.

    Raises
    ------
    DataError
        More than 1 % of the pictures cannot be decoded, or none can.
    WorkspaceError
        The disk has not enough room; checked before anything is decoded.
    """
    import pandas as pd

    reporter = reporter or Silent()
    work = out if scratch is None else scratch
    pixels, done = _open_work(work, len(frame), preprocessing)
    waiting = np.flatnonzero(~done)
    if len(waiting) < len(frame):
        reporter.say(f"{len(frame) - len(waiting)} of {len(frame)} images are already prepared; continuing")
    paths, sample_ids = frame["path"].tolist(), frame["sample_id"].tolist()
    problems: list[tuple[str, str]] = []

    def opened(rows: list[int]) -> Sequence[Picture]:
        return pictures.chunk([paths[row] for row in rows])

    def fill(row: int, picture: Picture) -> bool:
        try:
            pixels[row] = decoder(picture, preprocessing)
        except DataError as error:
            problems.append((sample_ids[row], str(error)))
            return False
        return True

    with reporter.track("preparing images", len(waiting), "images") as advance:
        _fill_all((opened, fill), waiting, (pixels, done), threads or usable_cores(), advance)
    problems.sort()
    _refuse_if_too_many(problems, len(frame))
    readable = np.array(done)
    if scratch is not None:
        (scratch / PIXELS).rename(out / PIXELS)
    (work / PROGRESS).unlink()
    pd.DataFrame({"sample_id": sample_ids, "readable": readable}).to_parquet(out / INDEX, index=False)
    pd.DataFrame(problems, columns=["sample_id", "problem"]).to_csv(out / PROBLEMS, index=False)
    return {
        "images": int(readable.sum()),
        "unreadable": len(problems),
        "unreadable_first": [sample_id for sample_id, _ in problems[:10]],
    }


def _fill_all(
    steps: tuple[Callable[[list[int]], Sequence[Picture]], Callable[[int, Picture], bool]],
    rows: NDArray[np.int64],
    work: tuple[Map, Map],
    threads: int,
    advance: Callable[[int], None],
) -> None:
    opened, fill = steps
    pixels, done = work
    unflushed: list[NDArray[np.int64]] = []

    def flush() -> None:
        # Pixels first: a row that is marked as done is on the disk, whatever kills the process or the machine.
        pixels.flush()
        done[np.concatenate([rows[:0], *unflushed])] = True
        done.flush()
        unflushed.clear()

    with _one_thread_an_image(), ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            numbers: list[int] = chunk.tolist()
            readable = np.fromiter(pool.map(fill, numbers, opened(numbers)), dtype=bool, count=len(chunk))
            unflushed.append(chunk[readable])
            if len(unflushed) == CHUNKS_A_FLUSH:
                flush()
            advance(len(chunk))
        flush()


def _open_work(work: Path, count: int, preprocessing: Preprocessing) -> tuple[Map, Map]:
    """Open the pixels and the list of finished rows, those of an interrupted run if there are any."""
    from numpy.lib.format import open_memmap

    shape = (count, *preprocessing.size, 3)
    if (work / PIXELS).is_file() and (work / PROGRESS).is_file():
        try:
            pixels, done = open_memmap(work / PIXELS, mode="r+"), open_memmap(work / PROGRESS, mode="r+")
            if pixels.shape == shape and done.shape == shape[:1]:
                return pixels, done
        except (ValueError, OSError):  # killed while it wrote the head of a file
            pass
    _check_room(work, shape)
    pixels = open_memmap(work / PIXELS, mode="w+", dtype=np.uint8, shape=shape)
    return pixels, open_memmap(work / PROGRESS, mode="w+", dtype=np.bool_, shape=shape[:1])


def _check_room(work: Path, shape: tuple[int, ...]) -> None:
    needed, free = int(np.prod(shape, dtype=np.int64)), shutil.disk_usage(work).free
    if needed + SPARE_BYTES > free:
        raise WorkspaceError(
            f"{shape[0]} images of {shape[1]}x{shape[2]} need {size_in_words(needed)} and "
            f"{size_in_words(SPARE_BYTES)} for the rest, and the disk of {work.parent} has {size_in_words(free)} left; "
            "choose another with --workspace, or a smaller --size."
        )


@contextmanager
def _one_thread_an_image() -> Iterator[None]:
    """Use one OpenCV thread per picture, because pictures are decoded in parallel."""
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


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
