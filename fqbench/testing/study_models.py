"""The study's models with weights and BatchNormalization statistics drawn from a seed: real graphs, no training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fqbench.config import Preprocessing
from fqbench.contracts.artifacts import ExportedModel
from fqbench.models import export, zoo
from fqbench.models.train import CHECKPOINT, save_checkpoint
from fqbench.storage import file_digest

if TYPE_CHECKING:
    from torch import nn

CLASSES = ("no", "yes")


def study_model(name: str, folder: Path, *, size: int = 64, seed: int = 0) -> ExportedModel:
    """Export a model of the study into ``folder``.

    Parameters
    ----------
    name : str
        One of `fqbench.models.zoo.STUDY`, or any other name the zoo knows.
    folder : Path
        Existing and empty.
    size : int
        Height and width of the input.
    seed : int
        Of weights and statistics; no scale of a BatchNormalization is zero, so no branch is dead.
    """
    import torch

    torch.manual_seed(seed)
    architecture = zoo.find(name)
    network = zoo.build(architecture, classes=len(CLASSES), size=size)
    _randomise(network)
    network.eval()
    preprocessing = Preprocessing(size=size)
    images = np.random.default_rng(seed).normal(0, 1, (2, 3, size, size)).astype(np.float32)
    export.export(network, images, preprocessing, list(CLASSES), folder)
    path = folder / export.MODEL
    digest = file_digest(path)
    save_checkpoint(network, folder / CHECKPOINT)
    return ExportedModel(
        name,
        name,
        path,
        digest,
        CLASSES,
        preprocessing,
        architecture=architecture.reference,
        checkpoint=folder / CHECKPOINT,
    )


def _randomise(network: nn.Module) -> None:
    import torch

    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.4, 1.2)
            torch.nn.init.normal_(module.bias, 0, 0.1)
            assert module.running_mean is not None, "untracked statistics"
            assert module.running_var is not None, "untracked statistics"
            torch.nn.init.normal_(module.running_mean, 0, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
