"""Quantization-aware training of the trained classifier, exported with the learned scales."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench import plugins
from fqbench.catalogue import open_model
from fqbench.contracts.artifacts import Artifact, ExportedModel
from fqbench.contracts.qat_parameters import ANSWERS
from fqbench.contracts.scheme import Scheme
from fqbench.errors import InputError
from fqbench.execution import logits_of
from fqbench.models import export as exporting
from fqbench.models import train as training
from fqbench.models import zoo
from fqbench.models.lookup import classifier
from fqbench.models.objectives import DISTILLATION, Objective, Teacher, objective, parts_of
from fqbench.optional import require
from fqbench.plugins import QuantizedTraining
from fqbench.run import Run
from fqbench.stages.export import PARITY_IMAGES
from fqbench.stages.prepare import Prepared, prepare
from fqbench.stages.read import read
from fqbench.stages.train import features_for, fit, processes
from fqbench.stages.train import train as train_stage
from fqbench.storage import file_digest, read_arrays, write_arrays
from fqbench.workspace import Derivation
from fqbench.workspace.kinds import QAT_MODELS, AgreementFacts, QatModelFacts, TrainingFacts

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from fqbench.config import TrainOptions

COMPARED = 512  # images of the validation split that answers are compared on
LOOKED_AT = 4  # images by which activations of the two graphs are matched
BATCH = 32


def train_quantized(run: Run, model: ExportedModel, scheme: Scheme) -> ExportedModel:
    """Return the configured classifier fine-tuned with fake quantization, as FP32 ONNX with its learned scales.

    Parameters
    ----------
    run : Run
        The experiment: options ``qat`` and ``train``, and the backend that the model is trained for.
    model : ExportedModel
        The trained FP32 model.
    scheme : Scheme
        Bits, and the rule of the weights' scales.

    Raises
    ------
    UnavailableError
        No backend that trains is available here.
    InputError
        The model came as ONNX, or was started by several processes.
    DataError
        The weights to start from are another architecture's; the message lists the first that differ.
    """
    _refuse_untrainable(model)
    options = run.config.qat
    name = options.objective or run.config.train.objective
    flag = "--objective" if options.objective is None else "--qat-objective"
    parts = parts_of(name, flag)
    checkpoint = train_stage(run)
    start = options.start or model.checkpoint
    numerics = plugins.backend(run.config.quantize.backend).numerics(scheme)
    signed = numerics.activations.symmetric
    trainer, ability = plugins.trainer(run.config.quantize.backend, options.trainer)
    loop = _loop(run, parts)
    teacher = Teacher(lambda: _network(model, checkpoint.file(training.CHECKPOINT))) if DISTILLATION in parts else None
    aim = objective(name, run.config.objectives, teacher=teacher, flag=flag)
    samples, store = read(run), prepare(run, model.preprocessing)
    by = features_for(samples, loop.by, name, flag)
    derivation = Derivation(
        kind=QAT_MODELS,
        slug=f"{model.name}-{scheme.label}{'-signed' if signed else ''}-seed{loop.seed}",
        determined_by={
            "checkpoint": checkpoint.digest if options.start is None else file_digest(options.start),
            **classifier(run, model.architecture).identity,
            "prepared": store.entry.digest,
            "trainer": trainer.name,
            "trainer_version": trainer.availability().version,
            "plugin": plugins.distribution(plugins.BACKENDS, trainer.name),
            "scheme": {"bits": scheme.bits, "act_bits": scheme.act_bits, "weight_rule": scheme.weight_rule},
            "signed": signed,
            "qat": options.model_dump(mode="json", exclude={"start", "trainer", "objective"}),
            "options": {**loop.model_dump(mode="json"), "by": list(by), **aim.identity},
            **({"teacher": model.digest} if teacher is not None else {}),
        },
        inputs={"checkpoint": checkpoint.id, "model": model.id, "prepared": store.entry.id},
    )

    def build(out: Path) -> QatModelFacts:
        require("torch", extra="train").manual_seed(loop.seed)
        made = ability.training(replace(model, checkpoint=start), scheme, numerics=numerics, options=options)
        return _tune(run, model, made, store, out, aim=aim, loop=loop, by=by, signed=signed, derivation=derivation)

    doing = f"training {model.name} with {scheme.bits}-bit weights and {scheme.act_bits}-bit activations"
    return open_model(run.workspace, run.produce(derivation, build, f"{doing} for {options.epochs} epochs"))


def _tune(
    run: Run,
    model: ExportedModel,
    made: QuantizedTraining,
    store: Prepared,
    out: Path,
    *,
    aim: Objective,
    loop: TrainOptions,
    by: Sequence[str],
    signed: bool,
    derivation: Derivation,
) -> QatModelFacts:
    """Train the network with fake quantization, and write what the artifact needs into a folder."""
    result = fit(run, made.network, store, loop, out, aim=aim, by=by, derivation=derivation, hooks=made.hooks)
    return QatModelFacts(
        model=model.name,
        architecture=model.architecture,
        classes=model.classes,
        task=model.task,
        preprocessing=model.preprocessing,
        training=TrainingFacts(**result.details(), model=model.name, seed=loop.seed),
        signed=signed,
        **_export(run, model, made, store, out),
    )


def _refuse_untrainable(model: ExportedModel) -> None:
    if not model.architecture:
        raise InputError(
            f"{model.name} is an ONNX file, which cannot be trained; train a classifier here (`fqbench train`), or use "
            "--method ptq_static."
        )
    if processes() > 1:
        raise InputError("--method qat needs a world size of 1: ranks do not share ranges; start one process.")


def _loop(run: Run, parts: Sequence[str]) -> TrainOptions:
    """Return the options of training with those that quantization-aware training has of its own."""
    changed: dict[str, object] = {"objective": "+".join(parts), "precision": "fp32", "patience": 0}
    changed |= {"epochs": run.config.qat.epochs, "learning_rate": run.config.qat.learning_rate}
    return run.config.train.model_copy(update=changed)


def agreement(run: Run, tuned: ExportedModel, artifact: Artifact) -> AgreementFacts | None:
    """Compare an artifact's outputs with those of the trained network; None if it cannot be run here."""
    images = _compared(run, prepare(run, tuned.preprocessing))
    found = logits_of(artifact, images, device=run.config.bench.device)
    if found is None:
        return None
    expected = read_arrays(tuned.path.with_name(ANSWERS))["logits"]
    agreed = AgreementFacts(
        images=len(found),
        identical_labels=float(tuned.task.agreement(found, expected).mean()),
        largest_difference=float(np.abs(found - expected).max()),
        largest_logit=float(np.abs(expected).max()),
    )
    run.reporter.say(
        f"{agreed.identical_labels:.1%} of {agreed.images} predictions equal those of the trained network; logits "
        f"differ by up to {agreed.largest_difference:.2g}, the largest is {agreed.largest_logit:.2g}"
    )
    return agreed


def _export(run: Run, model: ExportedModel, made: QuantizedTraining, store: Prepared, out: Path) -> dict[str, Any]:
    """Write the trained weights, their ONNX, the learned scales and the answers to compare others with."""
    made.save_weights(out / training.CHECKPOINT)
    network = _network(model, out / training.CHECKPOINT)
    _frame, rows = store.readable(read(run).split("val"))
    images = store.images.batch(rows[:PARITY_IMAGES])
    facts = exporting.export(network, images, model.preprocessing, model.classes, out, task=model.task)
    learned = made.learned(out / exporting.MODEL, images[:LOOKED_AT])
    learned.save(out)
    logits = np.concatenate([made.answers(batch) for batch in _compared(run, store)])
    write_arrays(out / ANSWERS, {"logits": logits})
    return {**facts, "learned_activations": len(learned.activations), "learned_weights": len(learned.weights)}


def _network(model: ExportedModel, weights: Path) -> nn.Module:
    """Build the classifier that a model was exported from, with some weights."""
    network = zoo.build(zoo.find(model.architecture), classes=len(model.classes), size=model.preprocessing.size)
    return training.load_checkpoint(network, weights)


def _compared(run: Run, store: Prepared) -> Iterator[NDArray[np.float32]]:
    _frame, rows = store.readable(read(run).split("val"))
    return store.images.batches(rows[:: max(1, len(rows) // COMPARED)][:COMPARED], BATCH)
