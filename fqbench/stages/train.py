"""Train: the configured classifier, trained on the configured data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fqbench.config import Preprocessing
from fqbench.errors import DataError
from fqbench.models import train as training
from fqbench.models import zoo
from fqbench.models.train import LabelledImages
from fqbench.optional import require
from fqbench.stages.prepare import Prepared, prepare
from fqbench.stages.read import read, read_entry
from fqbench.stages.run import Run
from fqbench.workspace import Entry, Recipe


def train(run: Run) -> Entry:
    """Return the checkpoint of the configured classifier, training it where there is none.

    Raises
    ------
    InputError
        An unknown model, or a data set without the splits ``train`` and ``val``.
    UnavailableError
        torch is not installed.
    """
    return run.once("checkpoint", lambda: _train(run))


def preprocessing_for(run: Run, architecture: zoo.Architecture) -> Preprocessing:
    """Return the preprocessing of the configured classifier on the configured data."""
    drawn = run.config.data.size if run.config.data.name == "synthfaces" else None
    return zoo.preprocessing_of(architecture, run.config.preprocessing, drawn_size=drawn)


def _train(run: Run) -> Entry:
    torch = require("torch", extra="train")
    options, model = run.config.train, run.config.model
    architecture = zoo.find(model.name)
    preprocessing = preprocessing_for(run, architecture)
    samples, store = read(run), prepare(run, preprocessing)
    recipe = Recipe(
        kind="checkpoints",
        slug=f"{model.name}-{samples.name}",
        version=training.STAGE_VERSION,
        determined_by={
            "samples": read_entry(run).digest,
            "prepared": store.entry.digest,
            "model": f"{architecture.library}/{architecture.entry}",
            "weights": _weights_identity(model.weights),
            "preprocessing": preprocessing.model_dump(mode="json"),
            "options": options.model_dump(mode="json"),
        },
        inputs={"samples": read_entry(run).id, "prepared": store.entry.id},
    )

    def build(out: Path) -> Mapping[str, object]:
        torch.manual_seed(options.seed)
        network = zoo.build(architecture, classes=len(samples.classes), size=preprocessing.size, weights=model.weights)
        result = training.train(
            network, _labelled(run, store, "train"), _labelled(run, store, "val"), options, out, reporter=run.reporter
        )
        return {
            **result.details(),
            "model": model.name,
            "classes": list(samples.classes),
            "preprocessing": preprocessing.model_dump(mode="json"),
            "threads": torch.get_num_threads(),
        }

    return run.produce(recipe, build, f"training {model.name} on {samples.name} for {options.epochs} epochs")


def _labelled(run: Run, store: Prepared, split: str) -> LabelledImages:
    frame, rows = store.readable(read(run).split(split))
    if frame["label"].nunique() < 2 and split == "train":
        raise DataError("the training split holds one class only; a classifier needs images of at least two.")
    return LabelledImages(store.images, rows, frame["label"].to_numpy(dtype=np.int64))


def _weights_identity(weights: str) -> str:
    """A file is identified by its content, so that moving it makes no difference."""
    import hashlib

    if weights in {"none", "imagenet"} or not Path(weights).is_file():
        return weights
    with Path(weights).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
