"""The training log: one row per epoch, as CSV next to the checkpoint and as TensorBoard events outside the entries."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fqbench.optional import require

LOG = "log.csv"


@dataclass(frozen=True)
class Epoch:
    """One line of the training log.

    Attributes
    ----------
    epoch : int
        From 1.
    learning_rate : float
        At its first step.
    train_loss, val_loss, val_accuracy : float
        Means over images.
    worst_group_accuracy : float
        Lowest accuracy of a group that has validation images.
    worst_group : str
        Which group that is.
    """

    epoch: int
    learning_rate: float
    train_loss: float
    val_loss: float
    val_accuracy: float
    worst_group_accuracy: float
    worst_group: str


def write_log(log: Sequence[Epoch], path: Path) -> None:
    """Write the log as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(Epoch.__dataclass_fields__), lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(epoch) for epoch in log)


class Board:
    """TensorBoard events; does nothing without a folder.

    Parameters
    ----------
    folder : Path or None
        Where ``tensorboard --logdir`` finds the run.
    done : int
        Epochs that an earlier, killed run has written there.
    """

    def __init__(self, folder: Path | None, done: int) -> None:
        self._writer: Any = None
        if folder is not None:
            tensorboard = require("torch.utils.tensorboard", extra="train")
            self._writer = tensorboard.SummaryWriter(str(folder), purge_step=done + 1 if done else None)

    def add(self, epoch: Epoch, images_per_second: float) -> None:
        """Write the figures of one epoch."""
        if self._writer is None:
            return
        for name, value in asdict(epoch).items():
            if isinstance(value, float):
                self._writer.add_scalar(name, value, epoch.epoch)
        self._writer.add_scalar("images_per_second", images_per_second, epoch.epoch)

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.close()
