"""Names and paths that the user gave, checked first: a misspelt name is told before a missing library, or any work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fqbench.config import Config, ModelOptions, outputs_named, read_yaml
from fqbench.data import synthfaces
from fqbench.data.samples import Samples, features_among
from fqbench.errors import InputError, did_you_mean
from fqbench.models import zoo
from fqbench.models.objectives import parts_of
from fqbench.models.program import is_program
from fqbench.models.weights import check_file
from fqbench.run import Run
from fqbench.stages.read import check_data, read


def check_names(config: Config) -> None:
    """Check the names of data, model and objectives, and the files and folders that they bring.

    Nothing is read or drawn for it, and no optional library is imported: models of timm and torchvision are looked up
    later.

    Parameters
    ----------
    config : Config
        What was asked for.

    Raises
    ------
    InputError
        A name is unknown, a file or folder is missing, or an option does not belong to the data set or the model.
    """
    check_data(config.data)
    if config.data.name == synthfaces.NAME:  # the only data whose features and classes are known before they are read
        for by in _features_asked(config):
            features_among(synthfaces.NAME, synthfaces.SENSITIVE_FEATURES, by)
        _check_positive(config.eval.positive, synthfaces.NAME, synthfaces.CLASSES)
    _check_model(config.model)
    parts_of(config.train.objective)
    if config.qat.objective is not None:
        parts_of(config.qat.objective, "--qat-objective")
    start = config.qat.start
    if config.quantize.method == "qat" and start is not None and not start.is_file():
        raise InputError(f"no weights file {start}; --qat-start takes the path of a .safetensors or .pth file.")


def check_columns(run: Run, samples: Samples) -> None:
    """Check the features and the class that the options name, once the table is read and before any training.

    Raises
    ------
    InputError
        The data set has no such sensitive feature or class.
    """
    for by in _features_asked(run.config):
        samples.features(by)
    positive_class(run, samples.labellings[0])


def positive_class(run: Run, samples: Samples) -> str | None:
    """Return the positive class asked for, else the second of two classes, else None.

    Parameters
    ----------
    run : Run
        The experiment.
    samples : Samples
        The data set with one label.

    Raises
    ------
    InputError
        There is no such class, or ``--positive`` is given for several attributes.
    """
    asked = run.config.eval.positive
    if asked is not None and read(run).attributes:
        raise InputError(
            "--positive is for one label; each of several attributes has its second class as the positive one."
        )
    _check_positive(asked, samples.name, samples.classes)
    return asked if asked or len(samples.classes) > 2 else samples.classes[-1]


def _features_asked(config: Config) -> tuple[Sequence[str] | None, ...]:
    """Return the features that each option names, None where an option names none."""
    control = None if config.eval.control is None else (config.eval.control,)
    return config.train.by, config.quantize.calib_by, config.eval.by, control


def _check_positive(asked: str | None, data: str, classes: Sequence[str]) -> None:
    if asked is not None and asked not in classes:
        raise InputError(f"{data} has no class {asked!r} for --positive: {did_you_mean(asked, classes)}")


def _check_model(model: ModelOptions) -> None:
    if model.class_map is not None:
        read_yaml(model.class_map, "the class map", "--class-map")
    if model.column is not None:
        outputs_named(model.column)
    if model.onnx is not None:
        if not model.onnx.is_file():
            raise InputError(f"no ONNX file {model.onnx}; check --onnx.")
    elif is_program(model.name):
        if not Path(model.name).is_file():
            raise InputError(
                f"--model {model.name}: there is no such file; give a program that torch.export.save wrote."
            )
    else:
        zoo.check_name(model.name, model.args)
        if model.weights not in {"none", "imagenet", zoo.OWN}:
            check_file(Path(model.weights))
