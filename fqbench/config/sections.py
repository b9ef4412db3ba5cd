"""The options themselves, section by section; `Flag` marks a field whose flag has another name than the field."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from fqbench.config.columns import Columns
from fqbench.config.flags import SEEDS, Flag, comma_separated, keywords, several
from fqbench.config.images import PerChannel, Size

Interpolation = Literal["bilinear", "bicubic", "lanczos", "nearest"]
Fit = Literal["crop", "squash"]
Several = Annotated[tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(several)]


class Section(BaseModel):
    """Base of all options: immutable, and a misspelt name is an error, as is a truth value in place of a number."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_truth(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields[str(info.field_name)]
        if isinstance(value, bool) and field.annotation is not bool:
            raise PydanticCustomError("truth_value", "Input should be a number or a name")
        return value

    @field_validator("*")
    @classmethod
    def _find_home(cls, value: Any) -> Any:
        return value.expanduser() if isinstance(value, Path) else value  # no shell has seen what a file says


class Preprocessing(Section):
    """From a decoded RGB picture to the tensor a model takes: resize, centre crop, divide by 255, normalize.

    Attributes
    ----------
    size : tuple of int
        Height and width of the model's input, pixels; given as one number where they are equal, or as in ``48x192``.
    fit : str
        ``crop`` keeps the proportions and crops the centre; ``squash`` resizes to the size whatever the proportions.
    crop : float
        Share of the resized picture that the centre crop keeps, in (0, 1]; 1 squashes nothing and crops nothing
        but the longer side.
    mean, std : tuple of 3 float
        Per channel (RGB), in units of value / 255.
    interpolation : str
        Antialiased filter of the resize.
    """

    size: Size = (64, 64)
    fit: Fit = "crop"
    crop: float = Field(1.0, gt=0, le=1)
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    interpolation: Interpolation = "bilinear"


class DataOptions(Section):
    """Which data set, and how it is read."""

    name: Annotated[str, Flag("data")] = Field(
        "synthfaces",
        description="Data set: synthfaces (drawn by fqbench), celeba, utkface, fairface; or your own: folder "
        "(metadata.csv), imagefolder (a folder per class), table (--table FILE --images DIR), hf (Hugging Face's, "
        "on disk).",
    )
    root: Path | None = Field(
        None, description="Directory of the data set; for folder, the one that contains metadata.csv."
    )
    table: Path | None = Field(
        None, description="CSV, TSV or Parquet file: labels and features (table), or features only (imagefolder)."
    )
    image_column: str | None = Field(
        None, description="Column that names the images or, for hf, that contains them (default: the usual names)."
    )
    split_column: str | None = Field(None, description="table, hf: column of the split (default: split, if present).")
    label: Annotated[str | None, BeforeValidator(comma_separated), Flag("label", "NAME[,NAME,...]")] = Field(
        None,
        description="Label column (default: label; celeba: Smiling; utkface, fairface: gender). Several columns of two "
        "values each are attributes, which one model predicts at once.",
    )
    label_threshold: float | None = Field(
        None, description="folder, table, hf: make two classes of a numeric label, below this value and from it on."
    )
    sensitive: tuple[str, ...] | None = Field(
        None,
        description="Sensitive features (default: all columns with few distinct values; celeba: Male,Young; "
        "utkface: race,age; fairface: race).",
    )
    age_groups: tuple[int, ...] | None = Field(
        None, description="utkface: lowest age of each age group (default: 0,20,40,60)."
    )
    padding: Literal["0.25", "1.25"] | None = Field(
        None, description="fairface: image padding, needed where both versions are present."
    )
    images: Annotated[Annotated[int, Field(ge=1)] | Path, Flag("images", "N|DIR")] = Field(
        6400,
        union_mode="left_to_right",
        description="synthfaces: number of images for training and validation; table: directory of the images.",
    )
    test_images: int | None = Field(
        None, ge=1, description="synthfaces: number of test images (default: 2.5 times --images)."
    )
    size: Annotated[int, Flag("image_size")] = Field(
        64, ge=32, le=512, description="synthfaces: image height and width in pixels."
    )
    imbalance: float = Field(
        1.0, ge=0, le=4, description="synthfaces: group sizes; 0 for equal, 1 for as unequal as in real collections."
    )
    test_imbalance: float = Field(
        0.0, ge=0, le=4, description="synthfaces: group sizes in the test split, as for --imbalance."
    )
    seed: Annotated[int, Flag("data_seed")] = Field(
        0, ge=0, lt=SEEDS, description="Random seed for synthfaces, and for splitting data that come without splits."
    )


class ModelOptions(Section):
    """Which classifier: a timm or torchvision name to train, or the user's own ONNX file."""

    name: Annotated[str, Flag("model")] = Field(
        "resnet10t",
        description="Classifier: any timm or torchvision model, hf:DIR_OR_NAME (Hugging Face), a .pt2 file of "
        "torch.export, or your own torch code as package.module:function, which is run.",
    )
    args: Annotated[dict[str, Any] | None, BeforeValidator(keywords), Flag("model_args", "JSON|K=V,...")] = Field(
        None, description="Arguments of your own model's function: JSON, or width=16,depth=2."
    )
    weights: str = Field(
        "none",
        description="Initial weights: none, imagenet, or a .safetensors, .pth, .pt, .ckpt or .bin file; with "
        "--epochs 0 they are used as they are.",
    )
    onnx: Path | None = Field(None, description="Your own classifier as an ONNX file; nothing is trained.")
    layout: Literal["nchw", "nhwc"] | None = Field(None, description="onnx: axis order of the input (default: nchw).")
    channels: Literal["rgb", "bgr", "gray"] | None = Field(
        None, description="onnx: channels of the input (default: rgb)."
    )
    scale_pixels: Literal[1, 255] | None = Field(
        None, description="onnx: largest pixel value before --mean and --std are applied (default: 1)."
    )
    output: str | None = Field(None, description="onnx: name of the output to use, if there are several.")
    column: Annotated[Columns, Flag("column", "NAME=N,...|FILE")] = Field(
        None,
        description="onnx: number of the output (from 0) that predicts each attribute, as in Smiling=31,Young=39, or a "
        "file with the names of all outputs in order. Without --label, these are the labels.",
    )
    class_map: Path | None = Field(
        None, description="onnx: YAML file that maps each class of the data to the model's classes (name or number)."
    )


class PreprocessingOptions(Section):
    """Preprocessing that the user states; missing values come from the model's own configuration."""

    size: Annotated[Size | None, Flag("size", "N|HxW")] = Field(
        None, description="Size of the model's input in pixels; height first, as in 48x192, if it is not square."
    )
    fit: Fit | None = Field(
        None, description="How images are brought to that size; squash ignores their proportions (default: crop)."
    )
    crop: float | None = Field(None, gt=0, le=1, description="Fraction of the resized image kept by the centre crop.")
    mean: Annotated[PerChannel, Flag("mean", "A,B,C|none")] = Field(
        None,
        description="Mean per channel of pixel values scaled to 0-1 (onnx: see --scale-pixels, --channels); none: the "
        "graph normalizes by itself.",
    )
    std: Annotated[PerChannel, Flag("std", "A,B,C")] = Field(
        None, description="Standard deviation per channel, likewise."
    )
    interpolation: Interpolation | None = Field(None, description="Resize filter.")

    def stated(self) -> dict[str, Any]:
        """Return the stated values as fields of `Preprocessing`; a mean of ``none`` becomes 0 with a std of 1."""
        said = {key: getattr(self, key) for key in type(self).model_fields if getattr(self, key) is not None}
        if said.get("mean") == "none":
            said = {"std": "none"} | said | {"mean": (0.0, 0.0, 0.0)}
        if said.get("std") == "none":
            said["std"] = (1.0, 1.0, 1.0)
        return said


class TrainOptions(Section):
    """How a classifier is trained."""

    epochs: int = Field(
        4, ge=0, description="Training epochs; 0 takes trained weights (--weights FILE, hf:DIR) as they are."
    )
    batch_size: int = Field(64, ge=2, description="Training batch size.")
    learning_rate: float = Field(2e-3, gt=0, description="Peak learning rate of the cosine schedule.")
    weight_decay: float = Field(0.05, ge=0, description="Weight decay (AdamW).")
    warmup: float = Field(0.1, ge=0, lt=1, description="Fraction of the steps used for learning-rate warm-up.")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Label smoothing.")
    objective: str = Field(
        "erm",
        description="Training objective: erm (plain cross-entropy), or parts joined with +: group-balanced, group-dro "
        "or worst-group, demographic-parity or equalized-odds.",
    )
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="Class weights in the loss; balanced gives rare classes more weight."
    )
    augment: tuple[Literal["flip", "crop", "colour"], ...] = Field(("flip", "crop"), description="Data augmentation.")
    best_by: Literal["accuracy", "worst_group_accuracy", "loss", "last"] = Field(
        "accuracy", description="Validation metric that selects the epoch to keep."
    )
    by: Annotated[tuple[str, ...] | None, Flag("train_by")] = Field(
        None, description="Sensitive features that define the groups in training (default: all)."
    )
    patience: int = Field(
        0, ge=0, description="Early stopping: epochs without improvement before training stops; 0 disables it."
    )
    precision: Annotated[Literal["auto", "fp32", "bf16"], Flag("train_precision")] = Field(
        "auto", description="Floating-point precision of training; auto takes the faster one for this CPU and model."
    )
    seed: Annotated[int, Flag("train_seed")] = Field(
        0, ge=0, lt=SEEDS, description="Random seed for weights, data order and augmentation."
    )


class ObjectiveOptions(Section):
    """Options of the parts of an objective, of training and of QAT alike."""

    penalty_weight: float = Field(
        1.0, gt=0, description="Weight of demographic-parity or equalized-odds; with --penalty-limit, its first value."
    )
    penalty_limit: float | None = Field(
        None,
        gt=0,
        description="Keep each group's rates within this share of the overall rate: a weight per group then grows "
        "while it is exceeded and shrinks otherwise.",
    )
    penalty_memory: float = Field(
        0.9,
        ge=0,
        lt=1,
        description="How much of the rates of earlier batches counts in the next one; 0 uses each alone.",
    )
    group_step: float = Field(0.01, gt=0, description="group-dro: step size of the group weights.")
    worst_share: float = Field(
        0.5, gt=0, le=1, description="worst-group: share of the loss that belongs to the group with the highest loss."
    )
    distill_weight: float = Field(
        0.5, gt=0, le=1, description="distillation: share of the divergence from FP32 in the loss of an image."
    )
    distill_temperature: float = Field(
        2.0, gt=0, description="distillation: temperature by which both networks' logits are divided."
    )


class QatOptions(Section):
    """How a trained classifier is fine-tuned with fake quantization (``--method qat``)."""

    epochs: Annotated[int, Flag("qat_epochs")] = Field(2, ge=1, description="QAT epochs.")
    objective: Annotated[str | None, Flag("qat_objective")] = Field(
        None,
        description="Objective of QAT: parts as in --objective, and distillation from the FP32 model (default: "
        "--objective).",
    )
    learning_rate: Annotated[float, Flag("qat_learning_rate")] = Field(
        2e-4, gt=0, description="Peak learning rate of QAT."
    )
    freeze_batchnorm: Annotated[float, Flag("qat_freeze_batchnorm")] = Field(
        0.5, ge=0, le=1, description="Fraction of QAT after which BatchNorm statistics are frozen."
    )
    freeze_ranges: Annotated[float, Flag("qat_freeze_ranges")] = Field(
        0.5, ge=0, le=1, description="Fraction of QAT after which activation ranges are frozen."
    )
    start: Annotated[Path | None, Flag("qat_start")] = Field(
        None, description="Initial weights of QAT, .safetensors or .pth (default: the trained checkpoint)."
    )
    trainer: Annotated[str | None, Flag("qat_trainer")] = Field(
        None, description="Backend that trains (default: the target, or the one that trains for it)."
    )


class QuantizeOptions(Section):
    """Runtime, bits and calibration."""

    backend: str = Field("ort", description="Target runtime; `fqbench doctor` lists those installed.")
    method: Literal["none", "cast", "ptq_static", "ptq_dynamic", "qat"] = Field(
        "ptq_static", description="Quantization method; none keeps FP32, cast computes it in 16-bit floats."
    )
    precision: Literal["bf16", "fp16"] = Field("bf16", description="Floating-point type of --method cast.")
    bits: Literal[32, 8, 4, 2] = Field(8, description="Bits of the weights.")
    act_bits: Literal[32, 16, 8, 4, 2] = Field(8, description="Bits of the activations.")
    range_rule: str = Field(
        "auto",
        description="Calibration range rule: auto (the best on validation images), minmax, mean_minmax, "
        "percentile=99.99, entropy or mse.",
    )
    rounding: Literal["auto", "nearest", "data"] = Field(
        "auto", description="Rounding of weights below 8 bits: to nearest, from calibration data, or the better one."
    )
    keep_float: tuple[str, ...] | None = Field(
        None,
        description="Layers to leave in float, by role (first, head, depthwise, squeeze-excite) or name pattern.",
    )
    placement: Literal["rules", "measured"] = Field(
        "rules",
        description="Operators to quantize: those that the runtime fuses, or the fastest measured variant that holds "
        "its answers.",
    )
    recipe: Path | None = Field(
        None, description="YAML recipe with settings per layer, in place of the other quantization options."
    )
    weight_rule: Literal["minmax", "mse"] = Field("mse", description="Range rule of the weights, per channel.")
    reduce_range: bool = Field(
        False,
        description="Use 7 of 8 bits for weights: exact sums on x86 CPUs without VNNI (`fqbench doctor`), where "
        "--range-rule auto tries both.",
    )
    bias_correction: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Bias correction for weight-rounding error; auto keeps it only if it lowers KL divergence from "
        "FP32 on the validation split.",
    )
    rescaling: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Moving factors between layers before calibration (equalization, SmoothQuant); auto tries it where "
        "it may matter.",
    )
    calib: str = Field("balanced", description="Calibration sampler: balanced, random, stratified or minority.")
    calib_n: int = Field(256, ge=1, description="Number of calibration images.")
    calib_by: tuple[str, ...] | None = Field(
        None, description="Sensitive features that define the sampler's groups (default: all)."
    )
    calib_seed: int = Field(0, ge=0, lt=SEEDS, description="Random seed of the sampler.")
    calib_policy: str = Field(
        "as-sampled",
        description="Group weights for calibration ranges: as-sampled, balanced, stratified, minimax, only=GROUP or "
        "weights=GROUP:2,... Changing it reuses the recorded histograms.",
    )
    calib_batch: int = Field(8, ge=1, description="Calibration batch size; ranges do not depend on it.")


class EvalOptions(Section):
    """Images, groups and bootstrap replicates of an evaluation."""

    split: Literal["train", "val", "test"] = Field("test", description="Split to evaluate on.")
    by: tuple[str, ...] | None = Field(
        None, description="Sensitive features whose intersections are the groups (default: all)."
    )
    intersect: bool = Field(True, description="Intersect the sensitive features, or evaluate each on its own.")
    control: str | None = Field(None, description="Control feature: evaluate within each of its values.")
    positive: str | None = Field(None, description="Positive class (default: the last one).")
    threshold: float | None = Field(
        None, gt=0, lt=1, description="Probability from which on positive is predicted (default: the largest logit)."
    )
    accuracy_margin: float = Field(0.01, gt=0, lt=1, description="Equivalence margin for a group's accuracy.")
    gap_margin: float = Field(0.01, gt=0, lt=1, description="Equivalence margin for a gap between groups.")
    correction: Literal["holm", "benjamini-hochberg", "none"] = Field(
        "holm", description="Multiple-testing correction over groups."
    )
    replicates: int = Field(10_000, ge=100, description="Bootstrap replicates.")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Confidence level of the intervals.")
    seed: Annotated[int, Flag(None)] = Field(0, ge=0, lt=SEEDS, description="Random seed of the bootstrap.")
    threads: Annotated[int | None, Flag(None)] = Field(
        None, ge=1, description="Threads for predicting (default: all cores)."
    )
    batch_size: Annotated[int, Flag(None)] = Field(32, ge=1, description="Batch size for predicting.")


class BenchOptions(Section):
    """How latency is measured."""

    batch: Several = Field((1,), min_length=1, description="Batch sizes when timing.")
    threads: Several = Field((1,), min_length=1, description="Numbers of threads of the runtime when timing.")
    device: str | None = Field(None, description="Device to run on (default: the runtime's first one).")
    rounds: int = Field(200, ge=5, description="Minimum number of interleaved rounds.")
    seconds: float = Field(3.0, ge=0, description="Minimum duration of the measurement in seconds.")
    sessions: int = Field(0, ge=0, description="Measure throughput, too, with this many sessions at a time (0: not).")
    cold_starts: int = Field(1, ge=1, description="Fresh processes per artifact, for cold start and peak memory.")
    energy: bool = Field(False, description="Measure energy, too, where the processor's counters can be read.")
    mlperf: tuple[Literal["single-stream", "offline"], ...] = Field(
        (), description="Scenarios of MLPerf's load generator to run, too (pip install 'fqbench[mlperf]')."
    )
    seed: Annotated[int, Flag(None)] = Field(
        0, ge=0, lt=SEEDS, description="Random seed of the order within the rounds."
    )


class Config(Section):
    """Everything that determines an experiment; the defaults are a small one on synthfaces."""

    data: DataOptions = Field(DataOptions(), title="Data", description="data set, label, groups")
    model: ModelOptions = Field(ModelOptions(), title="Model", description="classifier to train or adopt")
    preprocessing: PreprocessingOptions = Field(
        PreprocessingOptions(), title="Preprocessing", description="from an image to the model's input"
    )
    train: TrainOptions = Field(TrainOptions(), title="Training", description="how the classifier is trained")
    objectives: ObjectiveOptions = Field(
        ObjectiveOptions(), title="Objectives", description="penalties, group weights, distillation"
    )
    qat: QatOptions = Field(QatOptions(), title="QAT", description="with --method qat")
    quantize: QuantizeOptions = Field(QuantizeOptions(), title="Quantization", description="runtime, bits, calibration")
    eval: EvalOptions = Field(EvalOptions(), title="Evaluation", description="split, groups, statistics")
    bench: BenchOptions = Field(BenchOptions(), title="Latency", description="batch size, threads, rounds")
    backends: Mapping[str, Mapping[str, Any]] = Field(
        default_factory=dict, title="Backends", description="options of a runtime: {name: {option: value}}"
    )
