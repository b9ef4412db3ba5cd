"""Draw the embedded data set into a folder, and read it back."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fqbench.data.folder import read_folder
from fqbench.data.samples import GROUP_SEPARATOR, Samples
from fqbench.data.splits import stratified_split
from fqbench.data.synthfaces.painting import paint_faces
from fqbench.data.synthfaces.traits import CLASSES, GROUPS, Draws, People, draw_people, draw_traits
from fqbench.errors import InputError

NAME = "synthfaces"
NOTICE = "synthfaces are drawn by a program: they test the pipeline and are no evidence about people."
LABEL = "smiling"
SENSITIVE_FEATURES = tuple(GROUPS)
MAX_IMAGES = 1_000_000
BATCH_PIXELS = 16 * 64 * 64


@dataclass(frozen=True)
class SynthfacesOptions:
    """What to draw.

    Attributes
    ----------
    images : int
        How many pictures.
    size : int
        Width and height of a picture in pixels, 32 to 512.
    imbalance : float
        0 gives all groups the same share, 1 shares as in real collections, 2 stronger ones; at most 4.
    seed : int
        The same seed draws the same pictures; the first pictures of a longer run are those of a shorter one.

    Raises
    ------
    InputError
        A value is out of range.
    """

    images: int = 8000
    size: int = 64
    imbalance: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        limits: dict[str, tuple[float, float]] = {
            "images": (1, MAX_IMAGES),
            "size": (32, 512),
            "imbalance": (0, 4),
            "seed": (0, 2**63 - 1),
        }
        for field in fields(self):
            value, (low, high) = getattr(self, field.name), limits[field.name]
            kinds = (int, float) if field.name == "imbalance" else (int,)
            if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
                kind = "a number" if field.name == "imbalance" else "a whole number"
                raise InputError(
                    f"synthfaces: {field.name} is {value!r}, but must be {kind} from {low} to {high}; "
                    f"choose one in that range, or leave it out for {field.default}."
                )


def draw(options: SynthfacesOptions, out: Path, progress: Callable[[int], None] | None = None) -> None:
    """Draw the data set into the existing folder ``out``: ``images/000000.png`` ... and ``metadata.csv``.

    Memory does not grow with the number of pictures, nor with their size beyond a few large ones.

    Parameters
    ----------
    options : SynthfacesOptions
        What to draw.
    out : Path
        An existing folder.
    progress : callable, optional
        Called after each batch with the number of pictures written so far.

    Raises
    ------
    InputError
        ``out`` is not a folder.
    """
    if not out.is_dir():
        raise InputError(f"{out} is not a folder, so synthfaces cannot be drawn into it; create it first.")
    (out / "images").mkdir(exist_ok=True)
    batch = max(1, BATCH_PIXELS // options.size**2)
    people: list[People] = []
    for start in range(0, options.images, batch):
        stop = min(start + batch, options.images)
        pictures, drawn = draw_batch(options, start, stop)
        for index, picture in zip(range(start, stop), pictures, strict=True):
            # Noise hardly compresses: the fastest level costs a few percent of size.
            Image.fromarray(picture).save(out / _file_name(index), compress_level=1)
        people.append(drawn)
        if progress is not None:
            progress(stop)
    _write_metadata(out / "metadata.csv", people, options.seed)


def draw_batch(options: SynthfacesOptions, start: int, stop: int) -> tuple[NDArray[np.uint8], People]:
    """Draw pictures ``start`` to ``stop`` in memory, with their labels and groups.

    Returns
    -------
    pictures : ndarray of uint8, shape (stop - start, size, size, 3)
    people : People
        Labels and groups.
    """
    draws = Draws(options.seed, range(start, stop))
    people = draw_people(draws, options.imbalance)
    return paint_faces(draw_traits(draws, people), draws, options.size), people


def read(root: Path, *, seed: int = 0) -> Samples:
    """Read a drawn data set back, with the names of its classes and its notice."""
    samples = read_folder(root, label=LABEL, sensitive=SENSITIVE_FEATURES, seed=seed, notice=NOTICE, name=NAME)
    return replace(samples, classes=CLASSES)


def _file_name(index: int) -> str:
    return f"images/{index:06d}.png"


def _write_metadata(path: Path, people: list[People], seed: int) -> None:
    labels = np.concatenate([part.smiling for part in people])
    values = {
        feature: np.asarray(names)[np.concatenate([getattr(part, feature) for part in people])]
        for feature, names in GROUPS.items()
    }
    groups = np.asarray([GROUP_SEPARATOR.join(row) for row in zip(*values.values(), strict=True)])
    split = stratified_split(groups, labels, seed=seed)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file_name", "split", LABEL, *GROUPS])
        rows = zip(split.tolist(), labels.tolist(), *(column.tolist() for column in values.values()), strict=True)
        writer.writerows([_file_name(index), *row] for index, row in enumerate(rows))
