"""Whether a series of timings is steady, and marks on figures that should not be trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

WINDOW = 20
FEWEST_WARMUPS = 2 * WINDOW + 1  # the very first value is an outlier for every runtime, and is never in a window
MOST_WARMUPS = 300
LONGEST_WARMUP = 60.0  # seconds for each subject, once there are enough runs to judge: large models answer slowly
LARGEST_RELATIVE_DEVIATION = 0.10
LARGEST_DRIFT = 0.10
SHORTEST_IN_TIMER_STEPS = 100


class Doubt(StrEnum):
    """Why a latency figure should not be trusted."""

    UNSTEADY = "unsteady"
    NOISY = "noisy"
    DRIFTING = "drifting"
    FEW_ROUNDS = "few_rounds"
    SHORT = "short"
    DIFFERENT_ANSWERS = "different_answers"
    FLOAT_KERNELS = "float_kernels"
    FELL_BACK = "fell_back"
    OTHER_LOAD = "other_load"
    STOLEN = "stolen"
    FREQUENCY = "frequency"
    GOVERNOR = "governor"
    FEW_CORES = "few_cores"
    MANY_THREADS = "many_threads"


@dataclass(frozen=True)
class Mark:
    """A doubt about a figure, with the reason and what to do.

    Attributes
    ----------
    doubt : Doubt
        Which.
    text : str
        One sentence, the same for every subject with this doubt.
    figure : str
        This subject's own, as in ``12 %``; empty where there is none.
    """

    doubt: Doubt
    text: str
    figure: str = ""

    def to_dict(self) -> dict[str, str]:
        """Return JSON values."""
        return {"doubt": self.doubt.value, "text": self.text, "figure": self.figure}


def is_steady(warmups: Sequence[int]) -> bool:
    """Return whether the last two windows of 20 warm-up values agree, as in pyperf's ``calibrate_warmups``.

    The oldest value is not an outlier among the others (above the third quartile by 1.5 interquartile ranges); the mean
    has fallen by no more than 10 % from the first window to the second; quartiles differ by at most 5 %, the median
    absolute deviation by at most 10 % (or by 1 % of the median, where nearly all values are equal). A mean that rises
    is noise, not warm-up: up to 50 % pass.

    Parameters
    ----------
    warmups : sequence of int
        All warm-up times of one subject, oldest first; below 41 the answer is no.
    """
    if len(warmups) < FEWEST_WARMUPS:
        return False
    recent = np.asarray(warmups[-2 * WINDOW :], dtype=np.float64)
    earlier, later = recent[:WINDOW], recent[WINDOW:]
    first_quartile, third_quartile = np.quantile(recent[1:], [0.25, 0.75])
    if earlier[0] > third_quartile + 1.5 * (third_quartile - first_quartile):
        return False
    rise = _relative(later.mean(), earlier.mean())
    if not -0.10 <= rise <= 0.50:
        return False
    quartiles = zip(np.quantile(earlier, [0.25, 0.75]), np.quantile(later, [0.25, 0.75]), strict=True)
    if any(abs(_relative(new, old)) > 0.05 for old, new in quartiles):
        return False
    old_spread, new_spread = _median_absolute_deviation(earlier), _median_absolute_deviation(later)
    return abs(new_spread - old_spread) <= max(0.10 * old_spread, 0.01 * float(np.median(recent)))


def doubts(values: NDArray[np.int64], *, steady: bool, p99_high: float, timer_step: float) -> tuple[Mark, ...]:
    """Return the marks for the timings of one subject.

    Parameters
    ----------
    values : ndarray of int64, shape (rounds,)
        Nanoseconds, in the order measured.
    steady : bool
        Whether the warm-up settled.
    p99_high : float
        Upper end of the interval of p99; infinite where the rounds are too few for one.
    timer_step : float
        Nanoseconds between two readings of the clock with nothing in between.
    """
    marks = []
    if not steady:
        text = "the rate had not settled when the warm-up ended; stop other programs and measure again."
        marks.append(Mark(Doubt.UNSTEADY, text))
    deviation = float(values.std(ddof=1) / values.mean()) if len(values) > 1 and values.mean() > 0 else 0.0
    if deviation > LARGEST_RELATIVE_DEVIATION:
        text = (
            f"the standard deviation is more than {LARGEST_RELATIVE_DEVIATION:.0%} of the mean; "
            "trust p50 and its ratio more than p99."
        )
        marks.append(Mark(Doubt.NOISY, text, f"{deviation:.0%}"))
    third = max(1, len(values) // 3)
    drift = _relative(float(np.median(values[-third:])), float(np.median(values[:third])))
    if abs(drift) > LARGEST_DRIFT:
        text = "p50 drifted from the first third of the rounds to the last; only the ratio allows for it."
        marks.append(Mark(Doubt.DRIFTING, text, f"{drift:+.0%}"))
    if math.isinf(p99_high):
        text = f"{len(values)} rounds give p99 no upper bound; raise --rounds or --seconds."
        marks.append(Mark(Doubt.FEW_ROUNDS, text))
    if float(np.median(values)) < SHORTEST_IN_TIMER_STEPS * timer_step:
        text = f"one run is under {SHORTEST_IN_TIMER_STEPS} steps of the timer ({timer_step:.0f} ns); raise --batch."
        marks.append(Mark(Doubt.SHORT, text))
    return tuple(marks)


def _relative(new: float, old: float) -> float:
    if old == 0:
        return 0.0 if new == 0 else math.inf
    return float((new - old) / old)


def _median_absolute_deviation(values: NDArray[np.float64]) -> float:
    return float(np.median(np.abs(values - np.median(values))))
