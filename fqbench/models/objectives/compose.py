"""Objectives by name: parts joined with ``+``, checked against each other and against their options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.config import ObjectiveOptions
from fqbench.errors import InputError, did_you_mean
from fqbench.models.objectives.distillation import AlikeForGroups, divergences
from fqbench.models.objectives.penalties import DEMOGRAPHIC_PARITY, EQUALIZED_ODDS, RatePenalty
from fqbench.models.objectives.protocol import (
    AnsweredBatch,
    EmpiricalRisk,
    GroupBalanced,
    Objective,
    sizes_of_groups,
)
from fqbench.models.objectives.weighting import GroupDro, WorstGroup

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from fqbench.models.batches import LabelledImages

    Answers = Callable[[torch.Tensor], torch.Tensor]

ERM, BALANCED, DRO, WORST, DISTILLATION = "erm", "group-balanced", "group-dro", "worst-group", "distillation"
# Of one family an objective has one part at most: what an epoch uses, how groups are weighted, targets, penalty.
FAMILIES = ((BALANCED,), (DRO, WORST), (DISTILLATION,), (DEMOGRAPHIC_PARITY, EQUALIZED_ODDS))
KNOWN = (ERM, *(part for family in FAMILIES for part in family))
PENALTY_OPTIONS = ("penalty_weight", "penalty_limit", "penalty_memory")
OPTIONS: Mapping[str, tuple[str, ...]] = {
    DRO: ("group_step",),
    WORST: ("worst_share",),
    DISTILLATION: ("distill_weight", "distill_temperature"),
    DEMOGRAPHIC_PARITY: PENALTY_OPTIONS,
    EQUALIZED_ODDS: PENALTY_OPTIONS,
}


def objective(
    name: str, options: ObjectiveOptions | None = None, *, teacher: Answers | None = None, flag: str = "--objective"
) -> Objective:
    """Return an objective by name, as ``group-dro`` or ``distillation+equalized-odds``.

    Parameters
    ----------
    name : str
        Parts joined with ``+``, in any order.
    options : ObjectiveOptions, optional
        Options of all parts.
    teacher : callable, optional
        From images to the logits that distillation follows.
    flag : str
        The option that named it, for errors.

    Raises
    ------
    InputError
        No such part, parts that exclude each other, or distillation without a teacher.
    """
    parts = parts_of(name, flag)
    if DISTILLATION in parts and teacher is None:
        raise InputError(
            f"{flag} {name}: distillation needs a teacher, which only --method qat has (the FP32 network); give it "
            "with --qat-objective, or leave it out."
        )
    if parts == (ERM,):
        return EmpiricalRisk()
    if parts == (BALANCED,):
        return GroupBalanced()
    return Mending(parts, options or ObjectiveOptions(), teacher, flag)


def parts_of(name: str, flag: str = "--objective") -> tuple[str, ...]:
    """Return the parts of an objective, always in the same order.

    Raises
    ------
    InputError
        No such part, or two of which one objective has one only.
    """
    given = [part.strip() for part in name.split("+")]
    for part in given:
        if part not in KNOWN:
            raise InputError(f"{flag}: unknown objective {part!r}: {did_you_mean(part, KNOWN)}")
    for family in (*FAMILIES, (ERM,)):
        both = [part for part in given if part in family]
        if len(both) > 1:
            raise InputError(f"{flag} {name}: {both[0]} and {both[1]} exclude each other; keep one of them.")
    if ERM in given and len(given) > 1:
        raise InputError(f"{flag} {name}: erm is plain cross-entropy and joins nothing; leave it out.")
    return tuple(part for part in KNOWN if part in given)


def needs_groups(name: str) -> bool:
    """Whether an objective is about groups; distillation alone takes all images as one where there are none."""
    return not set(parts_of(name)) <= {ERM, DISTILLATION}


def check_used(options: ObjectiveOptions, names: Mapping[str, str]) -> None:
    """Refuse options that none of the objectives has, since they would change nothing.

    Parameters
    ----------
    options : ObjectiveOptions
        Those that were set are looked at.
    names : mapping of str to str
        Names of objectives by the option that gives them.

    Raises
    ------
    InputError
        Such an option was given, or an objective is unknown.
    """
    parts = [part for flag, name in names.items() for part in parts_of(name, flag)]
    used = {option for part in parts for option in OPTIONS.get(part, ())}
    for option in ObjectiveOptions.model_fields:
        if option in options.model_fields_set and option not in used:
            owners = " or ".join(part for part, own in OPTIONS.items() if option in own)
            raise InputError(
                f"--{option.replace('_', '-')} belongs to {owners}, but the objective is "
                f"{' and '.join(dict.fromkeys(parts))}; name one of them with --objective or --qat-objective, or leave "
                "the option out."
            )


class Mending:
    """An objective of several parts: an order of images, a weighting of groups, a teacher, a penalty.

    The loss is that of the weighting plus the penalty. With distillation and weight ``a``, the loss of an image is
    ``1 - a`` times its cross-entropy plus ``a`` times its divergence from the teacher, which the weighting takes; where
    there is none, divergences are averaged so that each group counts alike.

    Parameters
    ----------
    parts : tuple of str
        As `parts_of` returns them.
    options : ObjectiveOptions
        Options of all parts.
    teacher : callable or None
        From images to logits.
    flag : str
        The option that named it, for errors.
    """

    whole_batches = True

    def __init__(self, parts: tuple[str, ...], options: ObjectiveOptions, teacher: Answers | None, flag: str) -> None:
        self.parts, self.options, self.teacher = parts, options, teacher
        self.name = "+".join(parts)
        self._asked = f"{flag} {self.name}"
        self._device: Any = "cpu"
        self._weighting: GroupDro | WorstGroup | None = None
        self._penalty: RatePenalty | None = None
        self._alike: AlikeForGroups | None = None

    @property
    def identity(self) -> Mapping[str, Any]:
        """The options of its parts."""
        used = [option for part in self.parts for option in OPTIONS.get(part, ())]
        return {"objective_options": self.options.model_dump(mode="json", include=set(used))}

    def begin(self, data: LabelledImages, steps: int, device: Any) -> None:
        """Check that there are groups, and make the first weights.

        Raises
        ------
        DataError
            There are images of one group only.
        """
        import torch

        count = len(data.group_names)
        sizes = np.bincount(data.groups, minlength=count)
        if set(self.parts) != {DISTILLATION}:
            sizes = sizes_of_groups(data, self._asked)
        present = torch.from_numpy(sizes > 0).to(device)
        images = torch.from_numpy(sizes / sizes.sum()).float().to(device)
        shares = present / present.sum() if BALANCED in self.parts else images
        self._device = device
        if DRO in self.parts:
            self._weighting = GroupDro(present, self.options.group_step)
        elif WORST in self.parts:
            self._weighting = WorstGroup(shares, self.options.worst_share)
        self._alike = AlikeForGroups(shares)
        for part in {DEMOGRAPHIC_PARITY, EQUALIZED_ODDS}.intersection(self.parts):
            self._penalty = RatePenalty(part, self.options, count, steps)

    def order(self, data: LabelledImages, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the images of an epoch: balanced by group where that is a part, else each once."""
        return (GroupBalanced() if BALANCED in self.parts else EmpiricalRisk()).order(data, rng)

    def loss(self, batch: AnsweredBatch) -> torch.Tensor:
        """Return the loss to minimize, and change weights and dual variables."""
        total = self._risk(batch)
        if self._penalty is not None:
            total = total + self._penalty.loss(batch.logits, batch.labels, batch.groups)
        return total

    def state(self) -> Mapping[str, torch.Tensor]:
        """Return group weights, running rates and dual variables."""
        found: dict[str, torch.Tensor] = {}
        for place, part in (("weighting", self._weighting), ("penalty", self._penalty)):
            if part is not None:
                found |= {f"{place}/{name}": value for name, value in part.state().items()}
        return found

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take the state of an interrupted run."""
        parts: dict[str, dict[str, torch.Tensor]] = {"weighting": {}, "penalty": {}}
        for name, value in state.items():
            place, _, own = name.partition("/")
            parts[place][own] = value
        if self._weighting is not None:
            self._weighting.restore(parts["weighting"])
        if self._penalty is not None:
            self._penalty.restore(parts["penalty"], self._device)

    def facts(self, group_names: tuple[str, ...]) -> Mapping[str, Mapping[str, float]]:
        """Return weights, moving averages of losses and dual variables by group."""
        found: dict[str, dict[str, float]] = {}
        if self._weighting is not None:
            for name, values in self._weighting.state().items():
                known = zip(group_names, values.tolist(), strict=True)
                found[name] = {group: value for group, value in known if np.isfinite(value)}
        if self._penalty is not None and (largest := self._penalty.largest_multipliers()):
            found["multipliers"] = dict(zip(group_names, largest, strict=True))
        return found

    def _risk(self, batch: AnsweredBatch) -> torch.Tensor:
        losses, weighting = batch.losses, self._weighting
        if self.teacher is None or self._alike is None:
            return losses.mean() if weighting is None else weighting.loss(losses, batch.groups)
        teacher, temperature = self.teacher(batch.images), self.options.distill_temperature
        far = divergences(batch.logits, teacher, temperature, attributes=batch.labels.ndim == 2)
        share = self.options.distill_weight
        if weighting is None:
            return (1 - share) * losses.mean() + share * self._alike.mean(far, batch.groups)
        return weighting.loss((1 - share) * losses + share * far, batch.groups)
