"""Trials: each an ordinary artifact, run on the validation images that choose, and compared with the limits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fqbench.catalogue import artifact_named
from fqbench.contracts.artifacts import Artifact
from fqbench.contracts.scheme import Scheme
from fqbench.errors import FqbenchError, UnavailableError
from fqbench.plugins import backend as backend_named
from fqbench.plugins import support_of
from fqbench.run import Run
from fqbench.search.budget import Budget
from fqbench.search.forecast import Forecast, Forecaster
from fqbench.search.images import SPLIT, ValidationImages
from fqbench.search.results import SIZE, Outlook, TrialReport
from fqbench.stages.predict import predict_split
from fqbench.stages.quantize import quantize

if TYPE_CHECKING:
    from numpy.typing import NDArray

MEGABYTE = 1e6
SAME_SIZE = 0.01  # artifacts whose sizes differ by less are of one size, and the one that changes less is better


class BudgetSpent(Exception):
    """There is no time for another trial."""


def answers_on(
    run: Run, artifact: Artifact, images: ValidationImages, all_images: ValidationImages
) -> NDArray[np.float32]:
    """Return an artifact's logits for some validation images; it is run on all of them once."""
    found = predict_split(
        run.with_options("eval", split=SPLIT), artifact, only=frozenset(all_images.sample_ids.tolist())
    )
    place = {name: row for row, name in enumerate(found.predictions.sample_ids.tolist())}
    logits: NDArray[np.float32] = found.predictions.logits[[place[name] for name in images.sample_ids.tolist()]]
    return logits


@dataclass
class Trials:
    """All trials of one search.

    Attributes
    ----------
    run : Run
        The experiment.
    forecaster : Forecaster
        Of the choosing half.
    images : ValidationImages
        Both halves together: what an artifact is run on.
    budget : Budget
        Time that is left.
    max_mb : float or None
        The limit on size, which needs no images.
    done : list of TrialReport
        In order.
    steps : list of str
        What was done, in sentences.
    forecasts : dict of int to Forecast
        By number of the trial.
    lost : set of str
        Backends that failed.
    """

    run: Run
    forecaster: Forecaster
    images: ValidationImages
    budget: Budget
    max_mb: float | None = None
    done: list[TrialReport] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    forecasts: dict[int, Forecast] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    _known: dict[tuple[str, str], TrialReport] = field(default_factory=dict)

    def say(self, step: str) -> None:
        """Note a step, and show it."""
        self.steps.append(step)
        self.run.reporter.say(step)

    def scheme(self, backend: str, scheme: Scheme, why: str) -> TrialReport:
        """Try a scheme on a backend; what was tried before is returned.

        Raises
        ------
        BudgetSpent
            There is no time for another trial.
        """
        key = (backend, scheme.model_dump_json())
        if key not in self._known:
            run = self.run.with_options("quantize", backend=backend)
            self._known[key] = self._try(backend, scheme.label, why, lambda: quantize(run, scheme))
        return self._known[key]

    def trained(self, backend: str, bits: int, why: str) -> TrialReport:
        """Try quantization-aware training; as `scheme`."""
        run = self.run.with_options("quantize", backend=backend, method="qat", bits=bits, act_bits=8, recipe=None)
        key = (backend, f"qat {bits}")
        if key not in self._known:
            self._known[key] = self._try(backend, f"int{bits}-qat", why, lambda: quantize(run))
        return self._known[key]

    def artifact(self, trial: TrialReport) -> Artifact:
        """Open the artifact of a trial."""
        return artifact_named(self.run.workspace, trial.artifact_id)

    def best(self, objective: Callable[[TrialReport], tuple[float, ...]]) -> TrialReport | None:
        """Return the best trial that keeps the limits, or None."""
        return min((one for one in self.done if one.keeps), key=objective, default=None)

    def _try(self, backend: str, label: str, why: str, make: Callable[[], Artifact]) -> TrialReport:
        number = len(self.done) + 1
        if not self.budget.left:
            raise BudgetSpent
        self.run.reporter.say(f"trial {number}: {backend} {label}, {why}")
        try:
            made = self._judged(number, backend, why, make())
        except FqbenchError as error:
            if isinstance(error, UnavailableError):
                self.lost.add(backend)
            self.say(f"{backend} {label} was left out: {error}")
            made = TrialReport(number, "", backend, f"{backend} {label}", why, "", failed=str(error))
        self.done.append(made)
        self.budget.keep()
        return made

    def _judged(self, number: int, backend: str, why: str, artifact: Artifact) -> TrialReport:
        run = self.run.with_options("eval", split=SPLIT)
        found = predict_split(run, artifact, only=frozenset(self.images.sample_ids.tolist()))
        logits = answers_on(self.run, artifact, self.forecaster.images, self.images)
        forecast = self.forecaster.of(logits)
        self.forecasts[number] = forecast
        return TrialReport(
            number=number,
            artifact_id=artifact.id,
            backend=backend,
            label=artifact.label,
            why=why,
            scheme=artifact.scheme.model_dump_json(),
            bytes=artifact.size_on_disk,
            level=found.level.value,
            integer_share=found.arithmetic.integer_share,
            outlooks=(*forecast.outlooks, *self.size_outlook(artifact.size_on_disk)),
            worst_group=forecast.worst_group,
            kl_divergence=forecast.kl_divergence,
            worst_kl_divergence=forecast.worst_kl_divergence,
            accuracy_changes=forecast.accuracy_changes,
        )

    def size_outlook(self, size: int) -> tuple[Outlook, ...]:
        """Compare a size in bytes with its limit, if there is one; the shortfall is relative."""
        if self.max_mb is None:
            return ()
        megabytes = size / MEGABYTE
        missed = max(0.0, megabytes / self.max_mb - 1)
        return (Outlook(SIZE, self.max_mb, megabytes, megabytes, missed),)


def has_speed(backend: str, scheme: Scheme) -> bool:
    """Whether a backend executes a scheme as it would be shipped, and not in simulation."""
    return support_of(backend_named(backend), scheme).level.has_speed


def objective_of(name: str) -> Callable[[TrialReport], tuple[float, ...]]:
    """Return the order of trials: by size, or by share of float arithmetic, then by what they change.

    The share of arithmetic that runs in integer kernels stands for speed until the finalists are measured.
    """

    def by_latency(trial: TrialReport) -> tuple[float, ...]:
        share = 0.0 if math.isnan(trial.integer_share) else trial.integer_share
        return (round(1 - share, 3), trial.score, trial.bytes)

    def by_size(trial: TrialReport) -> tuple[float, ...]:
        return (float(int(math.log(max(trial.bytes, 1)) / SAME_SIZE)), trial.score)

    return by_latency if name == "latency" else by_size
