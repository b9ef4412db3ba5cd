"""Training: a classifier, prepared images and options in, the best epoch's weights and a log out."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.contracts.training import Hooks
from fqbench.errors import DataError, InputError
from fqbench.models.batches import EpochPlan, LabelledImages, Share, batches
from fqbench.models.losses import criterion_for, share_right, summed_loss
from fqbench.models.memory_format import memory_format_of
from fqbench.models.objectives import AnsweredBatch, Objective, objective
from fqbench.models.precision import Precision, precision_of
from fqbench.models.resume import load_state, save_state
from fqbench.models.train_log import LOG, Board, Epoch, write_log
from fqbench.models.weights import load_weights
from fqbench.optional import require
from fqbench.reporter import Reporter, Silent

if TYPE_CHECKING:
    import torch
    from torch import nn

    from fqbench.config import TrainOptions

CHECKPOINT = "checkpoint.safetensors"
VALIDATION_BATCH = 128


@dataclass(frozen=True)
class Training:
    """The result of a training run: the log, the epoch whose weights were kept, and their path."""

    checkpoint: Path
    epochs: tuple[Epoch, ...]
    best: Epoch
    stopped_early: bool
    device: str
    processes: int
    precision: Precision
    objective: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def details(self) -> dict[str, Any]:
        """Return JSON values for the manifest."""
        return {
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "best_epoch": self.best.epoch,
            "val_accuracy": self.best.val_accuracy,
            "worst_group_accuracy": self.best.worst_group_accuracy,
            "worst_group": self.best.worst_group,
            "stopped_early": self.stopped_early,
            "device": self.device,
            "processes": self.processes,
            "precision": self.precision.name,
            "precision_reason": self.precision.reason,
            "objective": self.objective,
        }


def train(
    model: nn.Module,
    training: LabelledImages,
    validation: LabelledImages,
    options: TrainOptions,
    out: Path,
    *,
    aim: Objective | None = None,
    hooks: Hooks | None = None,
    scratch: Path | None = None,
    board: Path | None = None,
    reporter: Reporter | None = None,
) -> Training:
    """Train with AdamW, a cosine schedule with warm-up and augmentation; same seed, same weights on a CPU.

    Parameters
    ----------
    model : torch.nn.Module
        Any classifier, changed in place; it ends with the best epoch's weights, in evaluation mode, on the CPU.
    training, validation : LabelledImages
        Images, labels and groups.
    options : TrainOptions
        Everything else.
    out : Path
        Existing directory for the checkpoint and the log.
    aim : Objective, optional
        In place of the one that the options name; with options of its own, or a teacher.
    hooks : Hooks, optional
        Called around each epoch.
    scratch : Path, optional
        A directory that outlives a killed run; the state of each epoch is kept there, and the next run goes on from it.
    board : Path, optional
        Where TensorBoard events are written.
    reporter : Reporter, optional
        Shown progress.

    Raises
    ------
    DataError
        The loss is no longer finite, or there is less than one batch of images.
    InputError
        An unknown objective, a batch that cannot be shared among the processes, or an objective that needs whole ones.
    """
    loop = _Loop.begin(model, training, validation, options, aim or objective(options.objective))
    hooks = hooks or Hooks()
    reporter = reporter if reporter is not None and loop.leads else Silent()
    if scratch is not None:
        loop.resume(scratch, reporter)
    reporter.say(f"training in {loop.precision.name}: {loop.precision.reason}")
    events = Board(board if loop.leads else None, len(loop.log))
    try:
        while len(loop.log) < options.epochs and not loop.exhausted:
            number = len(loop.log)
            hooks.before_epoch(number, loop.bare)
            start = time.perf_counter()
            rate, loss = loop.run_epoch(number, reporter)
            speed = loop.steps * options.batch_size / (time.perf_counter() - start)
            hooks.after_epoch(number, loop.bare)
            epoch = loop.judge(number, rate, loss)
            events.add(epoch, speed)
            reporter.say(_line(epoch, speed))
            if scratch is not None and loop.leads:
                loop.save(scratch)
    finally:
        events.close()
    return loop.finish(out)


@dataclass
class _Loop:
    """The run as it goes: everything that changes from epoch to epoch."""

    accelerator: Any
    model: nn.Module
    optimizer: torch.optim.Optimizer
    criterion: nn.Module
    aim: Objective
    training: LabelledImages
    validation: LabelledImages
    options: TrainOptions
    precision: Precision
    steps: int
    log: list[Epoch] = field(default_factory=list)
    best: Mapping[str, torch.Tensor] = field(default_factory=dict)
    best_epoch: int = -1

    @classmethod
    def begin(
        cls,
        model: nn.Module,
        training: LabelledImages,
        validation: LabelledImages,
        options: TrainOptions,
        aim: Objective,
    ) -> _Loop:
        torch = require("torch", extra="train")
        steps = len(training.rows) // options.batch_size
        if steps == 0:
            raise DataError(f"{len(training.rows)} training images are less than one batch; lower --batch-size.")
        accelerator = require("accelerate", extra="train").Accelerator()
        if options.batch_size % accelerator.num_processes:
            raise InputError(
                f"--batch-size {options.batch_size} cannot be divided among {accelerator.num_processes} processes; "
                "give a multiple of them."
            )
        if aim.whole_batches and accelerator.num_processes > 1:
            raise InputError(f"--objective {aim.name} needs whole batches of images; start one process.")
        aim.begin(training, steps, accelerator.device)
        torch.manual_seed(options.seed)
        model.to(memory_format=memory_format_of(model))
        groups = _parameter_groups(model, options.weight_decay)
        optimizer = torch.optim.AdamW(groups, lr=options.learning_rate, fused=True)
        prepared, wrapped = accelerator.prepare(model, optimizer)
        return cls(
            accelerator=accelerator,
            model=prepared,
            optimizer=wrapped,
            criterion=criterion_for(training.labels, options).to(accelerator.device),
            aim=aim,
            training=training,
            validation=validation,
            options=options,
            precision=precision_of(options.precision, model, accelerator.device),
            steps=steps,
        )

    @property
    def bare(self) -> nn.Module:
        """The model itself, without what distributes it."""
        bare: nn.Module = self.accelerator.unwrap_model(self.model)
        return bare

    @property
    def leads(self) -> bool:
        """Whether this process is rank 0, which writes the files."""
        return bool(self.accelerator.is_main_process)

    @property
    def exhausted(self) -> bool:
        """Whether early stopping is due: no improvement in the last epochs."""
        patience = self.options.patience
        return bool(patience) and len(self.log) - 1 - self.best_epoch >= patience

    def resume(self, scratch: Path, reporter: Reporter) -> None:
        state = load_state(scratch, self.bare, self.optimizer)
        if state is None:
            return
        self.log = [Epoch(**values) for values in state.facts["log"]]
        self.best, self.best_epoch = state.best, state.facts["best_epoch"]
        self.precision = Precision(**state.facts["precision"])
        self.aim.restore(state.aim)
        reporter.say(f"{len(self.log)} epoch(s) are already trained; continuing")

    def save(self, scratch: Path) -> None:
        aim = self.aim.state()
        save_state(scratch, self.bare, self.optimizer, self.best, self.facts(), aim=aim)

    def facts(self) -> dict[str, Any]:
        return {
            "log": [asdict(epoch) for epoch in self.log],
            "best_epoch": self.best_epoch,
            "precision": asdict(self.precision),
        }

    @cached_property
    def memory_format(self) -> torch.memory_format:
        """The order in memory of the images."""
        return memory_format_of(self.model)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits in FP32, whatever the training precision."""
        import torch

        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.precision.name == "bf16"):
            logits: torch.Tensor = self.model(images.contiguous(memory_format=self.memory_format))
        return logits.float()

    def run_epoch(self, number: int, reporter: Reporter) -> tuple[float, float]:
        """Train for one epoch; return the learning rate at its start and the mean loss."""
        import torch

        self.model.train()
        plan = EpochPlan(self.options.batch_size, self.options.augment, self.options.seed, number)
        share = Share(self.accelerator.process_index, self.accelerator.num_processes)
        device, first = self.accelerator.device, number * self.steps
        losses = torch.zeros((), dtype=torch.float64, device=device)
        title = f"training, epoch {number + 1}/{self.options.epochs}"
        with reporter.track(title, self.steps, "batches") as advance:
            for step, batch in enumerate(batches(self.training, self.aim, plan, share)):
                self._set_rate(first + step)
                images, labels, groups = (tensor.to(device) for tensor in batch)
                logits = self.logits(images)
                answered = AnsweredBatch(images, logits, labels, groups, self.criterion(logits, labels))
                loss = self.aim.loss(answered)
                self.accelerator.backward(loss)
                self.optimizer.step()
                self.optimizer.zero_grad(set_to_none=True)
                losses += loss.detach()  # read once at the end: a GPU would have to finish for each look
                advance(1)
        total = float(losses)
        if not math.isfinite(total):
            raise DataError(f"the training loss is not finite in epoch {number + 1}; lower --learning-rate.")
        return self._rate(first), total / self.steps

    def judge(self, number: int, rate: float, loss: float) -> Epoch:
        """Validate, log the epoch, and keep its weights if they are the best so far."""
        val_loss, right = self._validate()
        worst, group = _worst_group(right, self.validation)
        epoch = Epoch(number + 1, rate, loss, val_loss, float(right.mean()), worst, group)
        self.log.append(epoch)
        if self.best_epoch < 0 or self._value(epoch) > self._value(self.log[self.best_epoch]):
            self.best_epoch = number
            self.best = {name: value.detach().cpu().clone() for name, value in self.bare.state_dict().items()}
        return epoch

    def finish(self, out: Path) -> Training:
        """Write the best weights and the log, and leave the model with these weights."""
        bare = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False).to("cpu")
        bare.load_state_dict(self.best)
        bare.eval()
        path = out / CHECKPOINT
        save_checkpoint(bare, path)
        write_log(self.log, out / LOG)
        return Training(
            checkpoint=path,
            epochs=tuple(self.log),
            best=self.log[self.best_epoch],
            stopped_early=self.exhausted and len(self.log) < self.options.epochs,
            device=str(self.accelerator.device),
            processes=self.accelerator.num_processes,
            precision=self.precision,
            objective=self.aim.facts(self.training.group_names),
        )

    def _validate(self) -> tuple[float, np.ndarray[Any, np.dtype[np.float64]]]:
        """Return the mean loss, and for each image whether the prediction is right (of attributes, their share)."""
        import torch

        data, device = self.validation, self.accelerator.device
        self.model.eval()
        loss, right = 0.0, np.zeros(len(data.rows))
        with torch.inference_mode():
            for index, images in enumerate(data.images.batches(data.rows, VALIDATION_BATCH)):
                part = slice(index * VALIDATION_BATCH, index * VALIDATION_BATCH + len(images))
                labels = torch.from_numpy(data.labels[part].copy()).to(device)
                logits = self.logits(torch.from_numpy(images).to(device))
                loss += summed_loss(logits, labels)
                right[part] = share_right(logits, labels)
        return loss / len(data.rows), right

    def _value(self, epoch: Epoch) -> float:
        values = {
            "accuracy": epoch.val_accuracy,
            "worst_group_accuracy": epoch.worst_group_accuracy,
            "loss": -epoch.val_loss,
            "last": float(epoch.epoch),
        }
        return values[self.options.best_by]

    def _rate(self, step: int) -> float:
        return self.options.learning_rate * cosine_with_warmup(
            step, self.steps * self.options.epochs, self.options.warmup
        )

    def _set_rate(self, step: int) -> None:
        """The rate is a function of the step alone: a resumed run needs no scheduler's state."""
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(step)


def save_checkpoint(model: nn.Module, path: Path) -> None:
    """Write the weights as safetensors, in plain memory order so that equal weights are equal bytes."""
    state = {name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}
    require("safetensors.torch", extra="train").save_file(state, path)


def load_checkpoint(model: nn.Module, path: Path) -> nn.Module:
    """Load weights that `save_checkpoint` wrote, and return the model in evaluation mode."""
    load_weights(model, path)
    return model.eval()


def cosine_with_warmup(step: int, steps: int, warmup: float) -> float:
    """Return the share of the highest learning rate: rising in the first steps, then half a cosine."""
    rising = max(1, round(steps * warmup))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rising) / max(1, steps - rising))))


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Exclude norms and biases from weight decay, as the authors of the architectures do."""
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    plain = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def _worst_group(right: np.ndarray[Any, np.dtype[np.float64]], data: LabelledImages) -> tuple[float, str]:
    """Return the lowest accuracy of a group, and the group; groups without images are left out."""
    totals = np.bincount(data.groups, minlength=len(data.group_names))
    hits = np.bincount(data.groups, weights=right, minlength=len(data.group_names))
    present = np.flatnonzero(totals)
    worst = present[np.argmin(hits[present] / totals[present])]
    return float(hits[worst] / totals[worst]), data.group_names[worst]


def _line(epoch: Epoch, speed: float) -> str:
    return (
        f"epoch {epoch.epoch}: loss {epoch.train_loss:.4f}, validation accuracy {epoch.val_accuracy:.2%}, "
        f"worst group {epoch.worst_group} {epoch.worst_group_accuracy:.2%}, {speed:,.0f} images/s"
    )
