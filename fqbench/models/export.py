"""Export to ONNX with a parity check, and the user's own ONNX brought onto the same path."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.config import Preprocessing, PreprocessingOptions
from fqbench.errors import DataError, InputError
from fqbench.models.graph_names import head_of, name_by_module, name_missing
from fqbench.optional import require
from fqbench.reference_executor import reference_session

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto
    from torch import nn

MODEL = "model.onnx"
INPUT, OUTPUT, BATCH = "images", "logits", "batch"
OPSET = 21
TOLERANCE = 1e-4
EXTERNAL_DATA = MODEL + ".data"
EXTERNAL_ABOVE = (1 << 31) - (1 << 24)  # a protobuf message ends at 2 GiB; the graph around the weights needs some
METADATA_PREPROCESSING = "fqbench.preprocessing"
METADATA_CLASSES = "fqbench.classes"
METADATA_HEAD = "fqbench.head"


def export(
    model: nn.Module,
    images: NDArray[np.float32],
    preprocessing: Preprocessing,
    classes: Sequence[str],
    out: Path,
    *,
    external_above: int = EXTERNAL_ABOVE,
) -> dict[str, Any]:
    """Export a torch model to ``model.onnx`` and compare the two on real images.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode.
    images : ndarray of float32, shape (n, 3, size, size)
        Prepared images for the parity check; at least two, since the batch is dynamic.
    preprocessing : Preprocessing
        Written into the file's metadata, so that it travels with it.
    classes : sequence of str
        Likewise.
    out : Path
        Existing directory.
    external_above : int
        Bytes of weights above which they lie beside the graph, in ``model.onnx.data``.

    Returns
    -------
    dict
        ``parity_max_abs`` (largest absolute difference of a logit), ``parity_images``, ``opset``, ``head`` (name of the
        node that computes the classes), ``files``.

    Raises
    ------
    DataError
        The logits differ by more than 1e-4 of the largest one (or 1e-4, if that is less than 1).
    """
    torch = require("torch", extra="train")
    path = out / MODEL
    files = _write(trace(model, images), path, preprocessing, classes, external_above)
    with torch.inference_mode():
        expected = model(torch.from_numpy(images)).numpy()
    difference = _parity(path, images, expected)
    scale = max(1.0, float(np.abs(expected).max()))
    if not difference <= TOLERANCE * scale:
        raise DataError(
            f"the exported model's logits differ from torch's by up to {difference:.2g}, over {TOLERANCE * scale:.2g}; "
            "its graph is not this model; report it with the model's name."
        )
    facts = {"parity_max_abs": difference, "parity_images": len(images), "opset": OPSET}
    return {**facts, "head": head_name(path), "files": files}


def trace(model: nn.Module, images: NDArray[np.float32]) -> ModelProto:
    """Return the graph of a torch model with a dynamic batch; nodes are named after the modules they came from.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode.
    images : ndarray of float32, shape (n, 3, size, size)
        At least two, since the batch is dynamic.
    """
    torch = require("torch", extra="train")
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), _quiet("torch.onnx", "onnxscript"):
        warnings.simplefilter("ignore")  # the exporter's own deprecations; what matters is checked by `export`
        program = torch.onnx.export(
            model,
            (torch.from_numpy(images),),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim(BATCH, min=1)},),
            verbose=False,
        )
    proto: ModelProto = program.model_proto
    name_by_module(proto.graph)
    return proto


def adopt(
    path: Path, asked: PreprocessingOptions, classes: Sequence[str], out: Path
) -> tuple[Preprocessing, dict[str, Any]]:
    """Check the user's own ONNX classifier and write it as ``model.onnx``, with its preprocessing inside.

    Parameters
    ----------
    path : Path
        One float32 input (N, 3, H, W) with a dynamic N, one output (N, classes).
    asked : PreprocessingOptions
        The user's flags; what is missing is taken from the file's metadata, if fqbench wrote it.
    classes : sequence of str
        Names of the data set's classes.
    out : Path
        Existing directory.

    Raises
    ------
    InputError
        No such file, no ONNX, another input or output shape, or preprocessing that nobody stated.
    """
    model = _load(path)
    height = _check_input(model, path)
    preprocessing = adopted_preprocessing(model, path, asked, height)
    name_missing(model.graph.node)
    files = _write(model, out / MODEL, preprocessing, classes)
    size = preprocessing.size
    probe = np.random.default_rng(0).standard_normal((2, 3, size, size)).astype(np.float32)
    try:
        logits = _reference_logits(out / MODEL, probe)
    except Exception as error:
        raise InputError(
            f"{path} does not run on a batch of two {size}x{size} images ({error}); export it with a dynamic batch."
        ) from error
    if logits.shape != (2, len(classes)):
        raise InputError(
            f"{path} answers with shape {logits.shape} for 2 images, and the data have {len(classes)} classes "
            f"({', '.join(classes)}): one logit a class is needed."
        )
    facts = {"adopted_from": str(path), "opset": model.opset_import[0].version}
    return preprocessing, {**facts, "head": head_name(out / MODEL), "files": files}


def adopted_preprocessing(
    model: ModelProto, path: Path, asked: PreprocessingOptions, height: int | None
) -> Preprocessing:
    """Return what the user stated, else what the file's metadata state; mean and std are never guessed.

    Raises
    ------
    InputError
        Size, mean or std are stated nowhere, or the size contradicts the model's input.
    """
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    stated: dict[str, Any] = json.loads(metadata.get(METADATA_PREPROCESSING, "{}"))
    if height is not None:
        stated["size"] = height
    said = {key: value for key, value in asked.model_dump().items() if value is not None}
    if height is not None and said.get("size", height) != height:
        raise InputError(f"--size {said['size']} contradicts the input of {path}, which is {height}x{height}.")
    stated |= said
    missing = [name for name in ("size", "mean", "std") if name not in stated]
    if missing:
        flags = " ".join(f"--{name}" for name in missing)
        raise InputError(
            f"{path} does not say how its images are prepared: give {flags} "
            "(mean and std per channel, of values from 0 to 1), or a preprocessing section in fqbench.yaml."
        )
    return Preprocessing.model_validate(stated)


def read_preprocessing(path: Path) -> tuple[Preprocessing, tuple[str, ...]]:
    """Return preprocessing and class names from a file that `export` or `adopt` wrote."""
    import onnx

    metadata = {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}
    classes = tuple(json.loads(metadata[METADATA_CLASSES]))
    return Preprocessing.model_validate_json(metadata[METADATA_PREPROCESSING]), classes


def head_name(path: Path) -> str:
    """Return the name of the node that computes the classes, or "" where there is none."""
    import onnx

    metadata = {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}
    return str(metadata.get(METADATA_HEAD, ""))


def _load(path: Path) -> ModelProto:
    import onnx

    if not path.is_file():
        raise InputError(f"no ONNX file {path}; check --onnx.")
    try:
        onnx.checker.check_model(str(path))  # by its path: a model with external data may be larger than a message
        model = onnx.load(path)
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0][:160]
        raise InputError(f"{path} is not a valid ONNX model ({reason}); export it again.") from error
    return model


def _check_input(model: ModelProto, path: Path) -> int | None:
    """Return the fixed height, or None where it is dynamic."""
    initializers = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in initializers]
    if len(inputs) != 1 or len(model.graph.output) != 1:
        raise InputError(
            f"{path} has {len(inputs)} inputs and {len(model.graph.output)} outputs; one of each is needed."
        )
    kind = inputs[0].type.tensor_type
    shape = [dim.dim_param or dim.dim_value for dim in kind.shape.dim]
    if kind.elem_type != 1 or len(shape) != 4 or shape[1] != 3:
        raise InputError(f"{path} takes {inputs[0].name} of shape {shape}; float32 (N, 3, H, W) is needed.")
    if isinstance(shape[0], int) and shape[0] > 0:
        raise InputError(f"{path} has a fixed batch of {shape[0]}; export it with a dynamic batch.")
    sides = [side for side in shape[2:] if isinstance(side, int) and side > 0]
    if len(set(sides)) > 1:
        raise InputError(f"{path} takes {shape[2]}x{shape[3]} images; only square inputs are supported.")
    return sides[0] if sides else None


def _write(
    model: ModelProto,
    path: Path,
    preprocessing: Preprocessing,
    classes: Sequence[str],
    external_above: int = EXTERNAL_ABOVE,
) -> list[str]:
    """Write a model without the exporter's traces (they hold local paths), with what fqbench needs to feed it.

    Returns
    -------
    list of str
        The files written, the graph first.
    """
    import onnx

    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    for function in model.functions:
        for node in function.node:
            del node.metadata_props[:]
    del model.graph.metadata_props[:]
    values = {
        METADATA_PREPROCESSING: preprocessing.model_dump_json(),
        METADATA_CLASSES: json.dumps(list(classes)),
        METADATA_HEAD: head_of(model.graph),
    }
    del model.metadata_props[:]
    for key, value in values.items():
        model.metadata_props.add(key=key, value=value)
    external = sum(len(tensor.raw_data) for tensor in model.graph.initializer) > external_above
    if external:
        onnx.save(model, path, save_as_external_data=True, all_tensors_to_one_file=True, location=EXTERNAL_DATA)
    else:
        onnx.save(model, path)
    onnx.checker.check_model(str(path))
    return [MODEL, EXTERNAL_DATA] if external else [MODEL]


def _parity(path: Path, images: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Largest difference over the whole batch and over its first image alone, since the batch is dynamic."""
    whole = np.abs(_reference_logits(path, images) - expected).max()
    single = np.abs(_reference_logits(path, images[:1]) - expected[:1]).max()
    return float(max(whole, single))


def _reference_logits(path: Path, images: NDArray[np.float32]) -> NDArray[np.float32]:
    session = reference_session(path)
    (logits,) = session.run(None, {session.get_inputs()[0].name: images})
    return np.asarray(logits)


@contextlib.contextmanager
def _quiet(*names: str) -> Any:
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
