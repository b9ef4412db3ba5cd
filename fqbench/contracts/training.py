"""The hooks of the training loop for backends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Hooks:
    """Callbacks of the training loop; quantization-aware training freezes its observers in them.

    Attributes
    ----------
    before_epoch, after_epoch : callable
        Called with the number of the epoch, from 0, and the model. What they change in the model has to be part of its
        ``state_dict``, or be a function of the epoch, so that a resumed run ends as an uninterrupted one.
    """

    before_epoch: Callable[[int, nn.Module], None] = lambda _epoch, _model: None
    after_epoch: Callable[[int, nn.Module], None] = lambda _epoch, _model: None
