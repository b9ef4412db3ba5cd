"""All kinds of entries: the version of the stage that writes each, and the type of what it found out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from fqbench.config import Preprocessing
from fqbench.errors import InputError, did_you_mean
from fqbench.workspace.entries import Facts, Kind
from fqbench.workspace.untyped import Untyped


class DatasetFacts(Facts):
    """Pictures that were drawn; ``notice`` is what has to be said of them."""

    notice: str


class ProblemFacts(Facts):
    """A fault of a data set: what, how often, and the first rows or files."""

    what: str
    count: int
    first: tuple[str, ...]


class SamplesFacts(Facts):
    """A table of samples: where its pictures are, its classes and sensitive features, and what is wrong with it."""

    name: str
    root: str
    classes: tuple[str, ...]
    sensitive_features: tuple[str, ...]
    notice: str
    problems: tuple[ProblemFacts, ...]
    images: int
    image_column: str
    digest: str


class PreparedFacts(Facts):
    """A store of decoded pictures: how many could be decoded, how many not, and the first of these."""

    images: int
    unreadable: int
    unreadable_first: tuple[str, ...]


class EpochFacts(Facts):
    """One line of a training log."""

    epoch: int
    learning_rate: float
    train_loss: float
    val_loss: float
    val_accuracy: float
    worst_group_accuracy: float
    worst_group: str


class TrainingFacts(Facts):
    """What a training loop did, whatever was trained."""

    model: str
    seed: int
    epochs: tuple[EpochFacts, ...]
    best_epoch: int
    val_accuracy: float
    worst_group_accuracy: float
    worst_group: str
    stopped_early: bool
    device: str
    processes: int
    precision: Literal["fp32", "bf16"]
    precision_reason: str


class TakenFacts(Facts):
    """Weights of a file that were used as they are: how many, what was taken off their names, and what was left."""

    tensors: int
    wrapper: str
    prefix: str
    left: tuple[str, ...]


class CheckpointFacts(Facts):
    """A trained classifier: trained here, or taken from a file as it is; ``architecture`` is the zoo's reference."""

    model: str
    architecture: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    training: TrainingFacts | None = None
    threads: int | None = None
    taken: TakenFacts | None = None


class ModelFacts(Facts):
    """An FP32 ONNX file: of what, and, where it was exported here, how closely it agrees with torch."""

    model: str
    architecture: str = ""
    opset: int
    head: str
    files: tuple[str, ...]
    parity_max_abs: float | None = None
    parity_images: int | None = None
    adopted_from: str | None = None


class CalibrationFacts(Facts):
    """Which images were chosen: images of each group, and how many of them occur twice."""

    sampler: str
    by: tuple[str, ...]
    groups: dict[str, int]
    repeats: dict[str, int]
    population: dict[str, int]


class RecordFacts(Facts):
    """What was observed: images, of which groups, and how many tensors."""

    images: int
    groups: dict[str, int]
    tensors: int
    sampler: str
    batch_size: int


class EvaluationFacts(Facts):
    """Which artifacts were evaluated on what; an evaluation may have several views."""

    artifacts: tuple[str, ...]
    views: int
    notice: str


class ReplicationFacts(Facts):
    """What was replicated, over how many seeds and draws."""

    label: str
    seeds: tuple[int, ...]
    draws: tuple[int, ...]


class GateFacts(Facts):
    """Whether a gate was passed, and of how many checks."""

    artifacts: tuple[str, ...]
    passed: bool
    checks: int


DATASETS = Kind("datasets", 2, DatasetFacts)  # 2: synthfaces have a test split of their own
SAMPLES = Kind("samples", 3, SamplesFacts)  # 3: classes with fractions are sorted by value; 2: problems are kept
PREPARED = Kind("prepared", 2, PreparedFacts)  # 2: decoded by libjpeg-turbo, resized by OpenCV
CHECKPOINTS = Kind("checkpoints", 4, CheckpointFacts)  # 3: augmented before normalized; 4: may be taken as it is
MODELS = Kind("models", 0, Untyped)
CALIBRATIONS = Kind("calibrations", 2, CalibrationFacts)
RECORDS = Kind("records", 3, RecordFacts)
ARTIFACTS = Kind("artifacts", 0, Untyped)
PREDICTIONS = Kind("predictions", 0, Untyped)
BENCHES = Kind("benches", 0, Untyped)
EVALUATIONS = Kind("evaluations", 5, EvaluationFacts)  # 4: groups without images are shown; 5: can be read back
REPLICATIONS = Kind("replications", 1, ReplicationFacts)
GATES = Kind("gates", 1, GateFacts)

# In the order in which they are made and listed.
KINDS: tuple[Kind[Any], ...] = (
    DATASETS,
    SAMPLES,
    PREPARED,
    CHECKPOINTS,
    MODELS,
    CALIBRATIONS,
    RECORDS,
    ARTIFACTS,
    PREDICTIONS,
    EVALUATIONS,
    BENCHES,
    REPLICATIONS,
    GATES,
)
# What `fqbench gc` keeps, with everything that it was made of.
RESULTS = frozenset(
    {"artifacts", "engines", "decisions", "predictions", "evaluations", "benches", "replications", "gates"}
)
BY_NAME: Mapping[str, Kind[Any]] = {kind.name: kind for kind in KINDS}


def kind_named(name: str) -> Kind[Any]:
    """Return the kind with a name.

    Raises
    ------
    InputError
        There is no such kind.
    """
    if name not in BY_NAME:
        raise InputError(f"unknown kind {name!r}: {did_you_mean(name, BY_NAME)}")
    return BY_NAME[name]
