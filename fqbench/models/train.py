"""Training: a classifier, prepared images and options in, a checkpoint and a log out."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.errors import DataError
from fqbench.models import zoo
from fqbench.optional import require
from fqbench.reporter import Reporter, Silent

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn

    from fqbench.config import TrainOptions
    from fqbench.data.images import PreparedImages

STAGE_VERSION = 1
CHECKPOINT = "checkpoint.safetensors"
LOG = "log.csv"
CROP_MARGIN = 0.0625  # random crops shift by up to 1/16 of the side, as is usual for small pictures


@dataclass(frozen=True)
class LabelledImages:
    """Rows of the prepared store with their labels.

    Attributes
    ----------
    images : PreparedImages
        The store.
    rows : ndarray of int64, shape (n,)
        Rows in the store.
    labels : ndarray of int64, shape (n,)
        Index of the class of each.
    """

    images: PreparedImages
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Epoch:
    """One line of the training log."""

    epoch: int
    learning_rate: float
    train_loss: float
    val_loss: float
    val_accuracy: float


@dataclass(frozen=True)
class Training:
    """What a training run gave: the log, and where the checkpoint lies."""

    checkpoint: Path
    epochs: tuple[Epoch, ...]

    def details(self) -> dict[str, Any]:
        """Return JSON values for the manifest."""
        return {"epochs": [asdict(epoch) for epoch in self.epochs], "val_accuracy": self.epochs[-1].val_accuracy}


def train(
    model: nn.Module,
    training: LabelledImages,
    validation: LabelledImages,
    options: TrainOptions,
    out: Path,
    *,
    reporter: Reporter | None = None,
) -> Training:
    """Train with AdamW, a cosine schedule with warm-up, flips and small shifts; same seed, same weights.

    Parameters
    ----------
    model : torch.nn.Module
        The classifier, changed in place.
    training, validation : LabelledImages
        Images and labels.
    options : TrainOptions
        Epochs, batch size, learning rate, seed.
    out : Path
        Existing directory for the checkpoint and the log.
    reporter : Reporter, optional
        Shown progress.

    Raises
    ------
    DataError
        The loss is no longer finite, or there is less than one batch of images.
    """
    torch = require("torch", extra="train")
    accelerate = require("accelerate", extra="train")
    reporter = reporter or Silent()
    steps = len(training.rows) // options.batch_size
    if steps == 0:
        raise DataError(f"{len(training.rows)} training images are less than one batch; lower --batch-size.")
    accelerator = accelerate.Accelerator()
    torch.manual_seed(options.seed)
    optimizer = torch.optim.AdamW(_parameter_groups(model, options.weight_decay), lr=options.learning_rate)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, _cosine_with_warmup(steps * options.epochs, options.warmup)
    )
    model, optimizer, scheduler = accelerator.prepare(model, optimizer, scheduler)
    model.to(memory_format=torch.channels_last)
    criterion = torch.nn.CrossEntropyLoss(label_smoothing=options.label_smoothing)
    log: list[Epoch] = []
    for epoch in range(options.epochs):
        model.train()
        rate, total = scheduler.get_last_lr()[0], 0.0
        with reporter.track(f"training, epoch {epoch + 1}/{options.epochs}", steps, "batches") as advance:
            for images, labels in _batches(training, options, epoch):
                loss = criterion(model(images.to(accelerator.device)), labels.to(accelerator.device))
                accelerator.backward(loss)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad(set_to_none=True)
                total += float(loss.detach())
                advance(1)
        if not math.isfinite(total):
            raise DataError(f"the training loss is not finite in epoch {epoch + 1}; lower --learning-rate.")
        val_loss, accuracy = _validate(model, validation, accelerator.device)
        log.append(Epoch(epoch + 1, rate, total / steps, val_loss, accuracy))
        reporter.say(f"epoch {epoch + 1}: loss {total / steps:.4f}, validation accuracy {accuracy:.2%}")
    checkpoint = save_checkpoint(accelerator.unwrap_model(model), out)
    _write_log(log, out / LOG)
    return Training(checkpoint, tuple(log))


def save_checkpoint(model: nn.Module, out: Path) -> Path:
    """Write the weights as safetensors into ``out``."""
    path = out / CHECKPOINT
    require("safetensors.torch", extra="train").save_model(model, str(path))
    return path


def load_checkpoint(model: nn.Module, path: Path) -> nn.Module:
    """Load weights that `save_checkpoint` wrote, and return the model in evaluation mode."""
    zoo.load_weights(model, path)
    return model.eval()


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Norms and biases are not decayed, as in the recipes of the architectures themselves."""
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    plain = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def _cosine_with_warmup(steps: int, warmup: float) -> Any:
    rising = max(1, round(steps * warmup))

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rising) / max(1, steps - rising))))

    return factor


def _batches(data: LabelledImages, options: TrainOptions, epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Shuffled, augmented batches; a function of seed and epoch alone, so that a resumed run sees the same."""
    import torch

    rng = np.random.default_rng([options.seed, epoch])
    order = rng.permutation(len(data.rows))
    size = options.batch_size
    order = order[: len(order) // size * size]
    for start, images in zip(range(0, len(order), size), data.images.batches(data.rows[order], size), strict=True):
        labels = data.labels[order[start : start + size]]
        augmented = torch.from_numpy(_augment(images, rng)).to(memory_format=torch.channels_last)
        yield augmented, torch.from_numpy(labels)


def _augment(images: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Mirror half of the pictures, and shift each by a few pixels, repeating its edge."""
    count, _, height, width = images.shape
    margin = max(1, round(height * CROP_MARGIN))
    padded = np.pad(images, ((0, 0), (0, 0), (margin, margin), (margin, margin)), mode="edge")
    out = np.empty_like(images)
    offsets = rng.integers(0, 2 * margin + 1, size=(count, 2))
    mirrored = np.asarray(rng.random(count) < 0.5)
    for index, (top, left) in enumerate(offsets):
        picture = padded[index, :, top : top + height, left : left + width]
        out[index] = picture[..., ::-1] if mirrored[index] else picture
    return out


def _validate(model: nn.Module, data: LabelledImages, device: torch.device) -> tuple[float, float]:
    import torch

    model.eval()
    size, loss, right = 128, 0.0, 0
    with torch.inference_mode():
        for index, images in enumerate(data.images.batches(data.rows, size)):
            labels = torch.from_numpy(data.labels[index * size : (index + 1) * size].copy()).to(device)
            logits = model(torch.from_numpy(images).to(device))
            loss += float(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"))
            right += int((logits.argmax(1) == labels).sum())
    return loss / len(data.rows), right / len(data.rows)


def _write_log(log: list[Epoch], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(Epoch.__dataclass_fields__), lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(epoch) for epoch in log)
