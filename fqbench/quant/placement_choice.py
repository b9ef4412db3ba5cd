"""Choose a placement: every variant is timed against FP32 and answers validation images; a rule keeps one."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.errors import InputError, SchemeNotSupported
from fqbench.quant.choice import Trial, Validation, moved, trial
from fqbench.quant.placement import RULES, PlacementVariant, as_recipe, combined, variants

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto

    from fqbench.contracts.artifacts import Artifact
    from fqbench.contracts.scheme import Override, Scheme

FP32 = "FP32"
HOLDS = 0.97  # share of answers that quantization should leave as they are
HOLDS_IN_A_GROUP = 0.93  # lower, since validation groups may have 20 images
AS_FAST = 1.05  # times within 5 % of the shortest are equal; among these, the closest answers decide


@dataclass(frozen=True)
class Speed:
    """How fast one candidate was.

    Attributes
    ----------
    p50_ms : float
        Milliseconds per call.
    ratio, low, high : float
        That over FP32's in the same rounds, with its interval; below 1 is faster.
    doubts : tuple of str
        Why not to trust these times; empty where nothing speaks against them.
    """

    p50_ms: float
    ratio: float
    low: float
    high: float
    doubts: tuple[str, ...] = ()

    @property
    def is_faster(self) -> bool:
        """Whether the whole interval says faster than FP32."""
        return self.high < 1

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; an end that the rounds do not bound is null."""
        ends = {name: end if math.isfinite(end) else None for name, end in (("low", self.low), ("high", self.high))}
        return {"p50_ms": self.p50_ms, "ratio": self.ratio, **ends, "doubts": list(self.doubts)}


@dataclass(frozen=True)
class PlacementTrial:
    """One variant: its overrides, how fast it was, and how close its answers; or why the runtime refused it."""

    name: str
    overrides: tuple[Override, ...]
    speed: Speed | None = None
    answers: Trial | None = None
    refused: str = ""

    @property
    def holds(self) -> bool:
        """Whether it leaves most of FP32's answers as they are, overall and in the worst group."""
        found = self.answers
        return found is not None and found.agreement >= HOLDS and found.worst_agreement >= HOLDS_IN_A_GROUP

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "name": self.name,
            "overrides": as_recipe(self.overrides),
            "speed": None if self.speed is None else self.speed.to_dict(),
            "answers": None if self.answers is None else vars(self.answers),
            "refused": self.refused,
        }


@dataclass(frozen=True)
class PlacementChoice:
    """The artifact that was kept, all overrides of its recipe, and every row that was measured, FP32's first."""

    artifact: Artifact
    overrides: tuple[Override, ...]
    kept: PlacementTrial
    why: str
    trials: tuple[PlacementTrial, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values for the manifest."""
        return {
            "kept": self.kept.name,
            "why": self.why,
            "overrides": as_recipe(self.overrides),
            "tried": [one.to_dict() for one in self.trials],
        }


class NothingFaster(SchemeNotSupported):
    """No placement is faster than FP32; ``trials`` has every row that was measured, FP32's first."""

    def __init__(self, message: str, trials: tuple[PlacementTrial, ...]) -> None:
        super().__init__(message)
        self.trials = trials


@dataclass(frozen=True)
class Means:
    """What a choice of placement works with.

    Attributes
    ----------
    make : callable
        Makes the artifact of a settled scheme in the folder that it is given.
    answer : callable
        Answers with an artifact; None where it cannot be executed here.
    time : callable
        Times artifacts by name in one comparison, `FP32` among them.
    """

    make: Callable[[Scheme, Path], Artifact]
    answer: Callable[[Artifact, Iterator[NDArray[np.float32]]], NDArray[np.float32] | None]
    time: Callable[[Mapping[str, Artifact]], Mapping[str, Speed]]


def choose_placement(
    scheme: Scheme, model: ModelProto, made: Artifact, *, floats: Artifact, validation: Validation, means: Means
) -> PlacementChoice:
    """Choose the placement of an artifact that was made by the runtime's fusion rules, and put it in its folder.

    Parameters
    ----------
    scheme : Scheme
        With everything else settled.
    model : ModelProto
        The cleaned FP32 graph.
    made : Artifact
        By the fusion rules; its folder gets the files of the one that is kept.
    floats : Artifact
        FP32 on the same runtime.
    validation : Validation
        What answers are compared on.
    means : Means
        How candidates are made, run and timed.

    Raises
    ------
    NothingFaster
        No candidate is faster than FP32.
    """
    trials = _Trials(scheme, validation, means, made.root)
    trials.found[RULES] = PlacementVariant(RULES, frozenset(), ()), made
    for one in variants(model):
        trials.add(one)
    speeds = trials.timed(floats)
    helpful = [one for name, (one, _) in trials.found.items() if name != RULES and _faster(speeds, name, RULES)]
    union = combined(helpful, model) if len(helpful) > 1 else None
    if union is not None and all(union.nodes != one.nodes for one, _ in trials.found.values()) and trials.add(union):
        speeds = trials.timed(floats)
    rows = trials.rows(speeds)
    tried = (PlacementTrial(FP32, (), speeds[FP32]), *rows, *trials.refused)
    try:
        kept, why = best(rows, scheme.label)
    except SchemeNotSupported as error:
        raise NothingFaster(str(error), tried) from error
    return PlacementChoice(trials.keep(kept.name), (*kept.overrides, *scheme.overrides), kept, why, tried)


def best(trials: tuple[PlacementTrial, ...], label: str) -> tuple[PlacementTrial, str]:
    """Return the variant to keep, and why.

    Of those proved faster than FP32, those that hold FP32's answers go first; of these, all within 5 % of the shortest
    time count as equally fast, and the one with the closest answers is kept.

    Raises
    ------
    SchemeNotSupported
        None is faster than FP32.
    """
    timed = [(one, one.speed, one.answers) for one in trials if one.speed is not None and one.answers is not None]
    faster = [row for row in timed if row[1].is_faster]
    if not faster:
        one, speed, _ = min(timed, key=lambda row: row[1].p50_ms)
        raise SchemeNotSupported(
            f"no placement of {label} is proved faster than FP32 here: the fastest of {len(timed)}, {one.name!r}, "
            f"takes {speed.ratio:.2f} of its time [{speed.low:.2f}, {speed.high:.2f}]; ship FP32 (--method none), or "
            "use --placement rules."
        )
    holding = [row for row in faster if row[0].holds]
    pool = holding or faster
    shortest = min(speed.p50_ms for _, speed, _ in pool)
    equal = [row for row in pool if row[1].p50_ms <= AS_FAST * shortest]
    kept = min(equal, key=lambda row: row[2].score)[0]
    why = (
        f"of {len(timed)} variants, {len(faster)} are faster than FP32, and {len(holding) or 'none'} of these hold "
        f"{HOLDS:.0%} of its answers and {HOLDS_IN_A_GROUP:.0%} in the worst group; of the {len(equal)} within 5 % of "
        "the shortest time, its answers are the closest"
    )
    return kept, why


def _faster(speeds: Mapping[str, Speed], name: str, than: str) -> bool:
    return speeds[name].p50_ms < speeds[than].p50_ms


@dataclass
class _Trials:
    """The variants that the runtime takes, each with its artifact in its own folder below ``out``."""

    scheme: Scheme
    validation: Validation
    means: Means
    out: Path
    found: dict[str, tuple[PlacementVariant, Artifact]] = field(default_factory=dict)
    refused: list[PlacementTrial] = field(default_factory=list)

    def add(self, one: PlacementVariant) -> bool:
        """Make the artifact of a variant; note the reason where the runtime does not take it."""
        folder = self.out / f".placed-{len(self.found) + len(self.refused)}"
        folder.mkdir()
        overrides = (*one.overrides, *self.scheme.overrides)  # what the user asked for has the last word
        try:
            made = self.means.make(self.scheme.model_copy(update={"overrides": overrides}), folder)
        except InputError as error:
            shutil.rmtree(folder)
            self.refused.append(PlacementTrial(one.name, one.overrides, refused=str(error)))
            return False
        self.found[one.name] = one, made
        return True

    def timed(self, floats: Artifact) -> Mapping[str, Speed]:
        return self.means.time({FP32: floats} | {name: made for name, (_, made) in self.found.items()})

    def rows(self, speeds: Mapping[str, Speed]) -> tuple[PlacementTrial, ...]:
        rows = []
        for name, (one, made) in self.found.items():
            answers = self.means.answer(made, self.validation.batches())
            if answers is None:
                raise SchemeNotSupported(f"{made.backend} cannot answer here with {name!r}; use --placement rules.")
            rows.append(PlacementTrial(name, one.overrides, speeds[name], trial(name, self.validation, answers)))
        return tuple(rows)

    def keep(self, name: str) -> Artifact:
        """Leave the files of one variant in ``out``, and remove all others."""
        rules, kept = self.found[RULES][1], self.found[name][1]
        if name != RULES:
            for file in rules.files:
                (rules.root / file).unlink()
            kept = replace(moved(kept, self.out), root=self.out)
        for folder in self.out.glob(".placed-*"):
            shutil.rmtree(folder)
        return kept
