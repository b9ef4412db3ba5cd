"""What the benchmarks of trained networks share: the networks, the losses per group, and tables in the docs."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from flags import flags_of

import fqbench
from fqbench.contracts.artifacts import Artifact
from fqbench.data.samples import group_labels
from fqbench.predicted_labels import predicted_labels
from fqbench.run import Run
from fqbench.stages.predict import predict_split
from fqbench.stages.read import read
from fqbench.storage import write_whole
from fqbench.terminal import TerminalReporter

if TYPE_CHECKING:
    from numpy.typing import NDArray

DOCS = Path(__file__).parent.parent / "docs"
GROUPS = "skin_tone,age_group"
SMALLEST = 100  # test images of a group that is judged
DATA = {"images": 12800, "test_images": 7200, "epochs": 6}
# Depthwise networks see 2 by 2 places of 64 pixels at their end: crops hide too much.
SMALL = {"learning_rate": 1e-3, "augment": ("flip",)}
# A transformer behind a few convolutions: vit_small and vit_tiny, whose first layer takes patches of 16 pixels, are at
# chance after several epochs of 12,800 images.
VIT = {"epochs": 8, "learning_rate": 1e-3, "augment": ("flip",)}
# From the smallest to the largest, so that a killed run has most of the table.
NETWORKS: dict[str, dict[str, Any]] = {
    "lcnet_100": {"epochs": 20, "augment": ("flip",)},
    "squeezenet1_1": {"epochs": 8, "learning_rate": 3e-4, "augment": ("flip",)},  # without BatchNormalization
    "resnet10t": {},
    "mobilenetv3_large_100": {"epochs": 12, "augment": ("flip",)},
    "mobilenet_v2": SMALL | {"epochs": 12},
    "efficientnet_b0": SMALL,
    "resnet50": {"epochs": 2, "augment": ("flip",)},
    "vit_tiny_r_s16_p8_224": VIT,
}


def parser(description: str | None, models: Sequence[str] = tuple(NETWORKS)) -> argparse.ArgumentParser:
    """Return a parser with the options that these benchmarks share."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--workspace", type=Path, default=None)
    made.add_argument("--models", default=",".join(models))
    made.add_argument("--docs", action="store_true", help="write the table into the documentation, too")
    return made


def runs(options: argparse.Namespace, rest: Sequence[str]) -> Iterator[tuple[str, Run]]:
    """Yield each network with its run; flags that are left over change all of them."""
    flags = flags_of(rest)
    for name in options.models.split(","):
        asked: dict[str, Any] = {"calib_by": GROUPS, "by": GROUPS} | DATA | NETWORKS.get(name, {}) | flags
        yield name, fqbench.experiment(options.workspace, reporter=TerminalReporter(), model=name, **asked)


def setting(run: Run) -> str:
    """Return what a table says about the data, the training and the runtime; images and epochs are in its rows."""
    data = run.config.data
    return (
        f"Images of {data.size} pixels to train and validate, batches of {run.config.train.batch_size}; "
        f"{data.test_images} test images; {run.config.quantize.backend}"
    )


def training(run: Run) -> str:
    """Return how many images and epochs a network was trained with, as a cell of a table."""
    weights = run.config.model.weights
    return f"{run.config.data.images}, {run.config.train.epochs}" + ("" if weights == "none" else ", from weights")


@dataclass(frozen=True)
class Loss:
    """What one artifact loses against FP32 on the same images; points of accuracy, above 0 is a loss.

    Attributes
    ----------
    accuracy : float
        Of the artifact, from 0 to 1.
    overall : float
        Over all test images.
    worst : float
        Of the group of `SMALLEST` images or more that loses most.
    group : str
        That group.
    images, lost, won : int
        Its images; those that FP32 alone has right, and those that the artifact alone has right.
    """

    accuracy: float
    overall: float
    worst: float
    group: str
    images: int
    lost: int
    won: int

    @property
    def of_the_worst(self) -> str:
        """The worst group's loss with the counts behind it."""
        return f"{self.worst:+.2f} ({self.group}: {self.lost} lost, {self.won} won of {self.images})"


def losses(run: Run, artifacts: Sequence[Artifact]) -> list[Loss]:
    """Return the losses of artifacts against the first one, on the test split."""
    samples = read(run)
    decided = predicted_labels([predict_split(run, artifact) for artifact in artifacts], samples)
    frame = decided[0].frame
    labels = frame["label"].to_numpy(dtype=np.int64)
    groups = np.asarray(group_labels(frame, samples.features(run.config.eval.by)))
    right = [one.labels == labels for one in decided]
    return [loss(right[0], one, groups) for one in right]


def loss(before: NDArray[np.bool_], after: NDArray[np.bool_], groups: NDArray[np.str_]) -> Loss:
    """Compare which images two models have right."""
    names, counts = np.unique(groups, return_counts=True)
    parts = [(str(name), groups == name) for name, count in zip(names, counts, strict=True) if count >= SMALLEST]
    if not parts:
        raise SystemExit(f"no group has {SMALLEST} test images; raise --test-images.")
    group, part = max(parts, key=lambda one: float(before[one[1]].mean() - after[one[1]].mean()))
    return Loss(
        accuracy=float(after.mean()),
        overall=100 * float(before.mean() - after.mean()),
        worst=100 * float(before[part].mean() - after[part].mean()),
        group=group,
        images=int(part.sum()),
        lost=int((before & ~after)[part].sum()),
        won=int((after & ~before)[part].sum()),
    )


def put(page: Path, name: str, text: str) -> None:
    """Replace what stands between ``<!-- measured: NAME -->`` and ``<!-- end -->`` of a page."""
    block = re.compile(rf"(<!-- measured: {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
    old = page.read_text()
    new, found = block.subn(lambda match: f"{match[1]}{text.rstrip()}\n{match[2]}", old)
    if found != 1:
        raise SystemExit(f"{page} has {found} places for {name!r}; one is needed.")
    write_whole(page, new)
