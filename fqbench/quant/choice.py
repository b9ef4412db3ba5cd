"""Choose among candidates: each is run on validation images, and the one closest to FP32 is kept."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.contracts.scheme import Override
from fqbench.contracts.task import PredictionTask
from fqbench.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fqbench.contracts.artifacts import Artifact
    from fqbench.contracts.scheme import Scheme

SMALLEST_GROUP = 20  # validation images; the divergence of fewer is noise
RULES = ("minmax", "mean_minmax", "percentile=99.99", "mse")
CHOSEN = ("range_rule", "bias_correction", "rounding", "rescaling", "reduce_range")
VISIBLE = 0.01  # of a trial's score: below, rescaling, which observes the images again, is not tried
SEVEN_BITS = "7-bit weights, "  # before a candidate's name
WITHOUT_TRIAL = "mean_minmax"  # the rule where nothing can be tried: it holds where minmax loses 20 points


@dataclass(frozen=True)
class Validation:
    """What candidates are compared on.

    Attributes
    ----------
    batches : callable
        Yields the images in batches, each time from the first one.
    groups : ndarray of str, shape (images,)
        The group of each.
    reference : ndarray of float32, shape (images, classes)
        FP32's logits.
    task : PredictionTask
        What the logits stand for. The divergence of attributes is the mean of their two-class divergences.
    """

    batches: Callable[[], Iterator[NDArray[np.float32]]]
    groups: NDArray[np.str_]
    reference: NDArray[np.float32]
    task: PredictionTask = PredictionTask.CLASSES


@dataclass(frozen=True)
class Trial:
    """One candidate on the validation images.

    Attributes
    ----------
    name : str
        Name of the candidate: ``mse``, ``mse, bias correction``.
    kl_divergence : float
        Mean KL divergence from FP32's probabilities, in nats; 0 is ideal.
    worst_kl_divergence : float
        The same of the group with the largest one.
    worst_group : str
        That group; empty where no group has enough images.
    agreement : float
        Share of images with FP32's answer; of attributes, the share of answers.
    worst_agreement : float
        The same of the group with the smallest one.
    """

    name: str
    kl_divergence: float
    worst_kl_divergence: float
    worst_group: str
    agreement: float
    worst_agreement: float

    @property
    def score(self) -> float:
        """The quantity to minimize: KL divergence over all images plus that of the worst group."""
        return self.kl_divergence + self.worst_kl_divergence


def trial(name: str, validation: Validation, answers: NDArray[np.float32]) -> Trial:
    """Compare a candidate's logits with FP32's, over all images and per group."""
    divergence = validation.task.divergence(validation.reference, answers)
    same = validation.task.agreement(validation.reference, answers)
    names, codes, counts = np.unique(validation.groups, return_inverse=True, return_counts=True)
    enough = [number for number in range(len(names)) if counts[number] >= SMALLEST_GROUP]
    means = {str(names[number]): float(divergence[codes == number].mean()) for number in enough}
    shares = [float(same[codes == number].mean()) for number in enough]
    worst = max(means, key=lambda group: means[group], default="")
    return Trial(
        name=name,
        kl_divergence=float(divergence.mean()),
        worst_kl_divergence=means.get(worst, float(divergence.mean())),
        worst_group=worst,
        agreement=float(same.mean()),
        worst_agreement=min(shares, default=float(same.mean())),
    )


@dataclass(frozen=True)
class Choice:
    """The artifact that was kept, its settings, the other candidates, and why one that might help was not tried."""

    artifact: Artifact
    scheme: Scheme
    trials: tuple[Trial, ...]
    not_tried: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values for the manifest."""
        return {
            "range_rule": self.scheme.range_rule,
            "bias_correction": self.scheme.bias_correction,
            "rounding": self.scheme.rounding,
            "rescaling": self.scheme.rescaling,
            "reduce_range": self.scheme.reduce_range,
            "tried": [vars(one) for one in self.trials],
            "not_tried": dict(self.not_tried),
        }


def settled(scheme: Scheme, choice: Mapping[str, Any]) -> Scheme:
    """Return a scheme with what its manifest says was chosen: rules for ``auto``, and a placement."""
    found: dict[str, Any] = {name: choice[name] for name in CHOSEN if name in choice}
    placement = choice.get("placement")
    if placement is not None:
        overrides = tuple(Override.model_validate(one) for one in placement["overrides"])
        found |= {"overrides": overrides, "placement": "rules"}
    return scheme.model_copy(update=found)


def choose(
    scheme: Scheme,
    validation: Validation | None,
    make: Callable[[Scheme, Path], Artifact],
    answer: Callable[[Artifact, Iterator[NDArray[np.float32]]], NDArray[np.float32] | None],
    out: Path,
    *,
    rescalable: Callable[[], bool] = lambda: False,
    reducible: bool = False,
) -> Choice:
    """Choose what a scheme leaves open and make the artifact.

    First the range rule, then bias correction, rounding and rescaling, each with the best candidate so far. Where sums
    may saturate, weights have 7 bits in these trials, and the best is then tried with all 8.

    Parameters
    ----------
    scheme : Scheme
        With ``auto`` as its range rule, its bias correction, both or neither.
    validation : Validation or None
        None where there are no validation images.
    make : callable
        Makes the artifact of a settled scheme in the folder that it is given.
    answer : callable
        Answers with an artifact; None where it cannot be executed here.
    out : Path
        Folder for the artifact that is kept.
    rescalable : callable
        Whether rescaling may matter for this model and is supported; asked where the answers visibly differ.
    reducible : bool
        Whether 7 bits for 8-bit weights may be better, as on a CPU whose sums saturate.
    """
    rules = RULES if scheme.range_rule == "auto" else (scheme.range_rule,)
    corrections = ("off", "on") if scheme.bias_correction == "auto" else (scheme.bias_correction,)
    without = scheme.model_copy(update=_without_trial(scheme))
    open_rounding = scheme.rounding == "auto" and scheme.has_low_bits
    if validation is None or (len(rules) * len(corrections) == 1 and not open_rounding):
        return Choice(make(without, out), without, ())
    trials = _Trials(validation, make, answer, out)
    for rule in rules:
        candidate = without.model_copy(update={"range_rule": rule, "bias_correction": corrections[0]})
        if reducible:
            candidate = candidate.model_copy(update={"reduce_range": True})
        if not trials.add(SEVEN_BITS * reducible + rule, candidate):
            return Choice(make(without, out), without, ())
    if len(corrections) > 1:
        trials.vary("bias correction", {"bias_correction": corrections[1]})
    if open_rounding:
        trials.vary("rounded to nearest", {"rounding": "nearest"})
    if reducible:
        trials.use_all_bits()
    if scheme.range_rule == "auto" and scheme.rescaling == "auto":
        trials.rescale(rescalable)
    return trials.keep()


@dataclass
class _Trials:
    """The candidates, each in its own folder below ``out``."""

    validation: Validation
    make: Callable[[Scheme, Path], Artifact]
    answer: Callable[[Artifact, Iterator[NDArray[np.float32]]], NDArray[np.float32] | None]
    out: Path
    tried: dict[str, tuple[Trial, Scheme, Artifact]] = field(default_factory=dict)
    not_tried: dict[str, str] = field(default_factory=dict)

    @property
    def best(self) -> Trial:
        return min((one for one, _scheme, _artifact in self.tried.values()), key=lambda one: one.score)

    def add(self, name: str, candidate: Scheme) -> bool:
        """Make and run a candidate; return False and remove it if it cannot be executed."""
        folder = self.out / f".tried-{len(self.tried)}"
        folder.mkdir()
        try:
            made = self.make(candidate, folder)
        except DataError:
            shutil.rmtree(folder)
            raise
        found = self.answer(made, self.validation.batches())
        if found is None:
            shutil.rmtree(folder)
            return False
        self.tried[name] = trial(name, self.validation, found), candidate, made
        return True

    def vary(self, name: str, change: Mapping[str, str]) -> None:
        """Try the best candidate so far with one setting changed."""
        best = self.best.name
        self.add(f"{best}, {name}", self.tried[best][1].model_copy(update=change))

    def use_all_bits(self) -> None:
        """Try the best candidate so far, whose weights have 7 bits, with 8."""
        best = self.best.name
        self.add(best.removeprefix(SEVEN_BITS), self.tried[best][1].model_copy(update={"reduce_range": False}))

    def rescale(self, rescalable: Callable[[], bool]) -> None:
        """Try the best candidate rescaled, where its answers visibly differ from FP32's; else note why not."""
        if self.best.score <= VISIBLE:
            self.not_tried["rescaling"] = (
                f"the divergences of {self.best.name!r} add up to {self.best.score:.2g}, not to more than {VISIBLE:g}"
            )
        elif rescalable():
            try:
                self.vary("rescaled", {"rescaling": "on"})
            except DataError as error:  # the others are as good as before
                self.not_tried["rescaling"] = str(error)

    def keep(self) -> Choice:
        """Move the best candidate's files into ``out``, and remove the others."""
        _best, scheme, artifact = self.tried[self.best.name]
        kept = moved(artifact, self.out)
        for _trial, _scheme, other in self.tried.values():
            shutil.rmtree(other.root)
        tried = tuple(one[0] for one in self.tried.values())
        return Choice(replace(kept, root=self.out), scheme, tried, self.not_tried)


def moved(artifact: Artifact, out: Path) -> Artifact:
    """Move the files of an artifact into another folder."""
    for name in artifact.files:
        target = out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (artifact.root / name).rename(target)
    return artifact


def _without_trial(scheme: Scheme) -> Mapping[str, str]:
    rule = WITHOUT_TRIAL if scheme.range_rule == "auto" else scheme.range_rule
    correction = "off" if scheme.bias_correction == "auto" else scheme.bias_correction
    rounding = "data" if scheme.rounding == "auto" and scheme.has_low_bits else scheme.rounding
    rescaling = "off" if scheme.rescaling == "auto" else scheme.rescaling
    return {"range_rule": rule, "bias_correction": correction, "rounding": rounding, "rescaling": rescaling}
