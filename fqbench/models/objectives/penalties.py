"""Fairness penalties that can be differentiated: demographic parity and equalized odds, as fairret defines them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from fqbench.config import ObjectiveOptions

DEMOGRAPHIC_PARITY, EQUALIZED_ODDS = "demographic-parity", "equalized-odds"


class RatePenalty:
    r"""The norm of how far each group's rates are from the rates of all images.

    A rate is a mean of probabilities, so that it has a gradient: :math:`r_g` over all images of a group for demographic
    parity, over those with and over those without the positive label for equalized odds. The penalty is
    :math:`\lambda \sum_{r,g} |r_g / r - 1|` with the rate :math:`r` of all images: fairret's ``NormLoss`` of order 1
    (Buyl, Defrance and De Bie, "fairret: a framework for differentiable fairness regularization terms", ICLR 2024). A
    rate that is not defined, as of a group without images, is left out. With two classes the last is the positive one;
    with more, each class against the rest has its rates, as in `fqbench.fairness.metrics`, and so has each attribute.

    A batch has few images of a small group. Rates are therefore those of the recent batches: sums that shrink by
    ``penalty_memory`` per batch. The gradient is that of the batch's own rates; without memory both are fairret's.

    With ``penalty_limit`` the penalty is a constraint :math:`|r_g / r - 1| \le c` for each rate and group, and its
    weight a dual variable: it starts as ``penalty_weight`` and changes by ``penalty_weight`` :math:`(v / c - 1)` per
    epoch, never below 0, where :math:`v` is the violation (gradient ascent on the Lagrangian).

    Parameters
    ----------
    kind : str
        ``demographic-parity`` or ``equalized-odds``.
    options : ObjectiveOptions
        Weight, memory and limit.
    groups : int
        Number of groups.
    steps : int
        Batches of an epoch.
    """

    def __init__(self, kind: str, options: ObjectiveOptions, groups: int, steps: int) -> None:
        self.kind, self.groups, self.steps = kind, groups, steps
        self.weight, self.limit, self.memory = options.penalty_weight, options.penalty_limit, options.penalty_memory
        self._state: dict[str, torch.Tensor] = {}  # made with the first batch, which shows the number of classes

    def loss(self, logits: torch.Tensor, labels: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
        """Update rates and weights, and return the weighted penalty of a batch (``logits`` (batch, classes))."""
        sums, counts = self._batch(logits, labels, groups)
        if not self._state:
            self._state = {"sums": sums.new_zeros(sums.shape), "counts": sums.new_zeros(sums.shape)}
            if self.limit is not None:
                self._state["multipliers"] = sums.new_full(sums.shape, self.weight)
        state = self._state
        state["sums"] = self.memory * state["sums"] + sums.detach()
        state["counts"] = self.memory * state["counts"] + counts
        rates = _followed(state["sums"], state["counts"], sums, counts)
        overall = _followed(
            *(total.sum(1, keepdim=True) for total in (state["sums"], state["counts"])),
            *(total.sum(1, keepdim=True) for total in (sums, counts)),
        )
        known = (state["counts"] > 0) & (overall.detach() > 0)
        violations = (rates / overall.where(known, overall.new_ones(())) - 1).abs()
        violations = violations.where(known, violations.new_zeros(()))
        if self.limit is None:
            return self.weight * violations.sum()
        weighted = (state["multipliers"] * violations).sum()
        ascent = self.weight * (violations.detach() / self.limit - 1) / self.steps
        state["multipliers"] = (state["multipliers"] + ascent * known).clamp(min=0)
        return weighted

    def state(self) -> Mapping[str, torch.Tensor]:
        """Return sums and counts of the rates, and the dual variables; empty before the first batch."""
        return dict(self._state)

    def restore(self, state: Mapping[str, torch.Tensor], device: torch.device | str) -> None:
        """Take the state of an interrupted run."""
        self._state = {name: value.to(device) for name, value in state.items()}

    def largest_multipliers(self) -> list[float]:
        """Return the largest dual variable of each group; empty without a limit."""
        found = self._state.get("multipliers")
        return [] if found is None else [float(value) for value in found.amax(0)]

    def _batch(
        self, logits: torch.Tensor, labels: torch.Tensor, groups: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return sums of probabilities and numbers of images (rates, groups) in a batch."""
        import torch

        classes = logits.shape[1]
        several = labels.ndim == 2
        positives = range(1, 2) if classes == 2 else range(classes)
        probabilities = logits.sigmoid().T if several else logits.softmax(1)[:, list(positives)].T
        members = torch.nn.functional.one_hot(groups, self.groups).to(logits.dtype)
        if self.kind == DEMOGRAPHIC_PARITY:
            return probabilities @ members, members.sum(0).expand(len(probabilities), -1)
        present = labels.T == 1 if several else torch.stack([labels == each for each in positives])
        having = present.to(logits.dtype)
        chosen = torch.cat([having, 1 - having])
        return (torch.cat([probabilities, probabilities]) * chosen) @ members, chosen @ members


def _followed(
    sums: torch.Tensor, counts: torch.Tensor, batch_sums: torch.Tensor, batch_counts: torch.Tensor
) -> torch.Tensor:
    """Return sums / counts, with the gradient of the batch's own rates; 0 where there are no images."""
    own = batch_sums / batch_counts.clamp(min=1)
    value = (sums / counts.where(counts > 0, counts.new_ones(()))).where(counts > 0, sums.new_zeros(()))
    return value + (own - own.detach())
