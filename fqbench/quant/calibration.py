"""The calibration set: which images a sampler chose, of which groups, and their pixels on demand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from fqbench.data.samples import Samples, group_labels
from fqbench.errors import PluginError
from fqbench.storage import text_digest

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from fqbench.contracts.sampler import Sampler
    from fqbench.quant.record import CalibrationRecord

CALIBRATION_SPLIT = "train"


class ImageSource(Protocol):
    """A source of normalized pictures by row, such as `fqbench.data.images.PreparedImages` does."""

    def __len__(self) -> int:
        """Return the number of pictures."""
        ...

    def batch(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return float32 (len(rows), 3, H, W)."""
        ...


@dataclass(frozen=True)
class CalibrationSet:
    """Calibration images.

    Attributes
    ----------
    sampler : str
        Name of the strategy that chose them.
    frame : DataFrame
        Columns ``sample_id`` and ``group``, one row per image, in the order drawn; rows may repeat.
    images : ImageSource
        Where the pictures are.
    rows : ndarray of int64, shape (n,)
        The row of each in ``images``.
    population : mapping
        Images per group among those that could have been chosen; empty where nobody counted them.
    record : CalibrationRecord or None
        What was observed on these images; ``fqbench.quant.ranges.tensor_ranges`` observes them where it is None.
    """

    sampler: str
    frame: pd.DataFrame
    images: ImageSource
    rows: NDArray[np.int64]
    population: Mapping[str, int] = field(default_factory=dict)
    record: CalibrationRecord | None = None

    def __len__(self) -> int:
        """Number of images, repeats included."""
        return len(self.rows)

    @property
    def digest(self) -> str:
        """SHA-256 over the chosen sample ids and their groups, in order."""
        text = "\n".join(f"{sample}\t{group}" for sample, group in self.frame[["sample_id", "group"]].to_numpy())
        return text_digest(text)

    def sample_id(self, position: int) -> str:
        """Return the name of the image at a position."""
        return str(self.frame["sample_id"].iloc[position])

    @property
    def group_counts(self) -> dict[str, int]:
        """Images per group, repeats included, by name of the group."""
        counts = self.frame["group"].value_counts().sort_index()
        return {str(group): int(count) for group, count in counts.items()}

    @property
    def repeats(self) -> dict[str, int]:
        """Repeated draws per group; empty if no image was repeated."""
        repeated = self.frame[self.frame["sample_id"].duplicated()]["group"].value_counts().sort_index()
        return {str(group): int(count) for group, count in repeated.items()}

    def batches(self, size: int) -> Iterator[NDArray[np.float32]]:
        """Yield the pictures in order, ``size`` at a time, float32 (<= size, 3, H, W)."""
        for start in range(0, len(self.rows), size):
            yield self.images.batch(self.rows[start : start + size])


def choose(
    samples: Samples, candidates: pd.DataFrame, sampler: Sampler, n: int, *, by: Sequence[str], seed: int
) -> pd.DataFrame:
    """Let a sampler choose calibration images.

    Parameters
    ----------
    samples : Samples
        The data set, for its name.
    candidates : DataFrame
        Rows to choose from: those of the training split whose pictures are readable.
    sampler : Sampler
        The strategy.
    n : int
        How many.
    by : sequence of str
        Sensitive features that make the groups.
    seed : int
        Of the sampler's generator.

    Returns
    -------
    DataFrame
        Columns ``sample_id`` and ``group``, n rows in the order drawn.

    Raises
    ------
    PluginError
        The sampler returned something else than ``n`` valid row positions.
    """
    positions = np.asarray(sampler.sample(candidates, n, by=by, rng=np.random.default_rng(seed)))
    valid = (
        positions.shape == (n,)
        and positions.dtype.kind == "i"
        and bool(np.all((positions >= 0) & (positions < len(candidates))))
    )
    if not valid:
        raise PluginError(
            f"the sampler {sampler.name!r} did not return {n} row positions of {samples.name}; report it to its author."
        )
    chosen = candidates.iloc[positions]
    frame = chosen[["sample_id"]].reset_index(drop=True)
    frame["group"] = group_labels(chosen, by)
    return frame


def population(candidates: pd.DataFrame, by: Sequence[str]) -> dict[str, int]:
    """Return how many images of each group there are to choose from."""
    names, counts = np.unique(group_labels(candidates, by), return_counts=True)
    return {str(name): int(count) for name, count in zip(names, counts, strict=True)}
