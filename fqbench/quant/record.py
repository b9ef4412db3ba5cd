"""The calibration record: statistics of one pass over the calibration images, for all range rules and policies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.errors import DataError, InputError
from fqbench.quant.activations import Activation
from fqbench.storage import read_arrays, write_arrays

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fqbench.contracts.artifacts import ExportedModel
    from fqbench.quant.calibration import CalibrationSet

FORMAT = 3
FACTS, ARRAYS = "record.json", "histograms.npz"


@dataclass(frozen=True)
class CalibrationRecord:
    """Histograms, extremes and channel means of every activation, one set per group.

    Attributes
    ----------
    model_digest, images_digest : str
        The model and the list of images that it belongs to.
    groups : tuple of str
        In the order of the arrays.
    population : dict
        Images per group among those that the sampler could choose from.
    observed : tuple of Activation
        The tensors, in the order of the arrays.
    aliases : dict
        Tensors that share another one's range.
    arrays : dict of ndarray
        The state of `fqbench.quant.histogram.Histograms`, whose documentation says what each holds.
    """

    model_digest: str
    images_digest: str
    groups: tuple[str, ...]
    population: Mapping[str, int]
    observed: tuple[Activation, ...]
    aliases: Mapping[str, str]
    arrays: Mapping[str, NDArray[Any]]
    memory: dict[object, Any] = field(default_factory=dict, repr=False, compare=False)  # ranges found before

    @property
    def counts(self) -> NDArray[np.float64]:
        """Values in each bin, without exact zeros, (tensors, groups, bins)."""
        return self.arrays["counts"]

    @property
    def zeros(self) -> NDArray[np.float64]:
        """Exact zeros, (tensors, groups)."""
        return self.arrays["zeros"]

    @property
    def low(self) -> NDArray[np.float32]:
        """Exact minima, (tensors, groups)."""
        return self.arrays["low"]

    @property
    def high(self) -> NDArray[np.float32]:
        """Exact maxima, (tensors, groups)."""
        return self.arrays["high"]

    @cached_property
    def images(self) -> NDArray[np.int64]:
        """Images of each group."""
        return self.arrays["images"]

    @property
    def group_counts(self) -> dict[str, int]:
        """Images per group, by name."""
        return {group: int(count) for group, count in zip(self.groups, self.images, strict=True)}

    @cached_property
    def width(self) -> NDArray[np.float64]:
        """Width of the bins of each tensor."""
        width: NDArray[np.float64] = np.ldexp(1.0, self.arrays["exponent"])
        return width

    @cached_property
    def edges(self) -> NDArray[np.float64]:
        """Edges of the bins of each tensor, (tensors, bins + 1)."""
        bins = self.counts.shape[2]
        first: NDArray[np.int64] = self.arrays["first"]
        edges: NDArray[np.float64] = (first[:, None] + np.arange(bins + 1)) * self.width[:, None]
        return edges

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the tensors."""
        return tuple(activation.name for activation in self.observed)

    def channel_means(self, tensor: str, weights: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Return the mean of each channel of a tensor over the images, or None if channels were not recorded.

        Parameters
        ----------
        tensor : str
            Name of an observed tensor.
        weights : ndarray, shape (groups,)
            Weight of one image of each group.
        """
        if tensor not in self.names:
            return None
        start, end = self.arrays["channel_start"][self.names.index(tensor) :][:2]
        if start == end:
            return None
        means: NDArray[np.float64] = self.arrays["channel_sum"][start:end] @ weights / (self.images @ weights)
        return means

    def require(self, model: ExportedModel, calibration: CalibrationSet) -> CalibrationRecord:
        """Return this record if it was made from this model and these images.

        Raises
        ------
        InputError
            The record belongs to another model or other images.
        """
        for what, mine, other in (
            (f"model {model.name}", self.model_digest, model.digest),
            (f"list of images ({calibration.sampler}, {len(calibration)})", self.images_digest, calibration.digest),
        ):
            if mine != other:
                raise InputError(
                    f"the calibration record does not belong to this {what}: it was made of {mine[:12]}, not "
                    f"{other[:12]}; observe again with `fqbench quantize`."
                )
        return self

    def save(self, folder: Path) -> None:
        """Write the record into an existing folder; the same record gives the same bytes."""
        facts = {
            "format": FORMAT,
            "model_digest": self.model_digest,
            "images_digest": self.images_digest,
            "groups": list(self.groups),
            "population": dict(self.population),
            "observed": [asdict(activation) for activation in self.observed],
            "aliases": dict(self.aliases),
        }
        (folder / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        write_arrays(folder / ARRAYS, self.arrays)


def open_record(folder: Path) -> CalibrationRecord:
    """Open a record that `CalibrationRecord.save` wrote.

    Raises
    ------
    DataError
        The record is damaged, or of another version of its format.
    """
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        arrays = read_arrays(folder / ARRAYS)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"the calibration record {folder} is damaged ({error}); delete it and run again.") from error
    if facts.get("format") != FORMAT:
        raise DataError(f"the calibration record {folder} has format {facts.get('format')}, not {FORMAT}; delete it.")
    observed = tuple(
        Activation(**(one | {"shape": tuple(one["shape"]), "lattice": tuple(one["lattice"])}))
        for one in facts["observed"]
    )
    return CalibrationRecord(
        model_digest=facts["model_digest"],
        images_digest=facts["images_digest"],
        groups=tuple(facts["groups"]),
        population=facts["population"],
        observed=observed,
        aliases=facts["aliases"],
        arrays=arrays,
    )
