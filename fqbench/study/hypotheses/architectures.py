r"""H6: does the architecture predict how quantization changes fairness? Leave one architecture out, and see.

Every architecture is left out once. From the cells of the others, two predictions are made for each of its cells. The
*baseline* is the mean of the same method and bits. The *architecture* adds a ridge regression of what the baseline
leaves on the size of the model (log parameters) and its reuse of weights (log multiply-accumulates per parameter),
standardized on the architectures that it learns from. The effect is the share of squared error that this saves,
:math:`\sum_a (b_a - m_a) / \sum_a b_a`, where :math:`b_a` and :math:`m_a` are the mean squared errors for architecture
:math:`a`. Architectures are the units: its interval is Student's t over them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fqbench.study.hypotheses.effect import NOTHING, Effect
from fqbench.study.hypotheses.units import CellFigures

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEWEST = 3
RIDGE = 1.0  # with standardized features: as much as one architecture's worth of evidence for no influence


def skill_of_architecture(cells: Sequence[CellFigures], measure: str) -> tuple[Effect, str]:
    """Return the share of squared error that knowing the architecture saves, and a reason where there is no test."""
    usable = [cell for cell in cells if cell.get(measure) and cell.get("parameters") and cell.get("total_macs")]
    names = sorted({str(cell.place["model"]) for cell in usable})
    if len(names) < FEWEST:
        return NOTHING, f"{len(names)} architecture(s) with such cells; at least {FEWEST} are needed"
    errors = np.array([_errors(usable, name, measure) for name in names])
    errors = errors[~np.isnan(errors).any(axis=1)]
    if len(errors) < FEWEST or not errors[:, 0].sum():
        return NOTHING, "the cells of the architectures do not share methods and bits, or do not differ"
    saved, count = (errors[:, 0] - errors[:, 1]) / errors[:, 0].mean(), len(errors)
    # The scale is estimated, too: the residuals of a ratio of means are those of its linear form.
    value = float(saved.mean())
    residuals = saved - value * errors[:, 0] / errors[:, 0].mean()
    variance = float((residuals**2).sum() / (count - 1) / count)
    cells_used = tuple(cell.cell for cell in usable)
    return Effect(value, variance, 0.0, count - 1, count, 0, cells_used), ""


def _errors(cells: Sequence[CellFigures], left_out: str, measure: str) -> tuple[float, float]:
    """Return the mean squared errors of the baseline and of the architecture for the one that is left out."""
    known = [cell for cell in cells if cell.place["model"] != left_out]
    asked = [cell for cell in cells if cell.place["model"] == left_out]
    means: dict[tuple[object, object], list[float]] = {}
    for cell in known:
        means.setdefault(_treatment(cell), []).append(_value(cell, measure))
    asked = [cell for cell in asked if _treatment(cell) in means]
    if not asked:
        return math.nan, math.nan
    mean = {key: float(np.mean(values)) for key, values in means.items()}
    features = np.array([_features(cell) for cell in known])
    centre, scale = features.mean(axis=0), features.std(axis=0)
    x = (features - centre) / np.where(scale > 0, scale, 1.0)
    residuals = np.array([_value(cell, measure) - mean[_treatment(cell)] for cell in known])
    # One architecture's cells are one piece of evidence about it, however many there are.
    architectures = len({cell.place["model"] for cell in known})
    weight = architectures / len(known)
    slopes = np.linalg.solve(weight * x.T @ x + RIDGE * np.eye(x.shape[1]), weight * x.T @ residuals)
    wanted = (np.array([_features(cell) for cell in asked]) - centre) / np.where(scale > 0, scale, 1.0)
    actual = np.array([_value(cell, measure) for cell in asked])
    baseline = np.array([mean[_treatment(cell)] for cell in asked])
    return float(((actual - baseline) ** 2).mean()), float(((actual - baseline - wanted @ slopes) ** 2).mean())


def _treatment(cell: CellFigures) -> tuple[object, object]:
    return cell.place["method"], cell.place["bits"]


def _features(cell: CellFigures) -> NDArray[np.float64]:
    parameters, macs = (cell.figures[name].value for name in ("parameters", "total_macs"))
    return np.array([math.log10(parameters), math.log10(max(macs, 1.0) / parameters)])


def _value(cell: CellFigures, measure: str) -> float:
    return cell.figures[measure].value
