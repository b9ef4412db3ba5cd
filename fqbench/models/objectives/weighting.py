"""How the losses of the groups are weighted: group DRO and worst-group reweighting."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

AVERAGING = 0.1  # of the moving average of a group's loss, as in Sagawa et al.'s own code


class GroupDro:
    r"""Group DRO: the loss of each group times a weight that grows with that loss.

    In each batch the weight of group :math:`g` with mean loss :math:`\ell_g` becomes
    :math:`q_g \exp(\eta \ell_g)`, normalized to a sum of 1, and the loss is :math:`\sum_g q_g \ell_g`. A group without
    images in the batch counts with a loss of 0. Sagawa et al., "Distributionally robust neural networks for group
    shifts", ICLR 2020, algorithm 1, with mini-batches as in the authors' code.

    Parameters
    ----------
    present : Tensor of bool, shape (groups,)
        Which groups have training images; the others have no weight.
    step : float
        :math:`\eta`.
    """

    def __init__(self, present: torch.Tensor, step: float) -> None:
        self.step = step
        self.weights = present.float() / present.sum()

    def loss(self, losses: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
        """Update the weights and return the weighted loss."""
        means, _present = group_means(losses, groups, len(self.weights))
        grown = self.weights * (self.step * means.detach()).exp()
        self.weights = grown / grown.sum()
        return self.weights @ means

    def state(self) -> dict[str, torch.Tensor]:
        """Return the group weights."""
        return {"weights": self.weights}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take the group weights of an interrupted run."""
        self.weights = state["weights"].to(self.weights.device)


class WorstGroup:
    r"""Worst-group reweighting: some of the loss belongs to the group whose loss is highest.

    The loss is the mean of :math:`w_i \ell_i` with :math:`w_i = (1-s) + s\,[g_i = g^*] / p_{g^*}`, where :math:`p_g` is
    the share of the group in the training images: its expectation is :math:`(1-s)` times the mean loss plus :math:`s`
    times the loss of the worst group :math:`g^*`. That group has the highest moving average of its mean losses in the
    batches. It is Abernethy et al., "Active sampling for min-max fairness", ICML 2022, with weights in place of draws.

    Parameters
    ----------
    shares : Tensor of float, shape (groups,)
        Share of each group in the images of an epoch.
    share : float
        :math:`s`, in (0, 1].
    """

    def __init__(self, shares: torch.Tensor, share: float) -> None:
        self.shares, self.share = shares, share
        self.averages = shares.new_full(shares.shape, float("-inf"))  # of groups that were not seen yet

    def loss(self, losses: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
        """Update the averages and return the weighted loss."""
        means, present = group_means(losses.detach(), groups, len(self.shares))
        moved = (1 - AVERAGING) * self.averages + AVERAGING * means
        moved = means.where(self.averages.isneginf(), moved)
        self.averages = moved.where(present, self.averages)
        worst = self.averages.argmax()
        weights = (1 - self.share) + self.share * (groups == worst) / self.shares[worst]
        return (weights * losses).mean()

    def state(self) -> dict[str, torch.Tensor]:
        """Return the moving averages."""
        return {"averages": self.averages}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take the moving averages of an interrupted run."""
        self.averages = state["averages"].to(self.averages.device)


def group_means(losses: torch.Tensor, groups: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean loss of each group (groups,), 0 where there is none, and which groups have images."""
    import torch

    members = torch.nn.functional.one_hot(groups, count).to(losses.dtype)  # a product sums in the same order each time
    sizes = members.sum(0)
    return (losses @ members) / sizes.clamp(min=1), sizes > 0
