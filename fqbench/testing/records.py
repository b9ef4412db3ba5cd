"""Calibration records made of arrays, for tests of what is done with records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from fqbench.quant.graph import Activation
from fqbench.quant.histogram import BINS, Columns, Histograms
from fqbench.quant.record import CalibrationRecord

if TYPE_CHECKING:
    from numpy.typing import NDArray


def record_of(
    values: Mapping[str, Mapping[str, NDArray[np.float32]]],
    *,
    population: Mapping[str, int] | None = None,
    bins: int = BINS,
) -> CalibrationRecord:
    """Return the record of these activations, every value of which is counted.

    Parameters
    ----------
    values : mapping
        Tensor to group to float32 (images, values of an image); the groups and their images are the same for every
        tensor.
    population : mapping, optional
        Images per group that could have been chosen; those that are there by default.
    bins : int
        Of the histograms.
    """
    groups = tuple(sorted(next(iter(values.values()))))
    observed = tuple(
        Activation(
            name=name,
            shape=(next(iter(of_group.values())).shape[1],),
            non_negative=all(float(array.min()) >= 0 for array in of_group.values()),
            pixels=1,
            step=1,
            channel_axis=0,
        )
        for name, of_group in values.items()
    )
    columns = Columns.of(observed)
    histograms = Histograms(columns, len(groups), bins=bins)
    for number, group in enumerate(groups):
        arrays = [np.asarray(values[activation.name][group], dtype=np.float32) for activation in observed]
        maxima = np.stack([array.max(axis=1) for array in arrays], axis=1)
        minima = (
            np.stack([arrays[tensor].min(axis=1) for tensor in columns.signed], axis=1)
            if len(columns.signed)
            else (np.zeros((len(maxima), 0), np.float32))
        )
        codes = np.full(len(maxima), number, dtype=np.int64)
        histograms.fold(maxima, minima, np.concatenate(arrays, axis=1), codes)
    counts = {group: int(count) for group, count in zip(groups, histograms.images, strict=True)}
    return CalibrationRecord(
        model_digest="0" * 64,
        images_digest="1" * 64,
        groups=groups,
        population=dict(population or counts),
        observed=observed,
        aliases={},
        arrays={**histograms.state(), "channel_start": columns.channel_start},
    )
