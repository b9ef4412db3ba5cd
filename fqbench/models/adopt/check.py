"""Which preprocessing a strange model wants: the usual conventions are tried on labelled images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from fqbench.models.adopt.adopting import find_head
from fqbench.models.adopt.classes import Meaning
from fqbench.models.adopt.inputs import Convention
from fqbench.models.adopt.source import Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

Channels = Literal["rgb", "bgr", "gray"]
COLOURS: tuple[Channels, ...] = ("rgb", "bgr")
NONE, ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
# Scale of the pixel values, mean and std (in RGB order), and who does it so.
USUAL = (
    (1, NONE, ONE, "values from 0 to 1"),
    (255, NONE, ONE, "values from 0 to 255"),
    (1, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "ImageNet's mean and std (torchvision, timm)"),
    (1, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "values from -1 to 1 (TensorFlow, vision transformers)"),
    (255, (123.0, 117.0, 104.0), ONE, "ImageNet's mean taken off (Caffe)"),
)
SURE = 0.05


@dataclass(frozen=True)
class Tried:
    """One convention and what it is worth.

    Attributes
    ----------
    what : str
        The convention in words.
    options : str
        The command line's options that state it.
    correct : ndarray of float64, shape (images,)
        Whether each image was classified as labelled, 0 or 1; with attributes, the share that was.
    """

    what: str
    options: str
    correct: NDArray[np.float64]

    @property
    def accuracy(self) -> float:
        """Share of the images that were classified as labelled; with attributes, the mean of their shares."""
        return float(self.correct.mean())


@dataclass(frozen=True)
class Checked:
    """All conventions, the most accurate first, and whether the images decide.

    Attributes
    ----------
    tried : tuple of Tried
        Most accurate first.
    p_value : float
        Of the exact McNemar test (with attributes, sign test) between the best and the next one, times
        the number of conventions tried.
    chance : float
        Share of the most frequent label: what a constant answer would reach; with attributes, the mean of theirs.
    """

    tried: tuple[Tried, ...]
    p_value: float
    chance: float

    @property
    def verdict(self) -> str:
        """One sentence: what the images speak for."""
        best, *others = self.tried
        count = len(best.correct)
        if best.accuracy <= self.chance + 2 * np.sqrt(self.chance * (1 - self.chance) / count):
            return (
                f"No convention is better than a constant answer ({self.chance:.1%}) on {count} images; are these the "
                "model's classes, in its order?"
            )
        if others and self.p_value >= SURE:
            return (
                f"{count} images cannot tell the best from the next (p = {self.p_value:.2g}); give more images, "
                "or ask the model's author."
            )
        return f"{count} images speak for {best.what}: {best.options}"


def conventions(source: Source) -> Iterator[tuple[Convention, str, str]]:
    """Yield the usual conventions for an input, each with its words and its options."""
    layout = source.convention.layout
    start = "" if layout == "nchw" else "--layout nhwc "
    if np.dtype(source.convention.dtype).kind in "iu":
        for channels in COLOURS:
            yield replace(source.convention, channels=channels), f"{channels.upper()}", f"{start}--channels {channels}"
        return
    grey: tuple[Channels, ...] = ("gray",)
    for channels in grey if source.convention.channels == "gray" else COLOURS:
        for scale, mean, std, what in USUAL:
            turned = (mean[::-1], std[::-1]) if channels == "bgr" else (mean, std)
            options = f"{start}--channels {channels} --scale-pixels {scale} " + (
                "--mean none" if mean == NONE else f"--mean {_numbers(turned[0])} --std {_numbers(turned[1])}"
            )
            made = replace(source.convention, channels=channels, scale=scale, mean=turned[0], std=turned[1])
            yield made, f"{channels.upper()}, {what}", options


def check(
    source: Source,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int64],
    meaning: Meaning,
) -> Checked:
    """Try the usual conventions on labelled images.

    Parameters
    ----------
    source : Source
        The model; of its convention, layout and type are taken.
    pixels : ndarray of uint8, shape (n, height, width, 3)
        Images that the model was not trained on.
    labels : ndarray of int, shape (n,) or (n, attributes)
        Their classes, or 0 and 1 of each attribute.
    meaning : Meaning
        As for `adopt`.

    Raises
    ------
    InputError
        The classes do not fit the model's.
    """
    found = []
    for convention, what, options in conventions(source):
        answers = replace(source, convention=convention).answers(pixels)
        logits = find_head(source, answers, meaning).logits_of(answers)
        right = meaning.task.answers(logits) == labels
        found.append(Tried(what, options, right.reshape(len(labels), -1).mean(axis=1)))
    found.sort(key=lambda one: -one.accuracy)
    outputs = labels.reshape(len(labels), -1).T
    chance = float(np.mean([np.bincount(column).max() / len(labels) for column in outputs]))
    return Checked(tuple(found), min(1.0, _mcnemar(found[0], found[1]) * len(found)), chance)


def _mcnemar(best: Tried, other: Tried) -> float:
    from scipy.stats import binomtest

    won, lost = int((best.correct > other.correct).sum()), int((other.correct > best.correct).sum())
    return float(binomtest(won, won + lost).pvalue) if won + lost else 1.0


def _numbers(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)
