"""A small network that knows the colour of a picture, trained in a moment and exported: what the tests quantize."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import nn

from fqbench.config import Preprocessing
from fqbench.contracts.artifacts import ExportedModel
from fqbench.models import export as exporting
from fqbench.models import zoo
from fqbench.models.train import CHECKPOINT, save_checkpoint
from fqbench.testing.tiny_model import CLASSES, SIZE, pictures

STEPS = 40


def labels(images: np.ndarray) -> np.ndarray:
    """The brightest channel, or grey where all are dark."""
    tint = np.median(images, axis=(2, 3))
    return np.where(tint.max(axis=1) < 0, 3, tint.argmax(axis=1))


@cache
def network_folder(name: str) -> Path:
    """A folder with checkpoint and ONNX of a trained network; made once a process."""
    torch.manual_seed(0)
    network = zoo.build(zoo.find(name), classes=len(CLASSES), size=SIZE).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for step in range(STEPS):
        images = pictures(64, seed=100 + step)
        loss = nn.functional.cross_entropy(network(torch.from_numpy(images)), torch.from_numpy(labels(images)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    folder = Path(tempfile.mkdtemp(prefix="fqbench-trained-"))
    save_checkpoint(network, folder / CHECKPOINT)
    exporting.export(network, pictures(8, seed=0), Preprocessing(size=SIZE), CLASSES, folder)
    return folder


def trained(name: str, folder: Path) -> ExportedModel:
    """The network as an exported model whose ONNX lies alone in ``folder``."""
    source = network_folder(name)
    path = folder / exporting.MODEL
    shutil.copyfile(source / exporting.MODEL, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return ExportedModel(
        name, name, path, digest, CLASSES, Preprocessing(size=SIZE), architecture=name, checkpoint=source / CHECKPOINT
    )
