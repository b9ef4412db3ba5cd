"""Export: turn a checkpoint, or the user's own ONNX file, into the FP32 model of all artifacts."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fqbench.catalogue import open_model
from fqbench.config import outputs_named
from fqbench.contracts.artifacts import ExportedModel
from fqbench.contracts.task import PredictionTask
from fqbench.errors import DataError, InputError
from fqbench.models import adopt as adopting
from fqbench.models import export as exporting
from fqbench.models import zoo
from fqbench.models.lookup import classifier
from fqbench.models.program import is_program, write_onnx
from fqbench.models.train import CHECKPOINT, load_checkpoint
from fqbench.run import Run
from fqbench.stages.named import check_columns, check_names
from fqbench.stages.prepare import prepare
from fqbench.stages.read import label_of, read
from fqbench.stages.train import TRAINED_BY, train
from fqbench.storage import file_digest
from fqbench.workspace import Derivation, Entry
from fqbench.workspace.kinds import MODELS, ModelFacts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PARITY_IMAGES = 8
ADOPTED_IMAGES = 16  # enough to tell one probability per image from a logit


def export(run: Run) -> ExportedModel:
    """Return the configured model as ONNX, training or adopting it if necessary.

    Raises
    ------
    InputError
        The user's ONNX has another input or output than a classifier of these data.
    DataError
        The exported graph answers differently from torch.
    """
    return run.once("model", TRAINED_BY, lambda: _opened(run))


def _opened(run: Run) -> ExportedModel:
    check_names(run.config)
    if run.config.model.onnx:
        return open_model(run.workspace, _adopt(run))
    return open_model(run.workspace, _convert(run) if is_program(run.config.model.name) else _export(run))


def _export(run: Run) -> Entry[ModelFacts]:
    checkpoint = train(run)
    preprocessing, classes = checkpoint.facts.preprocessing, checkpoint.facts.classes
    name, architecture = checkpoint.facts.model, classifier(run, checkpoint.facts.architecture)
    derivation = Derivation(
        kind=MODELS,
        slug=name,
        determined_by={
            "checkpoint": checkpoint.digest,
            **architecture.identity,
            "preprocessing": preprocessing.model_dump(mode="json"),
        },
        inputs={"checkpoint": checkpoint.id},
    )

    def build(out: Path) -> ModelFacts:
        network = zoo.build(architecture, classes=len(classes), size=preprocessing.size)
        network = load_checkpoint(network, checkpoint.file(CHECKPOINT))
        store = prepare(run, preprocessing)
        _frame, rows = store.readable(read(run).split("val"))
        images, task = store.images.batch(rows[:PARITY_IMAGES]), checkpoint.facts.task
        facts = exporting.export(network, images, preprocessing, classes, out, task=task)
        run.reporter.say(f"ONNX agrees with torch to {facts['parity_max_abs']:.1e} on {facts['parity_images']} images")
        known = {"classes": classes, "task": task, "preprocessing": preprocessing}
        return ModelFacts(model=name, architecture=architecture.reference, **known, **facts)

    return run.produce(derivation, build, f"exporting {name} to ONNX")


def _adopt(run: Run) -> Entry[ModelFacts]:
    path = run.config.model.onnx
    assert path is not None  # noqa: S101 - `_opened` has looked
    return _adopted(run, path, {"onnx": adopting.digests(path, run.config.model.class_map)}, lambda _scratch: path)


def _convert(run: Run) -> Entry[ModelFacts]:
    path = Path(run.config.model.name)

    def converted(scratch: Path) -> Path:
        graph = scratch / f"{path.stem}.onnx"
        difference = write_onnx(path, graph)
        run.reporter.say(f"ONNX agrees with {path} to {difference:.1e} on drawn images")
        return graph

    mapped = run.config.model.class_map
    known = {"program": file_digest(path), "class_map": file_digest(mapped) if mapped and mapped.is_file() else None}
    return _adopted(run, path, known, converted)


def meaning_of(run: Run) -> adopting.Meaning:
    """Return what the outputs of a user's graph are to stand for: the labels of the data, and what the options say."""
    samples, options = read(run), run.config.model
    check_columns(run, samples)
    columns = None if options.column is None else outputs_named(options.column)
    label = label_of(run) or ""
    return adopting.Meaning(samples.classes, samples.task, options.class_map, columns, label)


def _adopted(run: Run, path: Path, identity: Mapping[str, object], graph: Callable[[Path], Path]) -> Entry[ModelFacts]:
    """Bring a graph to the normal form; ``graph`` returns its file, given a folder for what it has to write."""
    asked, options, meaning = run.config.preprocessing, run.config.model, meaning_of(run)
    columns = {"columns": dict(meaning.columns)} if meaning.columns else {}
    task = {"task": meaning.task.value} if meaning.task is not PredictionTask.CLASSES else {}
    derivation = Derivation(
        kind=MODELS,
        slug=path.stem,
        determined_by={
            "adoption": adopting.VERSION,
            **identity,
            "input": options.model_dump(mode="json", include={"layout", "channels", "scale_pixels", "output"}),
            "preprocessing": asked.model_dump(mode="json"),
            "classes": list(meaning.classes),
            **columns,
            **task,
        },
        inputs={},
    )

    def build(out: Path) -> ModelFacts:
        with tempfile.TemporaryDirectory() as scratch:
            return write(graph(Path(scratch)), out)

    def write(file: Path, out: Path) -> ModelFacts:
        try:
            source = adopting.read_source(file, options, asked)
            adopted = adopting.adopt(source, _some_pixels(run, source), meaning, out)
        except (InputError, DataError) as error:
            if file == path:
                raise
            raise type(error)(str(error).replace(str(file), str(path))) from error  # the user has only the program
        for line in adopted.summary:
            run.reporter.say(line)
        known = {"classes": meaning.classes, "task": meaning.task, "preprocessing": adopted.preprocessing}
        return ModelFacts(model=path.stem, **known, **adopted.facts)

    return run.produce(derivation, build, f"adopting {path}")


def _some_pixels(run: Run, source: adopting.Source) -> NDArray[np.uint8]:
    """Return pictures to compare graphs on: of the validation split, and of the others where it is small."""
    store, frame = prepare(run, source.geometry), read(run).frame
    ordered = frame.sort_values("split", key=lambda split: split != "val", kind="stable")
    _frame, rows = store.readable(ordered.head(ADOPTED_IMAGES * 2))
    return store.images.pixels[rows[:ADOPTED_IMAGES]]
