"""Quantize: the FP32 model, a scheme and a calibration set become a runtime's own artifact."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fqbench import plugins
from fqbench.contracts.artifacts import Artifact, ExportedModel
from fqbench.contracts.scheme import Method, Scheme
from fqbench.errors import InputError, UnavailableError
from fqbench.execution import logits_of
from fqbench.machine import usable_cores
from fqbench.plugins import Backend, require_support
from fqbench.quant.bias_correction import Batches, Corrected, choose_correction
from fqbench.quant.calibration import CalibrationSet
from fqbench.quant.policies import MINIMAX, Policy
from fqbench.quant.rules import Rule
from fqbench.run import Run
from fqbench.stages.export import export, open_model
from fqbench.stages.observe import observe
from fqbench.stages.prepare import prepare
from fqbench.stages.qat import agreement, train_quantized
from fqbench.stages.read import read
from fqbench.workspace import Derivation, Entry, Workspace
from fqbench.workspace.kinds import ARTIFACTS, DECISIONS, EXECUTABLE, MODELS, ArtifactFacts, DecisionFacts, RecordFacts

STAGE_VERSION = 3  # 3: bias correction is tried by emulation, too
VALIDATION = "val"
COMPARED, BATCH = 512, 32  # validation images that a choice is made on


def quantize(run: Run) -> Artifact:
    """Return the configured artifact, making whatever is missing on the way to it.

    Raises
    ------
    PluginError
        No such backend or sampler; checked before any work.
    SchemeNotSupported
        The backend cannot run the scheme; likewise.
    UnavailableError
        The backend cannot write artifacts on this machine.
    """
    asked = run.config.quantize
    scheme = _scheme(run)
    backend = plugins.backend(asked.backend)
    if scheme.needs_calibration:
        plugins.sampler(asked.calib)
    _check(backend, scheme)
    model = export(run)
    calibration, record = observe(run, model) if scheme.needs_calibration else (None, None)
    tuned = train_quantized(run, model, scheme) if scheme.method is Method.QAT else None
    return _artifact(run, backend, scheme, _Source(model, tuned, calibration, record))


def reference(run: Run, backend: str | None = None) -> Artifact:
    """Return the FP32 artifact of the configured model, on a backend (by default the configured one)."""
    name = backend or run.config.quantize.backend
    return quantize(run.with_options("quantize", backend=name, method="none", bits=32, act_bits=32))


def artifacts(workspace: Workspace, model_id: str | None = None) -> list[Artifact]:
    """Return the finished artifacts, of one model or of all, FP32 first."""
    found = [open_artifact(workspace, entry) for kind in (ARTIFACTS, DECISIONS) for entry in workspace.entries(kind)]
    mine = [artifact for artifact in found if model_id is None or artifact.model_id == model_id]
    return sorted(mine, key=lambda artifact: artifact.scheme.label != "fp32")


def artifact_named(workspace: Workspace, id_or_prefix: str) -> Artifact:
    """Return the artifact, engine or artifact with a fitted decision whose id is, or begins with, the given text.

    Raises
    ------
    InputError
        None or several have such an id.
    """
    return open_artifact(workspace, workspace.get(id_or_prefix, EXECUTABLE))


def open_artifact(workspace: Workspace, entry: Entry[Any]) -> Artifact:
    """Open an artifact, an engine, or an artifact with a fitted decision."""
    facts = entry.facts
    if isinstance(facts, DecisionFacts):
        decides = artifact_named(workspace, entry.manifest.inputs["artifact"])
        return replace(decides, id=entry.id, decision=facts.rule)
    return Artifact(
        backend=facts.backend,
        scheme=facts.scheme,
        root=entry.path,
        files=facts.files,
        details=facts.details,
        id=entry.id,
        digest=entry.digest,
        sampler=facts.sampler,
        model_id=entry.manifest.inputs["model"],
        model_digest=facts.model_digest,
        batch=facts.batch,
    )


def model_of(workspace: Workspace, artifact: Artifact) -> ExportedModel:
    """Return the FP32 model that an artifact was made of."""
    return open_model(workspace, workspace.get(artifact.model_id, MODELS))


def validation_batches(run: Run, model: ExportedModel) -> Batches | None:
    """Return a function that yields some validation images in batches; None where there is no such split."""
    try:
        frame = read(run).split(VALIDATION)
    except InputError:
        return None
    store = prepare(run, model.preprocessing)
    _frame, rows = store.readable(frame)
    # Evenly over the split, which may be sorted by group or class.
    chosen = rows[:: max(1, len(rows) // COMPARED)][:COMPARED]
    return (lambda: store.images.batches(chosen, model.batch_size(BATCH))) if len(chosen) else None


def _scheme(run: Run) -> Scheme:
    asked = run.config.quantize
    if asked.method == "none" or asked.bits == 32:
        return Scheme.float32()
    fields = {"method": asked.method, "bits": asked.bits, "act_bits": asked.act_bits}
    if asked.method not in {"ptq_static", "mixed_precision"}:
        weights = {"weight_rule": asked.weight_rule} if asked.method == "qat" else {}
        return Scheme.model_validate(fields | {"range_rule": "none"} | weights)
    policy = Policy.parse(asked.calib_policy)
    # minimax is a rule of its own: it weighs no groups, and its ranges are those of least squared error.
    rule = Rule("mse") if policy.name == MINIMAX else Rule.parse(asked.range_rule)
    return Scheme.model_validate(
        fields
        | {"range_rule": rule.label, "calib_policy": policy.label}
        | {"weight_rule": asked.weight_rule, "bias_correction": asked.bias_correction}
    )


def _check(backend: Backend, scheme: Scheme) -> None:
    require_support(backend, scheme)
    available = backend.availability()
    if not available.can_write:
        raise UnavailableError(
            f"the backend {backend.name} is not available here: {available.reason} {available.remedy}"
        )


@dataclass(frozen=True)
class _Source:
    """What an artifact is made of: the FP32 model, or that trained on from it; the calibration set and its record."""

    model: ExportedModel
    tuned: ExportedModel | None
    calibration: CalibrationSet | None
    record: Entry[RecordFacts] | None

    @property
    def quantized(self) -> ExportedModel:
        return self.tuned or self.model

    @property
    def inputs(self) -> dict[str, str]:
        found = {"model": self.model.id}
        if self.record is not None:
            found |= {"calibration": self.record.manifest.inputs["calibration"], "record": self.record.id}
        return found if self.tuned is None else found | {"tuned": self.tuned.id}


def _artifact(run: Run, backend: Backend, scheme: Scheme, source: _Source) -> Artifact:
    model, calibration, entry = source.model, source.calibration, source.record
    sampler = calibration.sampler if calibration is not None else ""
    derivation = Derivation(
        kind=ARTIFACTS,
        slug="-".join(part for part in (model.name, backend.name, scheme.label, sampler) if part),
        determined_by={
            "model": source.quantized.digest,
            "backend": backend.name,
            "plugin": plugins.distribution(plugins.BACKENDS, backend.name),
            "backend_version": backend.availability().writes_with,
            "scheme": scheme.model_dump(mode="json"),
            "record": entry.digest if entry is not None else None,
            "prepared": entry.manifest.determined_by["prepared"] if entry is not None else None,
        },
        inputs=source.inputs,
    )

    def build(out: Path) -> ArtifactFacts:
        def make(choice: Corrected, folder: Path) -> Artifact:
            tried = scheme.model_copy(update={"bias_correction": choice})
            made = backend.quantize(source.quantized, tried, calibration, folder)
            return replace(made, scheme=scheme, batch=model.batch)

        images = (
            validation_batches(run, model) if calibration is not None and scheme.bias_correction == "auto" else None
        )
        if images is not None:
            made, correction = choose_correction(
                model.path,
                images,
                make,
                lambda artifact, batches: logits_of(artifact, batches, device=run.config.bench.device),
                out,
                threads=usable_cores(),
            )
        else:
            made, correction = backend.quantize(source.quantized, scheme, calibration, out), {}
        return ArtifactFacts(
            backend=backend.name,
            scheme=scheme,
            files=made.files,
            sampler=sampler,
            support=backend.supports(scheme).level,
            model_digest=model.digest,
            batch=model.batch,
            groups=calibration.group_counts if calibration is not None else {},
            bias_correction=correction,
            details=dict(made.details),
            agreement=None if source.tuned is None else agreement(run, source.tuned, made),
        )

    label = f"{scheme.label}/{sampler}" if sampler else scheme.label
    return open_artifact(
        run.workspace, run.produce(derivation, build, f"quantizing {model.name} for {backend.name}: {label}")
    )
