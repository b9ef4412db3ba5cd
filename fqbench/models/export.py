"""Export to ONNX with a parity check, and write models."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.config import Preprocessing
from fqbench.contracts.task import PredictionTask
from fqbench.errors import DataError, InputError
from fqbench.models.graph_names import head_of, name_by_module
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
QUIET = ("torch.onnx", "onnxscript", "torch.fx.experimental.symbolic_shapes", "torch._dynamo", "torch.export")
REASON = 200  # characters of what torch says
EXTERNAL_DATA = MODEL + ".data"
EXTERNAL_ABOVE = (1 << 31) - (1 << 24)  # a protobuf message ends at 2 GiB; the graph around the weights needs some
METADATA_PREPROCESSING = "fqbench.preprocessing"
METADATA_CLASSES = "fqbench.classes"
METADATA_TASK = "fqbench.task"
METADATA_HEAD = "fqbench.head"


def export(
    model: nn.Module,
    images: NDArray[np.float32],
    preprocessing: Preprocessing,
    classes: Sequence[str],
    out: Path,
    *,
    task: PredictionTask = PredictionTask.CLASSES,
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
    task : PredictionTask
        Whether the logits are of classes or of attributes; written into the metadata, too.
    external_above : int
        Bytes of weights above which they are stored next to the graph, in ``model.onnx.data``.

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
    files = write(trace(model, images), path, preprocessing, classes, task=task, external_above=external_above)
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

    Raises
    ------
    InputError
        torch cannot export what the model computes.
    """
    torch = require("torch", extra="train")
    with quietly(), _refusals(model):
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


@contextlib.contextmanager
def _refusals(model: nn.Module) -> Iterator[None]:
    """Turn an error of torch's exporter into a sentence with its first cause."""
    import torch

    try:
        yield
    except torch.onnx.OnnxExporterError as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = (str(cause).strip().splitlines() or [""])[0][:REASON]
        what = (
            f"torch {torch.__version__} cannot export {type(model).__name__} to ONNX ({type(cause).__name__}: {reason})"
        )
        raise InputError(
            f"{what}; torch.export has to follow what its forward computes for any batch size; or give the model as an "
            "ONNX file, with --onnx."
        ) from error


def head_name(path: Path) -> str:
    """Return the name of the node that computes the classes, or "" where there is none."""
    import onnx

    metadata = {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}
    return str(metadata.get(METADATA_HEAD, ""))


def write(
    model: ModelProto,
    path: Path,
    preprocessing: Preprocessing,
    classes: Sequence[str],
    *,
    task: PredictionTask = PredictionTask.CLASSES,
    external_above: int = EXTERNAL_ABOVE,
) -> list[str]:
    """Write a model without the exporter's traces (which have local paths), with the metadata that fqbench needs.

    Parameters
    ----------
    model : ModelProto
        Changed in place.
    path : Path
        The file to write.
    preprocessing : Preprocessing
        Written into the metadata, so that it travels with the file.
    classes : sequence of str
        Likewise.
    task : PredictionTask
        Likewise.
    external_above : int
        Bytes of weights above which they are stored next to the graph.

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
        **({METADATA_TASK: task.value} if task is not PredictionTask.CLASSES else {}),
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
    """Return the largest difference over the whole batch and over its first image alone, since the batch is dynamic."""
    whole = np.abs(_reference_logits(path, images) - expected).max()
    single = np.abs(_reference_logits(path, images[:1]) - expected[:1]).max()
    return float(max(whole, single))


def _reference_logits(path: Path, images: NDArray[np.float32]) -> NDArray[np.float32]:
    session = reference_session(path)
    (logits,) = session.run(None, {session.get_inputs()[0].name: images})
    return np.asarray(logits)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Silence the progress and deprecation messages of torch's exporter; the result is checked afterwards."""
    loggers = [logging.getLogger(name) for name in QUIET]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        unheard = io.StringIO()
        with (
            warnings.catch_warnings(action="ignore"),
            contextlib.redirect_stdout(unheard),
            contextlib.redirect_stderr(unheard),
        ):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
