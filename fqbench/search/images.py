"""Validation images: split once by group into those that choose and those that confirm, and a few hundred of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from fqbench.contracts.artifacts import ExportedModel
from fqbench.data.samples import group_labels
from fqbench.errors import DataError
from fqbench.provenance import require_same_classes
from fqbench.run import Run
from fqbench.stages.prepare import prepare
from fqbench.stages.read import read
from fqbench.storage import text_digest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fqbench.data.images import PreparedImages

SPLIT = "val"


@dataclass(frozen=True)
class ValidationImages:
    """Images with their groups and labels.

    Attributes
    ----------
    store : PreparedImages
        Where the pictures are.
    rows : ndarray of int64, shape (images,)
        Rows of the store.
    sample_ids, groups : ndarray of str, shape (images,)
        Name and group of each.
    labels : ndarray of int64, shape (images,) or (images, attributes)
        Class of each.
    """

    store: PreparedImages
    rows: NDArray[np.int64]
    sample_ids: NDArray[np.str_]
    groups: NDArray[np.str_]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.rows)

    @property
    def digest(self) -> str:
        """SHA-256 over names and groups, in order."""
        return text_digest(
            "\n".join(f"{name}\t{group}" for name, group in zip(self.sample_ids, self.groups, strict=True))
        )

    @property
    def counts(self) -> dict[str, int]:
        """Images per group."""
        names, counts = np.unique(self.groups, return_counts=True)
        return {str(name): int(count) for name, count in zip(names, counts, strict=True)}

    def batches(self, size: int) -> Iterator[NDArray[np.float32]]:
        """Yield the pictures in order, float32 (<= size, 3, H, W)."""
        return self.store.batches(self.rows, size)

    def at(self, places: NDArray[np.intp]) -> ValidationImages:
        """Return the images at these places."""
        return replace(
            self,
            rows=self.rows[places],
            sample_ids=self.sample_ids[places],
            groups=self.groups[places],
            labels=self.labels[places],
        )

    def few(self, count: int, seed: int = 0) -> ValidationImages:
        """Return at most ``count`` images, of each group as many as of the others as far as it has them."""
        turns = [turn for _group, places in self._shuffled(seed) for turn in enumerate(places)]
        chosen = [place for _turn, place in sorted(turns, key=lambda turn: turn[0])[:count]]
        return self.at(np.sort(np.asarray(chosen, dtype=np.intp)))

    def halves(self, seed: int) -> tuple[ValidationImages, ValidationImages]:
        """Split every group in two halves at random; the first has the odd image."""
        first, second = [], []
        for _group, places in self._shuffled(seed):
            middle = (len(places) + 1) // 2
            first.append(places[:middle])
            second.append(places[middle:])
        return self.at(np.sort(np.concatenate(first))), self.at(np.sort(np.concatenate(second)))

    def _shuffled(self, seed: int) -> Iterator[tuple[str, NDArray[np.intp]]]:
        rng = np.random.default_rng(seed)
        for group in np.unique(self.groups):
            yield str(group), rng.permutation(np.flatnonzero(self.groups == group))


def validation_images(run: Run, model: ExportedModel) -> ValidationImages:
    """Return all readable images of the validation split, with the groups that evaluations are by.

    Raises
    ------
    InputError
        There is no validation split, no such feature, or the data have other classes than the model.
    DataError
        None of its images can be read.
    """
    samples = read(run)
    require_same_classes(model, samples)
    store = prepare(run, model.preprocessing)
    frame, rows = store.readable(samples.split(SPLIT))
    if not len(rows):
        raise DataError(f"no image of the validation split of {samples.name} can be read; check --root.")
    return ValidationImages(
        store=store.images,
        rows=rows,
        sample_ids=np.asarray(frame["sample_id"], dtype=np.str_),
        groups=group_labels(frame, samples.features(run.config.eval.by)),
        labels=samples.targets(frame),
    )
