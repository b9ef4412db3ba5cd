"""All kinds of entries: the version of the stage that writes each, and the type of its facts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from fqbench.config import Preprocessing
from fqbench.contracts.runtime import Arithmetic, Level
from fqbench.contracts.scheme import Scheme
from fqbench.contracts.task import PredictionTask
from fqbench.errors import InputError, did_you_mean
from fqbench.machine import IntegerSums, Machine
from fqbench.workspace.entries import Facts, Kind


class DatasetFacts(Facts):
    """Drawn pictures; ``notice`` is stated in every report."""

    notice: str


class ProblemFacts(Facts):
    """A fault of a data set: what, how often, and the first rows or files."""

    what: str
    count: int
    first: tuple[str, ...]


class AttributeFacts(Facts):
    """One of several attributes of a data set: its name, and the names of "no" and "yes"."""

    name: str
    classes: tuple[str, str]


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
    attributes: tuple[AttributeFacts, ...] = ()


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
    """The facts of a training loop."""

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
    objective: dict[str, dict[str, float]] = Field(default_factory=dict)


class TakenFacts(Facts):
    """Weights of a file used as they are: how many, the prefix removed from their names, and the unused ones."""

    tensors: int
    wrapper: str
    prefix: str
    left: tuple[str, ...]


class CheckpointFacts(Facts):
    """A trained classifier: trained here, or taken from a file as it is; ``architecture`` is the zoo's reference."""

    model: str
    architecture: str
    classes: tuple[str, ...]
    task: PredictionTask = PredictionTask.CLASSES
    preprocessing: Preprocessing
    training: TrainingFacts | None = None
    threads: int | None = None
    taken: TakenFacts | None = None


class AdoptionFacts(Facts):
    """What was found in a user's ONNX file: opset, input, head, batch, and what the parity was measured on."""

    opset: int
    input: str
    stated_in: tuple[str, ...]
    head: str
    batch: str
    absorbed_operators: int
    parity_of: str


class ModelFacts(Facts):
    """An FP32 ONNX file: its source, preprocessing and parity with the source."""

    model: str
    architecture: str = ""
    classes: tuple[str, ...]
    task: PredictionTask = PredictionTask.CLASSES
    preprocessing: Preprocessing
    opset: int
    head: str
    files: tuple[str, ...]
    batch: int | None = None
    parity_max_abs: float | None = None
    parity_images: int | None = None
    adopted_from: str | None = None
    adoption: AdoptionFacts | None = None


class QatModelFacts(ModelFacts):
    """A model that was trained with fake quantization, and the number of learned scales."""

    training: TrainingFacts
    signed: bool
    learned_activations: int
    learned_weights: int


class CalibrationFacts(Facts):
    """Which images were chosen: images of each group, and how many of them occur twice."""

    sampler: str
    by: tuple[str, ...]
    groups: dict[str, int]
    repeats: dict[str, int]
    population: dict[str, int]


class RecordFacts(Facts):
    """A calibration record: images, groups and number of tensors."""

    images: int
    groups: dict[str, int]
    tensors: int
    sampler: str
    batch_size: int


class ImportanceFacts(Facts):
    """Which layers were measured, and on how many images of each group."""

    layers: tuple[str, ...]
    images: dict[str, int]


class AgreementFacts(Facts):
    """How closely an artifact agrees with the network trained with fake quantization, on validation images."""

    images: int
    identical_labels: float
    largest_difference: float
    largest_logit: float


class ArtifactFacts(Facts):
    """An artifact: backend, scheme and model; ``details`` are the backend's own."""

    backend: str
    scheme: Scheme
    files: tuple[str, ...]
    sampler: str
    support: Level
    model_digest: str
    task: PredictionTask = PredictionTask.CLASSES
    batch: int | None = None
    groups: dict[str, int]
    choice: dict[str, Any]
    details: dict[str, Any]
    agreement: AgreementFacts | None = None


class PlacementFacts(Facts):
    """Placements of a scheme that were measured and of which none was kept: why, each with its time and answers."""

    backend: str
    scheme: Scheme
    why: str
    tried: tuple[dict[str, Any], ...]
    measured_on: dict[str, Any]
    repeat: int


class EngineFacts(ArtifactFacts):
    """An artifact compiled for a device, and what the compiled form depends on."""

    built_for: dict[str, Any]


class DecisionFacts(Facts):
    """A decision rule that was fitted on an artifact's own validation predictions."""

    rule: dict[str, Any]
    constraint: str | None
    fitted_on: str


class PredictionFacts(Facts):
    """Predictions: of which artifact, executed how, with which integer sums; ``where``: measured on another machine."""

    artifact: str
    level: Level
    images: int
    machine: Machine
    arithmetic: Arithmetic
    integer_sums: IntegerSums = IntegerSums.UNKNOWN
    where: str = ""
    versions_there: dict[str, str] = Field(default_factory=dict)
    built_for: dict[str, Any] = Field(default_factory=dict)


class BenchFacts(Facts):
    """A latency measurement: its artifacts, and its number among measurements of the same artifacts."""

    artifacts: tuple[str, ...]
    repeat: int
    where: str = ""


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
    """Whether a gate was passed, and the number of checks."""

    artifacts: tuple[str, ...]
    passed: bool
    checks: int


class DiagnosisFacts(Facts):
    """Which scheme was diagnosed, on how many images of which groups, layer by layer."""

    artifact: str
    label: str
    layers: int
    passes: int
    images: dict[str, int]


class CellFacts(Facts):
    """A cell of a study: its id and name, and the entries that its figures were taken from, by role."""

    cell: str
    name: str
    part: Literal["answers", "latency"]
    coordinates: dict[str, Any]
    sources: dict[str, str]
    rows: int


class StudyFacts(Facts):
    """A study's table: how many cells and rows it holds, and the reasons of those cells that failed."""

    study: str
    cells: int
    rows: int
    failed: dict[str, str]


class SearchFacts(Facts):
    """What a search chose, after how many trials, what the test split said of it, and how often it was looked at."""

    chosen: str
    passed: bool
    trials: int
    looks: int
    gate: str


DATASETS = Kind("datasets", 2, DatasetFacts)  # 2: synthfaces have a test split of their own
SAMPLES = Kind("samples", 4, SamplesFacts)  # 4: no copies of the label among the features; 3: fractions are sorted
PREPARED = Kind("prepared", 2, PreparedFacts)  # 2: decoded by libjpeg-turbo, resized by OpenCV
CHECKPOINTS = Kind("checkpoints", 5, CheckpointFacts)  # 4: may be taken as it is; 5: large first classifiers shrunk
MODELS = Kind("models", 3, ModelFacts)  # 2: nodes are named after modules; 3: facts are typed
QAT_MODELS = Kind("qat_models", 1, QatModelFacts)
CALIBRATIONS = Kind("calibrations", 2, CalibrationFacts)
RECORDS = Kind("records", 5, RecordFacts)  # 5: keys of attention are observed; 4: moments of small maps
IMPORTANCES = Kind("importances", 1, ImportanceFacts)
ARTIFACTS = Kind("artifacts", 7, ArtifactFacts)  # 7: symmetric levels by backend; 6: hard-swish is one operator
PLACEMENTS = Kind("placements", 1, PlacementFacts)
ENGINES = Kind("engines", 1, EngineFacts)
DECISIONS = Kind("decisions", 1, DecisionFacts)
PREDICTIONS = Kind("predictions", 1, PredictionFacts)
BENCHES = Kind("benches", 3, BenchFacts)
EVALUATIONS = Kind("evaluations", 6, EvaluationFacts)  # 5: can be read back; 6: paired scores, wider gap intervals
REPLICATIONS = Kind("replications", 1, ReplicationFacts)
GATES = Kind("gates", 1, GateFacts)
DIAGNOSES = Kind("diagnoses", 1, DiagnosisFacts)
SEARCHES = Kind("searches", 2, SearchFacts)
CELLS = Kind("cells", 1, CellFacts)
STUDIES = Kind("studies", 1, StudyFacts)

# In the order in which they are made and listed.
KINDS: tuple[Kind[Any], ...] = (
    DATASETS,
    SAMPLES,
    PREPARED,
    CHECKPOINTS,
    MODELS,
    QAT_MODELS,
    CALIBRATIONS,
    RECORDS,
    IMPORTANCES,
    ARTIFACTS,
    PLACEMENTS,
    ENGINES,
    DECISIONS,
    PREDICTIONS,
    EVALUATIONS,
    BENCHES,
    REPLICATIONS,
    GATES,
    DIAGNOSES,
    SEARCHES,
    CELLS,
    STUDIES,
)
# What can be executed, and so be named where an artifact is asked for.
EXECUTABLE: tuple[Kind[Any], ...] = (ARTIFACTS, ENGINES, DECISIONS)
# What `fqbench gc` keeps, with everything that it was made of.
RESULTS = frozenset(
    kind.name
    for kind in (
        *(*EXECUTABLE, PREDICTIONS, EVALUATIONS, BENCHES, REPLICATIONS, GATES, DIAGNOSES, SEARCHES),
        *(PLACEMENTS, CELLS, STUDIES),
    )
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
