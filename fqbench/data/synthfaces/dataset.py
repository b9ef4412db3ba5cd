"""Draw the embedded data set into a folder, and read it back."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from fqbench.data.folder import read_folder
from fqbench.data.samples import GROUP_SEPARATOR, Samples
from fqbench.data.splits import stratified_split
from fqbench.data.synthfaces.traits import CLASSES, GROUPS, Draws, People, draw_groups, draw_smiles, spread_groups
from fqbench.errors import InputError
from fqbench.machine import usable_cores

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAME = "synthfaces"
NOTICE = "synthfaces are drawn by a program: they test the pipeline and are not evidence about people."
LABEL = "smiling"
SENSITIVE_FEATURES = tuple(GROUPS)
MAX_IMAGES = 1_000_000
BATCH_PIXELS = 16 * 64 * 64
VAL_SHARE = 1 / 8
TEST_PER_IMAGE = 2.5

Part = Literal["images", "test"]


@dataclass(frozen=True)
class SynthfacesOptions:
    """What to draw.

    Attributes
    ----------
    images : int
        Images for training and validation: seven of eight train, one validates.
    test_images : int, optional
        Images of the test split; 2.5 times ``images`` by default.
    size : int
        Width and height of an image in pixels, 32 to 512.
    imbalance : float
        Of training and validation images: 0 gives all groups the same share, 1 shares as in real collections, 2
        stronger ones; at most 4.
    test_imbalance : float
        The same for the test split; 0 by default, so that every group has enough test images for a verdict.
    seed : int
        The same seed draws the same images; the first images of a longer run are those of a shorter one.

    Raises
    ------
    InputError
        A value is out of range.
    """

    images: int = 6400
    test_images: int | None = None
    size: int = 64
    imbalance: float = 1.0
    test_imbalance: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        self._check("images", 1, MAX_IMAGES)
        if self.test_images is not None:
            self._check("test_images", 1, MAX_IMAGES)
        self._check("size", 32, 512)
        self._check("imbalance", 0, 4, whole=False)
        self._check("test_imbalance", 0, 4, whole=False)
        self._check("seed", 0, 2**63 - 1)

    def _check(self, name: str, low: int, high: int, *, whole: bool = True) -> None:
        value: object = getattr(self, name)
        fits = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        if not (fits and low <= value <= high):  # type: ignore[operator]
            kind = "a whole number" if whole else "a number"
            raise InputError(
                f"synthfaces: {name} is {value!r}, but must be {kind} from {low} to {high}; "
                "choose one in that range, or leave it out for the default."
            )

    def count(self, part: Part) -> int:
        """Return how many images a part has: ``images`` for training and validation, or ``test``."""
        if part == "images":
            return self.images
        return int(TEST_PER_IMAGE * self.images) if self.test_images is None else self.test_images


@dataclass(frozen=True)
class _Batch:
    part: Part
    start: int
    stop: int


def draw(
    options: SynthfacesOptions, out: Path, progress: Callable[[int], None] | None = None, threads: int | None = None
) -> None:
    """Draw the data set into the existing folder ``out``: ``images/000000.png``, ``test/000000.png``, ``metadata.csv``.

    Memory does not grow with the number of images, nor with their size beyond a few large ones.

    Parameters
    ----------
    options : SynthfacesOptions
        What to draw.
    out : Path
        An existing folder.
    progress : callable, optional
        Called after each batch with the number of images written so far.
    threads : int, optional
        Batches drawn at once; all usable cores by default. The images do not depend on it.

    Raises
    ------
    InputError
        ``out`` is not a folder.
    """
    if not out.is_dir():
        raise InputError(f"{out} is not a folder, so synthfaces cannot be drawn into it; create it first.")
    batches = [*_batches(options, "images"), *_batches(options, "test")]
    for part in ("images", "test"):
        (out / part).mkdir(exist_ok=True)
    people: dict[Part, list[People]] = {"images": [], "test": []}
    done = 0
    with ThreadPoolExecutor(threads or usable_cores(), thread_name_prefix="draw") as pool:
        for batch, drawn in zip(batches, pool.map(lambda batch: _write(options, batch, out), batches), strict=True):
            people[batch.part].append(drawn)
            done += batch.stop - batch.start
            if progress is not None:
                progress(done)
    _write_metadata(out / "metadata.csv", people["images"], people["test"], options.seed)


def draw_batch(
    options: SynthfacesOptions, start: int, stop: int, part: Part = "images"
) -> tuple[NDArray[np.uint8], People]:
    """Draw images ``start`` to ``stop`` of a part in memory, with their labels and groups.

    Returns
    -------
    images : ndarray of uint8, shape (stop - start, size, size, 3)
        RGB.
    people : People
        Labels and groups.
    """
    from fqbench.data.synthfaces.painting import paint_faces
    from fqbench.data.synthfaces.traits import draw_traits

    draws, people = _people(options, start, stop, part)
    return paint_faces(draw_traits(draws, people), draws, options.size), people


def _people(options: SynthfacesOptions, start: int, stop: int, part: Part) -> tuple[Draws, People]:
    """Test images differ from the others only in group sizes, not in the labels within a group."""
    indices = range(start, stop)
    draws = Draws(options.seed, indices, stream=("images", "test").index(part))
    groups = draw_groups(draws, options.imbalance)
    if part == "test":
        groups = spread_groups(options.seed, indices, options.test_imbalance)
    return draws, draw_smiles(draws, groups, options.imbalance)


def _batches(options: SynthfacesOptions, part: Part) -> Iterator[_Batch]:
    step, count = max(1, BATCH_PIXELS // options.size**2), options.count(part)
    for start in range(0, count, step):
        yield _Batch(part, start, min(start + step, count))


def _write(options: SynthfacesOptions, batch: _Batch, out: Path) -> People:
    import cv2

    images, people = draw_batch(options, batch.start, batch.stop, batch.part)
    for index, image in zip(range(batch.start, batch.stop), images, strict=True):
        path = out / _file_name(batch.part, index)
        # Noise hardly compresses: stored pixels take 40 % more room and a third of the time.
        if not cv2.imwrite(str(path), image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 0]):
            raise OSError(f"{path} cannot be written")
    return people


def read(root: Path, *, seed: int = 0) -> Samples:
    """Read a drawn data set back, with the names of its classes and its notice."""
    samples = read_folder(root, label=LABEL, sensitive=SENSITIVE_FEATURES, seed=seed, notice=NOTICE, name=NAME)
    return replace(samples, classes=CLASSES)


def _file_name(part: Part, index: int) -> str:
    return f"{part}/{index:06d}.png"


def _write_metadata(path: Path, pool: list[People], test: list[People], seed: int) -> None:
    drawn: dict[Part, People] = {"images": People.joined(pool), "test": People.joined(test)}
    named = {
        part: {feature: np.asarray(names)[getattr(people, feature)] for feature, names in GROUPS.items()}
        for part, people in drawn.items()
    }
    groups = np.asarray([GROUP_SEPARATOR.join(row) for row in zip(*named["images"].values(), strict=True)])
    splits = {
        "images": stratified_split(groups, drawn["images"].smiling, seed=seed, shares={"val": VAL_SHARE}),
        "test": np.full(len(drawn["test"].smiling), "test"),
    }
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file_name", "split", LABEL, *GROUPS])
        for part, people in drawn.items():
            rows = zip(splits[part].tolist(), people.smiling.tolist(), *named[part].values(), strict=True)
            writer.writerows([_file_name(part, index), *row] for index, row in enumerate(rows))
