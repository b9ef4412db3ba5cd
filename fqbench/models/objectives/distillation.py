"""Distillation: the answers of another network, the FP32 one, as targets."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn


class Teacher:
    """A network whose answers are targets; it is made at the first batch and never changes.

    Parameters
    ----------
    make : callable
        Returns the network. Making one draws random numbers, which are given back: a resumed run makes it later.
    """

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        self._make = make
        self._network: nn.Module | None = None

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits of a batch of images, without a gradient."""
        import torch

        if self._network is None:
            with torch.random.fork_rng():
                self._network = self._make().to(images.device).eval()
        with torch.no_grad():
            logits: torch.Tensor = self._network(images)
        return logits.float()


def divergences(
    logits: torch.Tensor, targets: torch.Tensor, temperature: float, *, attributes: bool = False
) -> torch.Tensor:
    r"""Return :math:`T^2\,KL(p_T \| q_T)` of each image, in nats: how far its answer is from the teacher's.

    The square keeps gradients alike at every temperature (Hinton, Vinyals and Dean, "Distilling the knowledge in a
    neural network", 2015, section 2).

    Parameters
    ----------
    logits, targets : Tensor of float, shape (batch, classes)
        Answers of the model and of the teacher.
    temperature : float
        :math:`T`, by which both are divided.
    attributes : bool
        Whether the outputs are attributes: the divergence is then the mean of those of "no" and "yes".
    """
    import torch
    from torch.nn import functional

    if attributes:
        logits, targets = (torch.stack([-answers / 2, answers / 2], dim=-1) for answers in (logits, targets))
    student = functional.log_softmax(logits / temperature, -1)
    teacher = functional.log_softmax(targets / temperature, -1)
    far = functional.kl_div(student, teacher, reduction="none", log_target=True).sum(-1) * temperature**2
    return far.mean(1) if attributes else far


class AlikeForGroups:
    """The mean over images with weights by which every group counts alike, whatever its share in the images.

    Parameters
    ----------
    shares : Tensor of float, shape (groups,)
        Share of each group in the images of an epoch; 0 for groups without images.
    """

    def __init__(self, shares: torch.Tensor) -> None:
        self.weights = 1 / (shares * (shares > 0).sum())

    def mean(self, values: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
        """Return the weighted mean of values (batch,); its expectation is the mean of the groups' means."""
        return (self.weights[groups] * values).mean()
