"""Changes over several training seeds and calibration draws, with the variance component of each level.

The models of all seeds and draws answered the same images. So images are resampled once for all models, draws within
their seed, and seeds as wholes; pooling them would count the same images several times.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fqbench.errors import DataError, InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEW = 3
# (models, groups, labels, predictions) -> (models,): one figure per model from its table of counts
Statistic = Callable[["NDArray[np.float64]"], "NDArray[np.float64]"]


@dataclass(frozen=True)
class Patterns:
    """Images grouped by their group, label and the prediction of each model.

    Few images flip, so there are few patterns, and resampling costs the same for any number of images.

    Attributes
    ----------
    groups : tuple of str
        Names of the groups.
    classes : int
        Number of classes.
    rows : ndarray of int64, shape (patterns, 2 + models)
        Group, label, and the answer of each model.
    counts : ndarray of int64, shape (patterns,)
        Images of each pattern.
    """

    groups: tuple[str, ...]
    classes: int
    rows: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def count(
        cls,
        labels: NDArray[np.int64],
        answers: NDArray[np.int64],
        groups: NDArray[np.str_],
        classes: int,
        known_groups: Sequence[str] | None = None,
    ) -> Patterns:
        """Count patterns of ``answers`` (images, models); ``known_groups`` may name groups without images."""
        names, codes = np.unique(groups, return_inverse=True)
        if known_groups is not None:
            codes = np.array([list(known_groups).index(name) for name in names], dtype=np.intp)[codes]
            names = np.asarray(known_groups)
        if not len(labels) == len(answers) == len(groups):
            raise InputError("labels, answers and groups differ in length; give one row per image.")
        rows, counts = np.unique(np.column_stack([codes, labels, answers]), axis=0, return_counts=True)
        return cls(tuple(map(str, names)), classes, rows, counts)

    def tables(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return each model's table (models, groups, labels, predictions) for weighted patterns."""
        models, cells = self.rows.shape[1] - 2, self.classes**2
        tables = np.zeros((models, len(self.groups) * cells))
        base = (self.rows[:, 0] * self.classes + self.rows[:, 1]) * self.classes
        for model in range(models):
            tables[model] = np.bincount(base + self.rows[:, 2 + model], weights, minlength=tables.shape[1])
        return tables.reshape(models, len(self.groups), self.classes, self.classes)

    def resampled(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Resample the images of each group with replacement; return the weights of the patterns."""
        weights = np.zeros(len(self.counts))
        for group in range(len(self.groups)):
            rows = np.flatnonzero(self.rows[:, 0] == group)
            total = int(self.counts[rows].sum())
            if total == 0:
                continue
            weights[rows] = rng.multinomial(total, self.counts[rows] / total)
        return weights


@dataclass(frozen=True)
class Design:
    """The replication design: for each seed a reference and one candidate per draw.

    Attributes
    ----------
    references : mapping of int to int
        Training seed to the reference's column among the models.
    candidates : mapping of int to tuple of int
        Training seed to the columns of its calibration draws.
    """

    references: Mapping[int, int]
    candidates: Mapping[int, tuple[int, ...]]

    def __post_init__(self) -> None:
        """Check that every seed has a reference and a candidate."""
        if not self.references or set(self.references) != set(self.candidates):
            raise InputError("every training seed needs its reference and at least one calibration draw.")
        if not all(self.candidates.values()):
            raise DataError("a training seed has no calibration draw; quantize it first.")


@dataclass(frozen=True)
class Spread:
    """A change over seeds and draws, with its variance components.

    Attributes
    ----------
    value, low, high : float
        Mean change over seeds (of the mean over draws), and its interval over all three levels.
    sd_seeds, sd_draws, sd_images : float
        Standard deviation of that mean when only this level is resampled; NaN for a level of one.
    seeds, draws : int
        How many seeds, and the fewest draws of a seed.
    few : bool
        Fewer than three seeds: the interval knows little about training, and is likely too narrow.
    """

    value: float
    low: float
    high: float
    sd_seeds: float
    sd_draws: float
    sd_images: float
    seeds: int
    draws: int
    few: bool


def hierarchical_change(
    patterns: Patterns,
    design: Design,
    statistic: Statistic,
    *,
    replicates: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Spread:
    """Bootstrap the mean change of a figure over seeds, draws and images.

    Parameters
    ----------
    patterns : Patterns
        What all models answered.
    design : Design
        Which model is which.
    statistic : callable
        One figure a model from tables (models, groups, labels, predictions); NaN where undefined.
    replicates : int
        Bootstrap replicates of each kind.
    confidence : float
        Of the percentile interval.
    seed : int
        Same input and seed, same result.

    Returns
    -------
    Spread

    References
    ----------
    Davison and Hinkley (1997), Bootstrap Methods and their Application, section 3.8, on resampling nested levels.
    """
    rng = np.random.default_rng(seed)
    whole = patterns.counts.astype(np.float64)
    figures = statistic(patterns.tables(whole))
    seeds = sorted(design.references)
    draws = min(len(columns) for columns in design.candidates.values())
    if np.isnan(figures).all():  # a group without images
        nan = math.nan
        return Spread(nan, nan, nan, nan, nan, nan, len(seeds), draws, few=len(seeds) < FEW)

    def mean(figures: NDArray[np.float64], *, over_seeds: bool, over_draws: bool) -> float:
        chosen = rng.choice(seeds, len(seeds)) if over_seeds else np.asarray(seeds)
        changes = []
        for one in chosen.tolist():
            columns = np.asarray(design.candidates[one])
            picked = rng.choice(columns, len(columns)) if over_draws else columns
            changes.append(figures[picked].mean() - figures[design.references[one]])
        return float(np.mean(changes))

    def replicate(*, images: bool, over_seeds: bool, over_draws: bool) -> NDArray[np.float64]:
        values = np.empty(replicates)
        for index in range(replicates):
            drawn = statistic(patterns.tables(patterns.resampled(rng))) if images else figures
            values[index] = mean(drawn, over_seeds=over_seeds, over_draws=over_draws)
        return values[~np.isnan(values)]

    everything = replicate(images=True, over_seeds=len(seeds) > 1, over_draws=draws > 1)
    low = high = math.nan
    if len(everything):
        low, high = np.quantile(everything, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Spread(
        value=mean(figures, over_seeds=False, over_draws=False),
        low=float(low),
        high=float(high),
        sd_seeds=_sd(replicate(images=False, over_seeds=True, over_draws=False)) if len(seeds) > 1 else math.nan,
        sd_draws=_sd(replicate(images=False, over_seeds=False, over_draws=True)) if draws > 1 else math.nan,
        sd_images=_sd(replicate(images=True, over_seeds=False, over_draws=False)),
        seeds=len(seeds),
        draws=draws,
        few=len(seeds) < FEW,
    )


def _sd(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else math.nan
