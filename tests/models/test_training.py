"""The training loop: exact resume, what is kept, objectives, augmentation, and the log."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fqbench.config import ObjectiveOptions, TrainOptions
from fqbench.contracts.training import Hooks
from fqbench.errors import DataError, InputError
from fqbench.models.batches import EpochPlan, LabelledImages, Share, augment, batches
from fqbench.models.objectives import AnsweredBatch, EmpiricalRisk, GroupBalanced, objective
from fqbench.models.resume import STATE
from fqbench.models.train import CHECKPOINT, Training, cosine_with_warmup, train
from fqbench.models.train_log import LOG

torch = pytest.importorskip("torch")

Bright = Callable[..., LabelledImages]
SHORT = TrainOptions(epochs=3, batch_size=16, learning_rate=0.01)


def network(seed: int = 0) -> torch.nn.Module:
    """Convolution, BatchNorm and dropout: weights, buffers and random numbers all have to be restored."""
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.3),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 2),
    )


def folders(root: Path, *names: str) -> tuple[Path, ...]:
    for name in names:
        (root / name).mkdir()
    return tuple(root / name for name in names)


def test_it_learns_and_keeps_the_best_epoch(bright: Bright, tmp_path: Path) -> None:
    model = network()
    result = train(model, bright(), bright(40, seed=1), SHORT.model_copy(update={"epochs": 6}), tmp_path)
    accuracies = [epoch.val_accuracy for epoch in result.epochs]
    assert result.best.val_accuracy == max(accuracies) > 0.9
    assert result.best.epoch == accuracies.index(max(accuracies)) + 1
    with (tmp_path / LOG).open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["val_accuracy"]) for row in rows] == accuracies
    assert not model.training
    json.dumps(result.details(), allow_nan=False)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_stopped_run_ends_with_the_same_bytes(bright: Bright, tmp_path: Path, precision: str) -> None:
    whole, resumed, scratch = folders(tmp_path, "whole", "resumed", "scratch")
    augmented = {"augment": ("flip", "crop", "colour"), "best_by": "last"}
    options = SHORT.model_copy(update={"epochs": 4, "precision": precision, **augmented})
    train(network(), bright(), bright(40, seed=1), options, whole)

    class Stop(Exception):
        pass

    def stop(epoch: int, _model: torch.nn.Module) -> None:
        if epoch == 2:
            raise Stop

    with pytest.raises(Stop):
        train(network(), bright(), bright(40, seed=1), options, resumed, scratch=scratch, hooks=Hooks(stop))
    assert (scratch / STATE).is_file()
    torch.manual_seed(99)  # whatever the new process did before
    started: list[int] = []
    hooks = Hooks(lambda epoch, _model: started.append(epoch))
    train(network(7), bright(), bright(40, seed=1), options, resumed, scratch=scratch, hooks=hooks)
    assert started == [2, 3]
    for name in (CHECKPOINT, LOG):
        assert (whole / name).read_bytes() == (resumed / name).read_bytes()


def stop_before_epoch_three(epoch: int, _model: torch.nn.Module) -> None:
    if epoch == 2:
        raise StopHere


class StopHere(Exception):
    pass


def far_teacher(images: torch.Tensor) -> torch.Tensor:
    """Answers by the mean of the first channel alone."""
    return images[:, :1].mean((2, 3)) * images.new_tensor([-3.0, 3.0])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("group-dro", {"group_step": 0.5}),
        ("worst-group", {}),
        ("demographic-parity", {}),
        ("equalized-odds", {"penalty_limit": 0.05}),
        ("distillation", {}),
        ("group-balanced+group-dro+distillation+equalized-odds", {"group_step": 0.5, "penalty_limit": 0.05}),
    ],
)
def test_an_objective_with_state_resumes_to_the_same_bytes(
    bright: Bright, tmp_path: Path, name: str, options: dict[str, float]
) -> None:
    asked = SHORT.model_copy(update={"epochs": 4, "best_by": "last"})

    def run(out: Path, *, forgetful: bool = False, **how: Any) -> Training:
        aim = objective(name, ObjectiveOptions(**options), teacher=far_teacher)
        if forgetful:
            aim.restore = lambda _state: None  # type: ignore[method-assign]
        return train(network(), bright(), bright(40, seed=1), asked, out, aim=aim, **how)

    def interrupted(out: Path, scratch: Path, *, forgetful: bool = False) -> Training:
        with pytest.raises(StopHere):
            run(out, scratch=scratch, hooks=Hooks(stop_before_epoch_three))
        torch.manual_seed(99)
        return run(out, forgetful=forgetful, scratch=scratch)

    whole, resumed, forgot, *scratches = folders(tmp_path, "whole", "resumed", "forgot", "scratch", "another")
    straight = run(whole)
    again = interrupted(resumed, scratches[0])
    assert again.objective == straight.objective
    assert (whole / CHECKPOINT).read_bytes() == (resumed / CHECKPOINT).read_bytes()
    if name != "distillation":  # which has no state; the others would end elsewhere without theirs
        interrupted(forgot, scratches[1], forgetful=True)
        assert (whole / CHECKPOINT).read_bytes() != (forgot / CHECKPOINT).read_bytes()


KILLED = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from fqbench.config import configure
from fqbench.models import train as training
from fqbench.run import Run
from fqbench.stages.train import train
from fqbench.workspace import Workspace
import time

def save_and_wait(*arguments, save=training.save_state, **state):
    save(*arguments, **state)
    print("saved", flush=True)
    time.sleep(60)

if len(sys.argv) > 3:
    training.save_state = save_and_wait
flags = dict(images=96, image_size=32, epochs=2, batch_size=16, model="resnet10t", objective=sys.argv[2])
print(train(Run(configure(**flags), Workspace(sys.argv[1]))).digest)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["erm", "group-dro+equalized-odds"])
def test_a_run_killed_after_an_epoch_ends_with_identical_weights(tmp_path: Path, name: str) -> None:
    command = [sys.executable, "-c", KILLED]
    with subprocess.Popen([*command, tmp_path / "killed", name, "wait"], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "saved\n"
        child.send_signal(signal.SIGKILL)
    (scratch,) = (tmp_path / "killed" / "checkpoints").glob(".*.scratch")
    assert (scratch / STATE).is_file()
    digests = [
        subprocess.run([*command, tmp_path / workspace, name], stdout=subprocess.PIPE, text=True, check=True).stdout
        for workspace in ("killed", "whole")
    ]
    assert digests[0] == digests[1]
    assert not scratch.exists()
    (entry,) = [path for path in (tmp_path / "killed" / "checkpoints").iterdir() if not path.name.startswith(".")]
    assert list((tmp_path / "killed" / "tensorboard" / entry.name).glob("events.*"))


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(bright: Bright, tmp_path: Path) -> None:
    outs = folders(tmp_path, "a", "b", "c")
    for out, seed in zip(outs, (0, 0, 1), strict=True):
        train(network(), bright(), bright(40, seed=1), SHORT.model_copy(update={"seed": seed}), out)
    first, again, other = ((out / CHECKPOINT).read_bytes() for out in outs)
    assert first == again != other


def test_worst_group_accuracy_chooses_and_patience_stops(bright: Bright, tmp_path: Path) -> None:
    options = SHORT.model_copy(update={"epochs": 9, "best_by": "worst_group_accuracy", "patience": 2})
    result = train(network(), bright(), bright(40, seed=1, noise=0.0), options, tmp_path)
    values = [epoch.worst_group_accuracy for epoch in result.epochs]
    assert result.best.worst_group_accuracy == max(values)
    assert result.stopped_early
    assert len(values) == result.best.epoch + 2
    assert {epoch.worst_group for epoch in result.epochs} <= {"few", "many"}


def test_worst_group_accuracy_is_the_lowest_of_a_group(bright: Bright, tmp_path: Path) -> None:
    data = bright(40, seed=1)
    labels = data.labels.copy()
    labels[data.groups == 0] = 1 - labels[data.groups == 0]  # what is learned is wrong for the group "few"
    wrong = LabelledImages(data.images, data.rows, labels, data.groups, ("few", "many", "nobody"))
    result = train(network(), bright(), wrong, SHORT.model_copy(update={"epochs": 6}), tmp_path)
    last = result.epochs[-1]
    assert (last.worst_group, last.worst_group_accuracy) == ("few", 0.0)
    assert last.val_accuracy == pytest.approx(0.9)


@pytest.mark.parametrize("best_by", ["loss", "last", "accuracy"])
def test_the_other_ways_to_choose(bright: Bright, tmp_path: Path, best_by: str) -> None:
    options = SHORT.model_copy(update={"best_by": best_by, "learning_rate": 1e-6})
    result = train(network(), bright(), bright(40, seed=1), options, tmp_path)
    losses = [epoch.val_loss for epoch in result.epochs]
    expected = {"loss": losses.index(min(losses)) + 1, "last": 3, "accuracy": result.best.epoch}
    assert result.best.epoch == expected[best_by]


def test_bf16_smoothing_and_class_weights_train_too(bright: Bright, tmp_path: Path) -> None:
    options = SHORT.model_copy(update={"precision": "bf16", "label_smoothing": 0.1, "class_weights": "balanced"})
    model = network()
    assert train(model, bright(), bright(40, seed=1), options, tmp_path).details()["precision"] == "bf16"
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    (again,) = folders(tmp_path, "again")
    train(network(), bright(), bright(40, seed=1), SHORT, again)  # fp32 after bf16, in one process


def test_balanced_class_weights_follow_the_rare_class(bright: Bright, tmp_path: Path) -> None:
    data = bright(64, noise=120.0)
    rare = np.flatnonzero((data.labels == 0) | (np.arange(64) % 8 == 1))
    skewed = LabelledImages(data.images, data.rows[rare], data.labels[rare], data.groups[rare], data.group_names)
    answers = {}
    for kind in ("none", "balanced"):
        model, (out,) = network(), folders(tmp_path, kind)
        options = TrainOptions(epochs=4, batch_size=8, learning_rate=0.003, class_weights=kind, best_by="last")
        train(model, skewed, data, options, out)
        with torch.inference_mode():
            answers[kind] = float(model(torch.from_numpy(data.images.batch(data.rows))).softmax(1)[:, 1].mean())
    assert answers["balanced"] > answers["none"]


def test_a_loss_that_is_not_finite(bright: Bright, tmp_path: Path) -> None:
    model = network()
    with torch.no_grad():
        model[0].weight.fill_(float("nan"))
    with pytest.raises(DataError, match="the training loss is not finite in epoch 1; lower --learning-rate"):
        train(model, bright(), bright(), SHORT, tmp_path)


def test_group_balanced_shows_every_group_alike(bright: Bright) -> None:
    data = bright(1000)
    order = GroupBalanced().order(data, np.random.default_rng(0))
    assert len(order) == 1000
    assert np.bincount(data.groups[order]) == pytest.approx([500, 500], abs=60)
    plain = EmpiricalRisk().order(data, np.random.default_rng(0))
    assert sorted(plain.tolist()) == list(range(1000))


def test_group_balanced_needs_groups(bright: Bright) -> None:
    data = bright(20)
    alone = LabelledImages(data.images, data.rows, data.labels, np.zeros(20, dtype=np.int64))
    with pytest.raises(DataError, match="--objective group-balanced needs two groups or more"):
        GroupBalanced().order(alone, np.random.default_rng(0))


def test_an_unknown_objective() -> None:
    with pytest.raises(InputError, match="unknown objective 'group-balance': did you mean 'group-balanced'"):
        objective("group-balance")


def test_an_objective_of_ones_own(bright: Bright, tmp_path: Path) -> None:
    seen: list[int] = []

    class Mine(EmpiricalRisk):
        name = "mine"

        def loss(self, batch: AnsweredBatch) -> torch.Tensor:
            seen.append(len(batch.groups))
            return batch.losses.mean() + 0.1 * batch.logits.square().mean()

    train(network(), bright(), bright(20), SHORT, tmp_path, aim=Mine())
    assert seen == [16] * 9


def test_batches_are_a_function_of_seed_and_epoch(bright: Bright) -> None:
    data = bright(40)

    def epoch(number: int, share: Share | None = None) -> list[np.ndarray]:
        plan = EpochPlan(batch_size=8, augment=(), seed=3, epoch=number)
        return [images.numpy() for images, _labels, _groups in batches(data, EmpiricalRisk(), plan, share)]

    np.testing.assert_array_equal(epoch(0), epoch(0))
    assert not np.array_equal(epoch(0), epoch(1))
    halves = [epoch(0, Share(rank, 2)) for rank in range(2)]
    joined = np.stack(halves, axis=2).reshape(np.shape(epoch(0)))
    np.testing.assert_array_equal(joined, epoch(0))


@pytest.mark.parametrize("kinds", [(), ("flip",), ("crop",), ("colour",), ("flip", "crop", "colour")])
def test_augmentation_keeps_shape_and_leaves_its_input(kinds: tuple[str, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
    before = pixels.copy()
    out = augment(pixels, kinds, np.random.default_rng(1))
    assert (out.shape, out.dtype) == (pixels.shape, np.uint8)
    assert out.flags.c_contiguous
    np.testing.assert_array_equal(pixels, before)
    assert np.array_equal(out, pixels) == (not kinds)


def test_flips_mirror_about_half_of_the_pictures() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (200, 8, 8, 3), dtype=np.uint8)
    out = augment(pixels, ("flip",), np.random.default_rng(1))
    mirrored = [np.array_equal(a, b[:, ::-1]) for a, b in zip(out, pixels, strict=True)]
    kept = [np.array_equal(a, b) for a, b in zip(out, pixels, strict=True)]
    assert 70 < sum(mirrored) == 200 - sum(kept) < 130


def test_crops_shift_each_picture_and_repeat_its_edge() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (100, 32, 32, 3), dtype=np.uint8)
    out = augment(pixels, ("crop",), np.random.default_rng(1))
    seen = set()
    for index, picture in enumerate(pixels):
        shifts = [
            (down, across)
            for down in range(-2, 3)
            for across in range(-2, 3)
            if np.array_equal(
                out[index],
                picture[np.clip(np.arange(32) + down, 0, 31)][:, np.clip(np.arange(32) + across, 0, 31)],
            )
        ]
        assert len(shifts) == 1
        seen.update(shifts)
    assert len(seen) > 20


def test_colour_changes_brightness_contrast_and_saturation_within_a_fifth() -> None:
    flat = np.full((50, 8, 8, 3), 100, dtype=np.uint8)  # neither contrast nor saturation can change it
    out = augment(flat, ("colour",), np.random.default_rng(1)).astype(int)
    assert 79 <= out.min() < 90
    assert 110 < out.max() <= 121
    assert (out.reshape(50, -1).max(axis=1) - out.reshape(50, -1).min(axis=1) <= 1).all()


def test_batches_are_normalized_and_channels_last(bright: Bright) -> None:
    data = bright(16)
    plan = EpochPlan(batch_size=8, augment=(), seed=3, epoch=0)
    order = EmpiricalRisk().order(data, np.random.default_rng([3, 0]))
    for step, (images, labels, _groups) in enumerate(batches(data, EmpiricalRisk(), plan)):
        chosen = order[step * 8 : step * 8 + 8]
        assert images.is_contiguous(memory_format=torch.channels_last)
        np.testing.assert_array_equal(images.numpy(), data.images.batch(data.rows[chosen]))
        np.testing.assert_array_equal(labels.numpy(), data.labels[chosen])


def test_the_schedule() -> None:
    factors = [cosine_with_warmup(step, 100, 0.1) for step in range(100)]
    assert factors[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[-1] < 0.001
