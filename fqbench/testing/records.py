"""Calibration records made of arrays, for tests of what is done with records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from fqbench.quant.activations import Activation
from fqbench.quant.histogram import BINS, Histograms, Seen
from fqbench.quant.layout import Layout
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
            ceiling=None,
            channel_axis=0,
        )
        for name, of_group in values.items()
    )
    layout = Layout.of(observed)
    histograms = Histograms(layout, len(groups), bins=bins)
    for number, group in enumerate(groups):
        arrays = [np.asarray(values[activation.name][group], dtype=np.float32) for activation in observed]
        seen = Seen(
            maxima=tuple(array.max(axis=1, keepdims=True) for array in arrays),
            minima=tuple(arrays[tensor].min(axis=1, keepdims=True) for tensor in layout.signed),
            sample=tuple(arrays),
        )
        histograms.fold(seen, np.full(len(arrays[0]), number, dtype=np.int64))
    counts = {group: int(count) for group, count in zip(groups, histograms.images, strict=True)}
    return CalibrationRecord(
        model_digest="0" * 64,
        images_digest="1" * 64,
        groups=groups,
        population=dict(population or counts),
        observed=observed,
        aliases={},
        arrays={**histograms.state(), "channel_start": layout.channel_start},
    )
