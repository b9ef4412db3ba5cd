r"""An effect over trainings and images, from figures with intervals, and what its test decides.

A *unit* is one trained model (data set, model, seed) with a figure :math:`y` and the standard error :math:`s` that its
images give it. Units of the same data set and model are a *stratum* and differ in the training seed alone. The effect
is a weighted sum of stratum means, :math:`\hat\theta = \sum_m w_m \bar y_m`, with

.. math:: SE^2 = \hat\sigma^2 \sum_m w_m^2 / n_m + \max\left(\sum_m w_m^2 s_m^2, \left(\sum_m w_m s_m\right)^2\right).

The first part is the variance between trainings, pooled within the strata. The second one is that of the images. All
units answered the same images, so that their errors have a correlation between 0 and 1 that is not known; the variance
is linear in it, and the larger end is taken. Within a stratum it is taken as 1. Noise of the images that is independent
between seeds is counted twice, which makes the interval wider, not narrower. Degrees of freedom are Satterthwaite's
(1946). Models are fixed: the interval says nothing about models that are not in the study.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Stratum = tuple[str, str]  # data set and model


@dataclass(frozen=True)
class Unit:
    """One trained model.

    Attributes
    ----------
    data, model : str
        Its stratum.
    seed : int
        Training seed.
    value, error : float
        Its figure and the standard error that the images give it; 0 where no images are involved.
    images : int
        How many; 0 where none are.
    cells : tuple of str
        Cells whose rows were used.
    """

    data: str
    model: str
    seed: int
    value: float
    error: float
    images: int
    cells: tuple[str, ...]

    @property
    def stratum(self) -> Stratum:
        """Data set and model."""
        return self.data, self.model


@dataclass(frozen=True)
class Effect:
    """An estimated effect.

    Attributes
    ----------
    value : float
        NaN where nothing was found in the table.
    from_seeds, from_images : float
        The two parts of the variance of ``value``; the first is NaN where no stratum has two seeds.
    freedom : float
        Degrees of freedom; infinite where only images vary.
    seeds, images : int
        Fewest seeds of a stratum, and images.
    cells : tuple of str
        Cells whose rows were used.
    """

    value: float
    from_seeds: float
    from_images: float
    freedom: float
    seeds: int
    images: int
    cells: tuple[str, ...] = ()

    @property
    def error(self) -> float:
        """Standard error; NaN where the variance between trainings is unknown."""
        return math.sqrt(self.from_seeds + self.from_images)

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return the two-sided interval of Student's t; unbounded where the error is unknown."""
        from scipy.special import stdtrit

        if math.isnan(self.error):
            return -math.inf, math.inf
        half = float(stdtrit(self.freedom, 0.5 + confidence / 2)) * self.error if self.error else 0.0
        return self.value - half, self.value + half

    def p_below(self, bound: float) -> float:
        """Return the p-value of "at or above the bound", against "below"; NaN where the error is unknown."""
        from scipy.special import stdtr

        if math.isnan(self.error) or math.isnan(self.value):
            return math.nan
        if self.error == 0:
            return 0.0 if self.value < bound else 1.0
        return float(stdtr(self.freedom, (self.value - bound) / self.error))

    def p_above(self, bound: float) -> float:
        """Return the p-value of "at or below the bound", against "above"."""
        below = self.p_below(bound)
        return below if math.isnan(below) else 1.0 - below if self.error else float(self.value <= bound)


NOTHING = Effect(math.nan, math.nan, math.nan, math.nan, 0, 0)


def mean_effect(units: Sequence[Unit]) -> Effect:
    """Return the mean over strata; every stratum counts the same."""
    strata = {unit.stratum for unit in units}
    return weighted_effect(units, {stratum: 1 / len(strata) for stratum in strata})


def slope_effect(units: Sequence[Unit], sizes: Mapping[str, float]) -> Effect:
    """Return the least-squares slope of the stratum means over a size of the models."""
    strata = sorted({unit.stratum for unit in units})
    x = np.array([sizes[model] for _data, model in strata], dtype=np.float64)
    centred = x - x.mean() if len(x) else x
    if not np.any(centred):
        return NOTHING
    weights = centred / (centred**2).sum()
    return weighted_effect(units, dict(zip(strata, weights.tolist(), strict=True)))


def weighted_effect(units: Sequence[Unit], weights: Mapping[Stratum, float]) -> Effect:
    """Return a weighted sum of stratum means, as the module says.

    Parameters
    ----------
    units : sequence of Unit
        At least one of each stratum.
    weights : mapping
        Of each stratum.
    """
    members: dict[Stratum, list[Unit]] = {}
    for unit in units:
        if unit.stratum in weights and not math.isnan(unit.value):
            members.setdefault(unit.stratum, []).append(unit)
    if not members or members.keys() != weights.keys():
        return NOTHING
    value, images, apart, together, spread, freedom = 0.0, [], 0.0, 0.0, 0.0, 0
    for stratum, found in members.items():
        y, weight = np.array([unit.value for unit in found]), weights[stratum]
        s = float(np.mean([unit.error for unit in found]))
        value += weight * float(y.mean())
        apart, together = apart + (weight * s) ** 2, together + weight * s
        spread, freedom = spread + float(((y - y.mean()) ** 2).sum()), freedom + len(found) - 1
        images += [unit.images for unit in found if unit.images]
    shares = sum(weights[stratum] ** 2 / len(found) for stratum, found in members.items())
    from_seeds = spread / freedom * shares if freedom else math.nan
    from_images = max(apart, together**2)
    total = from_seeds + from_images
    return Effect(
        value=value,
        from_seeds=from_seeds,
        from_images=from_images,
        freedom=freedom * (total / from_seeds) ** 2 if freedom and from_seeds > 0 else math.inf,
        seeds=min(map(len, members.values())),
        images=min(images, default=0),
        cells=tuple(dict.fromkeys(cell for found in members.values() for unit in found for cell in unit.cells)),
    )
