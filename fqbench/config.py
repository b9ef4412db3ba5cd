"""What a user may ask for: options as frozen pydantic models, merged from flags, a YAML file and defaults."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fqbench.errors import InputError, did_you_mean

Interpolation = Literal["bilinear", "bicubic", "lanczos", "nearest"]
DEFAULT_FILE = Path("fqbench.yaml")


class Section(BaseModel):
    """Base of all options: immutable, and a misspelt name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Preprocessing(Section):
    """From a decoded RGB picture to the tensor a model takes: resize, centre crop, divide by 255, normalize.

    Attributes
    ----------
    size : int
        Height and width of the model's input, pixels.
    crop : float
        Share of the resized picture that the centre crop keeps, in (0, 1]; 1 squashes nothing and crops nothing
        but the longer side.
    mean, std : tuple of 3 float
        Per channel (RGB), in units of value / 255.
    interpolation : str
        Antialiased filter of the resize.
    """

    size: int = Field(64, ge=8, le=4096)
    crop: float = Field(1.0, gt=0, le=1)
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    interpolation: Interpolation = "bilinear"


class DataOptions(Section):
    """Which data set, and how it is read."""

    name: str = Field(
        "synthfaces",
        description="Data set: synthfaces (drawn here), celeba, utkface, fairface, or folder (your own images).",
    )
    root: Path | None = Field(None, description="Folder of the data set; for folder, the one with metadata.csv.")
    label: str | None = Field(
        None,
        description="Column of the label (default: label; celeba: Smiling; utkface, fairface: gender).",
    )
    sensitive: tuple[str, ...] | None = Field(
        None,
        description="Sensitive features, comma-separated (default: all columns with few values; celeba: Male,Young; "
        "utkface: race,age; fairface: race).",
    )
    age_groups: tuple[int, ...] | None = Field(
        None, description="utkface: lowest age of each age group, comma-separated (default: 0,20,40,60)."
    )
    padding: Literal["0.25", "1.25"] | None = Field(
        None, description="fairface: 0.25 or 1.25, where the pictures of both paddings are there."
    )
    images: int = Field(8000, ge=1, description="synthfaces: how many images to draw.")
    size: int = Field(64, ge=32, le=512, description="synthfaces: their height and width in pixels.")
    imbalance: float = Field(
        1.0, ge=0, le=4, description="synthfaces: 0 draws groups of equal size, 1 sizes as in real collections."
    )
    seed: int = Field(0, ge=0, description="Seed of the drawing, and of a split that the data do not bring.")


class ModelOptions(Section):
    """Which classifier: a timm or torchvision name to train, or the user's own ONNX file."""

    name: str = Field("resnet10t", description="Classifier to train: any name of timm or torchvision.")
    weights: str = Field("none", description="Weights to start from: none, imagenet, or a .safetensors or .pth file.")
    onnx: Path | None = Field(None, description="Your own ONNX classifier, in place of training one.")


class PreprocessingOptions(Section):
    """What the user says about preprocessing; what is left out comes from the model's own configuration."""

    size: int | None = Field(None, ge=8, le=4096, description="Height and width of the model's input in pixels.")
    crop: float | None = Field(None, gt=0, le=1, description="Share of the resized image that the centre crop keeps.")
    mean: tuple[float, float, float] | None = Field(
        None, description="Mean a channel (RGB) of values from 0 to 1, comma-separated."
    )
    std: tuple[float, float, float] | None = Field(
        None, description="Standard deviation a channel (RGB) of values from 0 to 1, comma-separated."
    )
    interpolation: Interpolation | None = Field(
        None, description="Filter of the resize: bilinear, bicubic, lanczos or nearest."
    )


class TrainOptions(Section):
    """How a classifier is trained."""

    epochs: int = Field(4, ge=1, description="Passes over the training images.")
    batch_size: int = Field(64, ge=2, description="Images a training step.")
    learning_rate: float = Field(2e-3, gt=0, description="Highest learning rate of the cosine schedule.")
    weight_decay: float = Field(0.05, ge=0, description="Weight decay of AdamW.")
    warmup: float = Field(0.1, ge=0, lt=1, description="Share of the steps in which the learning rate rises.")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Label smoothing of the cross-entropy.")
    objective: str = Field("erm", description="What training aims at: erm, or group-balanced sampling.")
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="Weights of the classes in the loss: none, or balanced (rare classes count more)."
    )
    augment: tuple[Literal["flip", "crop", "colour"], ...] = Field(
        ("flip", "crop"), description="Augmentation: flip, crop, colour, comma-separated (default: flip,crop)."
    )
    best_by: Literal["accuracy", "worst_group_accuracy", "loss", "last"] = Field(
        "accuracy",
        description="Validation figure that chooses the epoch to keep: accuracy, worst_group_accuracy, loss, or last.",
    )
    by: tuple[str, ...] | None = Field(
        None, description="Sensitive features whose groups training looks at (default: all), comma-separated."
    )
    patience: int = Field(0, ge=0, description="Stop after so many epochs without a better one (0: never).")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="Arithmetic of training: fp32 or bf16.")
    seed: int = Field(0, ge=0, description="Seed of the weights, the order and the augmentation.")


class QatOptions(Section):
    """How a trained classifier is trained on with fake quantization (``--method qat``)."""

    epochs: int = Field(2, ge=1, description="qat: passes over the training images.")
    learning_rate: float = Field(2e-4, gt=0, description="qat: highest learning rate.")
    freeze_batchnorm: float = Field(
        0.5, ge=0, le=1, description="qat: share of the epochs after which BatchNorm statistics are held."
    )
    freeze_ranges: float = Field(
        0.5, ge=0, le=1, description="qat: share of the epochs after which scales and ranges are held."
    )
    start: Path | None = Field(
        None, description="qat: weights to start from, .safetensors or .pth (default: the trained checkpoint)."
    )


class QuantizeOptions(Section):
    """For which runtime, to how many bits, calibrated on what."""

    backend: str = Field("ort", description="Runtime that will ship the model; `fqbench doctor` lists them.")
    method: Literal["none", "ptq_static", "ptq_dynamic", "qat", "mixed_precision"] = Field(
        "ptq_static", description="none (FP32), ptq_static, ptq_dynamic, qat or mixed_precision."
    )
    bits: Literal[32, 8, 4, 2] = Field(8, description="Bits of the weights: 8, 4 or 2 (32: FP32).")
    act_bits: Literal[32, 8, 4, 2] = Field(8, description="Bits of the activations.")
    range_rule: str = Field(
        "minmax",
        description="How a range comes from what was observed: minmax, mean_minmax, percentile=99.99, entropy or mse.",
    )
    weight_rule: Literal["minmax", "mse"] = Field(
        "mse", description="How the scale of a channel's weights is found: minmax or mse."
    )
    bias_correction: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Take back the mean shift of rounded weights: on, off, or auto (where it helps on the val split).",
    )
    calib: str = Field(
        "balanced", description="Sampler of the calibration images: balanced, random, stratified, minority."
    )
    calib_n: int = Field(256, ge=1, description="How many calibration images.")
    calib_by: tuple[str, ...] | None = Field(
        None, description="Sensitive features that make the groups of the sampler (default: all), comma-separated."
    )
    calib_seed: int = Field(0, ge=0, description="Seed of the sampler.")
    calib_policy: str = Field(
        "as-sampled",
        description="How much each group counts in a range: as-sampled, balanced, stratified, minimax, only=GROUP or "
        "weights=GROUP:2,... ; another policy needs no new inference.",
    )
    calib_batch: int = Field(8, ge=1, description="Images a run when observing; no range depends on it.")


class EvalOptions(Section):
    """On which images, for which groups, and with how many bootstrap replicates."""

    split: Literal["train", "val", "test"] = Field("test", description="Split to measure on: train, val or test.")
    by: tuple[str, ...] | None = Field(
        None, description="Sensitive features whose intersections are the groups (default: all), comma-separated."
    )
    intersect: bool = Field(
        True, description="Groups are intersections of the features' values; otherwise each feature on its own."
    )
    control: str | None = Field(None, description="Control feature: report within each of its values.")
    positive: str | None = Field(None, description="The class that counts as positive (default: the last one).")
    threshold: float | None = Field(
        None, gt=0, lt=1, description="Predict positive from this probability on (default: the largest logit)."
    )
    accuracy_margin: float = Field(0.01, gt=0, lt=1, description="Change of a group's accuracy that is harmless.")
    gap_margin: float = Field(0.01, gt=0, lt=1, description="Change of a gap between groups that is harmless.")
    correction: Literal["holm", "benjamini-hochberg", "none"] = Field(
        "holm", description="Correction of p-values over groups: holm, benjamini-hochberg or none."
    )
    replicates: int = Field(10_000, ge=100, description="Bootstrap replicates.")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Confidence of the intervals.")
    seed: int = Field(0, ge=0, description="Seed of the bootstrap.")
    threads: int | None = Field(None, ge=1, description="Threads for predicting (default: all cores).")
    batch_size: int = Field(32, ge=1, description="Images a call when predicting.")


class BenchOptions(Section):
    """How latency is measured."""

    batch: int = Field(1, ge=1, description="Images a call when timing.")
    threads: int = Field(1, ge=1, description="Threads of the runtime when timing.")
    device: str = Field("cpu", description="Device to run on.")
    rounds: int = Field(200, ge=5, description="Least number of interleaved rounds.")
    seconds: float = Field(3.0, ge=0, description="Least duration of the measurement.")
    seed: int = Field(0, ge=0, description="Seed of the order within the rounds.")


class BuildOptions(Section):
    """How an engine is built from an artifact, for runtimes that compile for the GPU at hand."""

    max_batch: int = Field(32, ge=1, description="build: largest batch that the engine takes.")
    opt_batch: int | None = Field(None, ge=1, description="build: the batch to be fastest at (default: the largest).")
    tf32: bool = Field(True, description="build: let float operators multiply in TF32, as TensorRT does by default.")
    workspace: int | None = Field(None, ge=1, description="build: most MiB of scratch memory (default: no limit).")
    implicit: Literal["none", "record", "entropy", "minmax", "percentile"] = Field(
        "none",
        description="build: quantize without Q/DQ nodes (TensorRT 10), by the artifact's ranges or a calibrator.",
    )


class Config(Section):
    """Everything that determines an experiment; the defaults make a whole small one on synthfaces."""

    data: DataOptions = DataOptions()
    model: ModelOptions = ModelOptions()
    preprocessing: PreprocessingOptions = PreprocessingOptions()
    train: TrainOptions = TrainOptions()
    qat: QatOptions = QatOptions()
    quantize: QuantizeOptions = QuantizeOptions()
    eval: EvalOptions = EvalOptions()
    bench: BenchOptions = BenchOptions()
    build: BuildOptions = BuildOptions()


# One flat name a flag, for the command line and for `configure`; the sections above say what each means.
FLAGS: Mapping[str, tuple[str, str]] = {
    "data": ("data", "name"),
    "root": ("data", "root"),
    "label": ("data", "label"),
    "sensitive": ("data", "sensitive"),
    "age_groups": ("data", "age_groups"),
    "padding": ("data", "padding"),
    "images": ("data", "images"),
    "image_size": ("data", "size"),
    "imbalance": ("data", "imbalance"),
    "data_seed": ("data", "seed"),
    "model": ("model", "name"),
    "weights": ("model", "weights"),
    "onnx": ("model", "onnx"),
    "size": ("preprocessing", "size"),
    "crop": ("preprocessing", "crop"),
    "mean": ("preprocessing", "mean"),
    "std": ("preprocessing", "std"),
    "interpolation": ("preprocessing", "interpolation"),
    "epochs": ("train", "epochs"),
    "batch_size": ("train", "batch_size"),
    "learning_rate": ("train", "learning_rate"),
    "weight_decay": ("train", "weight_decay"),
    "warmup": ("train", "warmup"),
    "label_smoothing": ("train", "label_smoothing"),
    "objective": ("train", "objective"),
    "class_weights": ("train", "class_weights"),
    "augment": ("train", "augment"),
    "best_by": ("train", "best_by"),
    "train_by": ("train", "by"),
    "patience": ("train", "patience"),
    "precision": ("train", "precision"),
    "train_seed": ("train", "seed"),
    "qat_epochs": ("qat", "epochs"),
    "qat_learning_rate": ("qat", "learning_rate"),
    "qat_freeze_batchnorm": ("qat", "freeze_batchnorm"),
    "qat_freeze_ranges": ("qat", "freeze_ranges"),
    "qat_start": ("qat", "start"),
    "backend": ("quantize", "backend"),
    "method": ("quantize", "method"),
    "bits": ("quantize", "bits"),
    "act_bits": ("quantize", "act_bits"),
    "range_rule": ("quantize", "range_rule"),
    "calib": ("quantize", "calib"),
    "calib_n": ("quantize", "calib_n"),
    "calib_by": ("quantize", "calib_by"),
    "calib_seed": ("quantize", "calib_seed"),
    "calib_policy": ("quantize", "calib_policy"),
    "weight_rule": ("quantize", "weight_rule"),
    "bias_correction": ("quantize", "bias_correction"),
    "split": ("eval", "split"),
    "by": ("eval", "by"),
    "intersect": ("eval", "intersect"),
    "control": ("eval", "control"),
    "positive": ("eval", "positive"),
    "threshold": ("eval", "threshold"),
    "accuracy_margin": ("eval", "accuracy_margin"),
    "gap_margin": ("eval", "gap_margin"),
    "correction": ("eval", "correction"),
    "replicates": ("eval", "replicates"),
    "confidence": ("eval", "confidence"),
    "batch": ("bench", "batch"),
    "threads": ("bench", "threads"),
    "device": ("bench", "device"),
    "rounds": ("bench", "rounds"),
    "seconds": ("bench", "seconds"),
    "max_batch": ("build", "max_batch"),
    "opt_batch": ("build", "opt_batch"),
    "tf32": ("build", "tf32"),
    "workspace_mib": ("build", "workspace"),
    "implicit": ("build", "implicit"),
}

# Flags that take several values, comma-separated.
LISTS = frozenset({"sensitive", "age_groups", "mean", "std", "augment", "train_by", "calib_by", "by"})


def configure(file: Path | None = None, **flags: Any) -> Config:
    """Merge flags over a YAML file over the defaults.

    Parameters
    ----------
    file : Path, optional
        YAML with the sections of `Config`; ``./fqbench.yaml`` if it exists and none is given.
    **flags
        Flat names as on the command line (``backend="ort"``, ``calib_n=256``); None means "not given".

    Raises
    ------
    InputError
        A file that is missing or no YAML, an unknown name, or a value out of its range.
    """
    if file is None and DEFAULT_FILE.is_file():
        file = DEFAULT_FILE
    values = _read(file) if file is not None else {}
    for flag, value in flags.items():
        if value is None:
            continue
        if flag not in FLAGS:
            raise InputError(f"unknown option {flag!r}: {did_you_mean(flag, FLAGS)}")
        section, field = FLAGS[flag]
        values.setdefault(section, {})[field] = _parted(value) if flag in LISTS else value
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise InputError(_first_problem(error, file, flags)) from error


def vary(config: Config, section: str, **options: Any) -> Config:
    """Return the configuration with other options in one section, validated like any configuration.

    What was not said stays unsaid: ``model_fields_set`` of every section survives.

    Parameters
    ----------
    config : Config
        Not changed.
    section : str
        Name of a section: ``"quantize"``.
    **options
        Names as in the YAML file: ``bits=4, calib_n=64``.

    Raises
    ------
    InputError
        An unknown section or option, or a value out of its range; the message names the flag.
    """
    values = config.model_dump(exclude_unset=True)
    values[section] = {**values.get(section, {}), **options}
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise InputError(_first_problem(error, None, options)) from error


def whole_numbers(flag: str, text: str) -> tuple[int, ...]:
    """Read ``"0,1,2"``; an empty text is no number.

    Raises
    ------
    InputError
        A part is no whole number from 0 on, or occurs twice.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdecimal() for part in parts) or len(set(parts)) != len(parts):
        raise InputError(f"{flag} takes different whole numbers, comma-separated, as in 0,1,2; not {text!r}.")
    return tuple(int(part) for part in parts)


def _parted(value: Any) -> Any:
    """Split ``"a, b"`` at its commas; anything else is a list already."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else tuple(value)


def read_yaml(file: Path, what: str, flag: str) -> Any:
    """Read a YAML file that the user named with ``flag``; ``what`` names it in errors.

    Raises
    ------
    InputError
        It cannot be read, or is no YAML.
    """
    import yaml

    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{what} {file} cannot be read ({error.strerror}); check {flag}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{what} {file} is not YAML ({str(error).splitlines()[0]}); mend the file.") from error


def _read(file: Path) -> dict[str, Any]:
    values = read_yaml(file, "the configuration", "--config")
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(v, dict) for v in values.values()):
        sections = ", ".join(Config.model_fields)
        raise InputError(f"the configuration {file} must hold sections of options; the sections are: {sections}.")
    return values


def _first_problem(error: ValidationError, file: Path | None, flags: Mapping[str, Any]) -> str:
    problem = error.errors()[0]
    path = [str(part) for part in problem["loc"]]
    names = {f"{section}.{field}": flag for flag, (section, field) in FLAGS.items()}
    dotted = ".".join(path[:2])
    flag = "--" + names[dotted].replace("_", "-") if dotted in names else dotted
    given_as_flag = flags.get(names.get(dotted, "")) is not None
    origin = f" in {file}" if file is not None and not given_as_flag else ""
    if problem["type"] == "extra_forbidden":
        section = Config.model_fields.get(path[0])
        known = section.annotation.model_fields if len(path) > 1 and section is not None else Config.model_fields  # type: ignore[union-attr]
        return f"unknown option {dotted!r}{origin}: {did_you_mean(path[-1], known)}"
    return f"{flag}{origin}: {problem['msg']}, not {problem['input']!r}; see --help for its values."
