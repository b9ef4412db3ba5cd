"""Train: the configured classifier, trained on the configured data."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fqbench.config import Preprocessing
from fqbench.contracts.task import PredictionTask
from fqbench.data.samples import Samples, group_labels
from fqbench.errors import DataError, InputError
from fqbench.models import code, huggingface, zoo
from fqbench.models import train as training
from fqbench.models.batches import LabelledImages
from fqbench.models.lookup import check_weights, classifier
from fqbench.models.objectives import Objective, check_used, needs_groups, objective
from fqbench.models.preprocessing import preprocessing_of
from fqbench.models.weights import load_as_it_is
from fqbench.optional import require
from fqbench.run import Run
from fqbench.stages.named import check_columns, check_names
from fqbench.stages.prepare import Prepared, prepare
from fqbench.stages.read import read, read_entry
from fqbench.storage import file_digest
from fqbench.workspace import Derivation, Entry
from fqbench.workspace.kinds import CHECKPOINTS, CheckpointFacts, TakenFacts, TrainingFacts

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from fqbench.config import TrainOptions
    from fqbench.contracts.training import Hooks

TRAINED_BY = ("data", "model", "preprocessing", "train", "objectives")
BOARDS = "tensorboard"  # outside the entries: events contain the time of day, which a result must not


def train(run: Run) -> Entry[CheckpointFacts]:
    """Return the checkpoint of the configured classifier, training it if necessary.

    Raises
    ------
    InputError
        An unknown model, or a data set without the splits ``train`` and ``val``.
    UnavailableError
        torch is not installed.
    """
    return run.once("checkpoint", TRAINED_BY, lambda: _train(run))


def train_seeds(run: Run, seeds: Sequence[int]) -> list[Entry[CheckpointFacts]]:
    """Return one checkpoint per seed, with everything else the same.

    Raises
    ------
    InputError
        No seeds, a negative one, or the same twice.
    """
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise InputError(f"--seeds {','.join(map(str, seeds))}: give whole numbers from 0, each once, as in 0,1,2.")
    return [train(run.with_options("train", seed=seed)) for seed in seeds]


def preprocessing_for(run: Run, architecture: zoo.Architecture) -> Preprocessing:
    """Return the preprocessing of the configured classifier on the configured data."""
    drawn = run.config.data.size if run.config.data.name == "synthfaces" else None
    trained = weights_of(run, architecture) not in {"none", "imagenet"}
    return preprocessing_of(architecture, run.config.preprocessing, drawn_size=drawn, trained=trained)


def weights_of(run: Run, architecture: zoo.Architecture) -> str:
    """Return the initial weights: the user's, else those in the model's folder, else none."""
    model = run.config.model
    return zoo.OWN if architecture.folder and "weights" not in model.model_fields_set else model.weights


def _train(run: Run) -> Entry[CheckpointFacts]:
    options, model = run.config.train, run.config.model
    aim = _objective(run)
    architecture = classifier(run, model.name, model.args)
    preprocessing, weights = preprocessing_for(run, architecture), weights_of(run, architecture)
    if weights not in {"none", "imagenet", zoo.OWN}:
        # Likewise a file that does not fit.
        check_weights(run, architecture, Path(weights), size=preprocessing.size, as_it_is=not options.epochs)
    if not options.epochs:
        return _take(run, architecture, preprocessing)
    samples = read(run)
    check_columns(run, samples)
    samples.split("train")  # before pictures are decoded
    by = features_for(samples, options.by, aim.name, "--objective")
    store = prepare(run, preprocessing)
    derivation = Derivation(
        kind=CHECKPOINTS,
        slug=f"{architecture.title}-{samples.name}-seed{options.seed}",
        determined_by={
            "samples": read_entry(run).digest,
            "prepared": store.entry.digest,
            **architecture.identity,
            "weights": _weights_identity(architecture, weights),
            "preprocessing": preprocessing.model_dump(mode="json"),
            "options": {**options.model_dump(mode="json"), "by": list(by), "objective": aim.name, **aim.identity},
            # BatchNorm sees a share of each batch, so that several processes end with other weights.
            **({"processes": processes()} if processes() > 1 else {}),
        },
        inputs={"samples": read_entry(run).id, "prepared": store.entry.id},
    )

    def build(out: Path) -> CheckpointFacts:
        return _build(run, architecture, store, aim, out, by=by, derivation=derivation)

    if _helps():
        return _together(run, derivation, build)
    return run.produce(
        derivation, build, f"training {architecture.title} on {samples.name} for {options.epochs} epochs"
    )


def _build(
    run: Run,
    architecture: zoo.Architecture,
    store: Prepared,
    aim: Objective,
    out: Path,
    *,
    by: Sequence[str],
    derivation: Derivation,
) -> CheckpointFacts:
    """Build the network, train it, and write its weights into a folder."""
    torch = require("torch", extra="train")
    options, samples = run.config.train, read(run)
    preprocessing, weights = preprocessing_for(run, architecture), weights_of(run, architecture)
    classes = samples.classes
    torch.manual_seed(options.seed)
    _say_code(run, architecture)
    network = zoo.build(architecture, classes=len(classes), size=preprocessing.size, weights=weights)
    if weights == "none":
        zoo.shrink_head(network)
    zoo.check_logits(network, architecture, classes=len(classes), size=preprocessing.size)
    result = fit(run, network, store, options, out, aim=aim, by=by, derivation=derivation)
    return CheckpointFacts(
        model=architecture.title,
        architecture=architecture.reference,
        classes=classes,
        task=samples.task,
        preprocessing=preprocessing,
        training=TrainingFacts(**result.details(), model=architecture.title, seed=options.seed),
        threads=torch.get_num_threads(),
    )


def fit(
    run: Run,
    network: nn.Module,
    store: Prepared,
    options: TrainOptions,
    out: Path,
    *,
    aim: Objective,
    by: Sequence[str],
    derivation: Derivation,
    hooks: Hooks | None = None,
) -> training.Training:
    """Train a network on the splits of a data set, as the entry of a derivation; a killed training goes on."""
    return training.train(
        network,
        labelled(run, store, "train", by),
        labelled(run, store, "val", by),
        options,
        out,
        aim=aim,
        hooks=hooks,
        scratch=run.workspace.scratch(derivation),
        board=run.workspace.root / BOARDS / derivation.id,
        reporter=run.reporter,
    )


def _objective(run: Run) -> Objective:
    """Return the configured objective; misspelt names and options that change nothing are told before data are read."""
    check_names(run.config)
    if run.config.model.column is not None:
        raise InputError(
            "--column names outputs of an ONNX file or a .pt2 program; for other models name the attributes in the "
            "order of the outputs, with --label A,B."
        )
    asked, quantized = run.config.train.objective, run.config.qat.objective
    aim = objective(asked, run.config.objectives)
    check_used(run.config.objectives, {"--objective": asked} | ({"--qat-objective": quantized} if quantized else {}))
    return aim


def _take(run: Run, architecture: zoo.Architecture, preprocessing: Preprocessing) -> Entry[CheckpointFacts]:
    """Make a checkpoint of trained weights, without using any image."""
    samples, weights = read(run), weights_of(run, architecture)
    check_columns(run, samples)
    classes, task = samples.classes, samples.task
    if weights in {"none", "imagenet"}:
        raise InputError(
            f"--epochs 0 with --weights {weights} would leave {architecture.title} untrained for these classes; give "
            "its trained weights with --weights FILE, or train it for at least one epoch."
        )
    order = huggingface.order_of(architecture.labels, classes, architecture.name) if weights == zoo.OWN else ()
    derivation = Derivation(
        kind=CHECKPOINTS,
        slug=f"{architecture.title}-as-it-is",
        determined_by={
            **architecture.identity,
            "weights": _weights_identity(architecture, weights),
            "preprocessing": preprocessing.model_dump(mode="json"),
            "classes": list(classes),
            **({"task": task.value} if task is not PredictionTask.CLASSES else {}),
        },
        inputs={"samples": read_entry(run).id},
    )

    source = str(architecture.folder) if weights == zoo.OWN else weights

    def build(out: Path) -> CheckpointFacts:
        _say_code(run, architecture)
        network = zoo.build(architecture, classes=len(classes), size=preprocessing.size)
        hint = f", or train for at least one epoch (the data have {len(classes)} classes)"
        found = load_as_it_is(network, zoo.read_state(architecture, weights), source, hint)
        if order:
            head = zoo.head_parameters(architecture, classes=len(classes), size=preprocessing.size)
            zoo.reorder(network, head, order)
            run.reporter.say(f"the model's outputs are reordered to the classes of the data: {', '.join(classes)}")
        zoo.check_logits(network, architecture, classes=len(classes), size=preprocessing.size)
        run.reporter.say(f"{source} is used as it is, without training: {found.described}")
        training.save_checkpoint(network, out / training.CHECKPOINT)
        return CheckpointFacts(
            model=architecture.title,
            architecture=architecture.reference,
            classes=classes,
            task=task,
            preprocessing=preprocessing,
            taken=TakenFacts(tensors=len(found.tensors), wrapper=found.wrapper, prefix=found.prefix, left=found.left),
        )

    return run.produce(derivation, build, f"taking the weights of {architecture.title} as they are")


def features_for(samples: Samples, by: Sequence[str] | None, name: str, flag: str) -> tuple[str, ...]:
    """Return the sensitive features that define the groups in training.

    Raises
    ------
    InputError
        The objective is about groups, and there are no sensitive features.
    """
    features = samples.features(by)
    if needs_groups(name) and not features:
        raise InputError(
            f"{flag} {name} needs groups, but these data have no sensitive feature; name one with --sensitive."
        )
    return features


def _say_code(run: Run, architecture: zoo.Architecture) -> None:
    if architecture.library == code.LIBRARY:
        run.reporter.say(f"running the code of {architecture.entry} ({code.source_file(architecture.entry)})")


def processes() -> int:
    """Return the world size: how many processes `accelerate launch` or `torchrun` started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _helps() -> bool:
    """Whether this process is not rank 0, the one that writes the entry."""
    return processes() > 1 and int(os.environ.get("RANK", "0")) > 0


def _together(
    run: Run, derivation: Derivation[CheckpointFacts], build: Callable[[Path], CheckpointFacts]
) -> Entry[CheckpointFacts]:
    """Join the training of rank 0, which holds the lock, and return the entry that it publishes."""
    found = run.workspace.find(derivation)
    if found is not None:
        return found
    with tempfile.TemporaryDirectory() as nowhere:
        build(Path(nowhere))
    return run.produce(derivation, _never_built, "waiting for rank 0")


def _never_built(_out: Path) -> CheckpointFacts:
    raise DataError("rank 0 did not finish its training; see its own message. Start all processes again.")


def labelled(run: Run, store: Prepared, split: str, by: Sequence[str]) -> LabelledImages:
    """Return the images of a split with labels and groups.

    Raises
    ------
    DataError
        The training split has one class only.
    """
    samples = read(run)
    frame, rows = store.readable(samples.split(split))
    targets = samples.targets(frame)
    if split == "train":
        _require_variety(samples, targets)
    names = tuple(sorted(set(group_labels(samples.frame, by).tolist())))
    index = {name: number for number, name in enumerate(names)}
    groups = np.array([index[name] for name in group_labels(frame, by).tolist()], dtype=np.int64)
    return LabelledImages(store.images, rows, targets, groups, names)


def _require_variety(samples: Samples, targets: NDArray[np.int64]) -> None:
    columns = targets.reshape(len(targets), -1).T
    constant = [index for index, column in enumerate(columns) if len(np.unique(column)) < 2]
    if constant and samples.attributes:
        names = ", ".join(samples.classes[index] for index in constant)
        raise DataError(f"the training split holds one value only of {names}; leave it out of --label.")
    if constant:
        raise DataError("the training split holds one class only; a classifier needs images of at least two.")


def _weights_identity(architecture: zoo.Architecture, weights: str) -> str | dict[str, str]:
    """A file is identified by its content, so that moving it makes no difference."""
    if weights == zoo.OWN and architecture.folder is not None:
        return {file.name: file_digest(file) for file in huggingface.weight_files(architecture.folder)}
    if weights in {"none", "imagenet"} or not Path(weights).is_file():
        return weights
    return file_digest(Path(weights))
