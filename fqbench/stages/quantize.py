"""Quantize: make a runtime's artifact from the FP32 model, a scheme and a calibration set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from fqbench import plugins
from fqbench.catalogue import artifact_named, artifacts, open_artifact, subject_named
from fqbench.contracts.artifacts import Artifact, ExportedModel
from fqbench.contracts.scheme import Method, Override, Role, Scheme
from fqbench.data.samples import group_labels
from fqbench.errors import InputError, SchemeNotSupported, UnavailableError
from fqbench.execution import logits_of
from fqbench.machine import IntegerSums, usable_cores
from fqbench.plugins import Backend, Level, require_support, support_of
from fqbench.quant.calibration import CalibrationSet
from fqbench.quant.choice import Choice, Trial, Validation, choose
from fqbench.quant.graph import cleaned
from fqbench.quant.placement_choice import HOLDS, HOLDS_IN_A_GROUP, NothingFaster, PlacementChoice
from fqbench.quant.plan import make_plan
from fqbench.quant.policies import MINIMAX, Policy
from fqbench.quant.recipe import read_recipe
from fqbench.quant.rescaling import worth_a_trial
from fqbench.quant.rules import Rule
from fqbench.reference_executor import reference_logits
from fqbench.run import Run
from fqbench.stages.export import export
from fqbench.stages.named import check_names
from fqbench.stages.observe import observe
from fqbench.stages.placement import keep_refused, measured_on, place, require_measurable
from fqbench.stages.prepare import prepare
from fqbench.stages.qat import agreement, train_quantized
from fqbench.stages.read import read
from fqbench.stages.saturation import seven_bits_may_help
from fqbench.workspace import Derivation, Entry
from fqbench.workspace.kinds import ARTIFACTS, ArtifactFacts, RecordFacts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VALIDATION = "val"
# What makes FP32 of any options; a recipe would be read before them.
FLOAT = {"method": "none", "bits": 32, "act_bits": 32, "placement": "rules", "reduce_range": False, "rescaling": "auto"}
COMPARED, BATCH = 512, 32  # validation images that a choice is made on


def quantize(run: Run, scheme: Scheme | None = None) -> Artifact:
    """Return the configured artifact, running every earlier stage that is missing.

    Parameters
    ----------
    run : Run
        The experiment.
    scheme : Scheme, optional
        In place of the configured method, bits, rules and recipe.

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
    scheme = configured_scheme(run) if scheme is None else _checked(scheme)
    backend = named_backend(run, scheme)
    _check(backend, scheme)
    if scheme.method is Method.QAT:
        plugins.trainer(asked.backend, run.config.qat.trainer)
    model = export(run)
    floats = reference(run) if scheme.placement == "measured" else None
    calibration, record = observe(run, model) if scheme.needs_calibration else (None, None)
    tuned = train_quantized(run, model, scheme) if scheme.method is Method.QAT else None
    return _artifact(run, backend, scheme, _Source(model, tuned, calibration, record, floats))


def named_backend(run: Run, scheme: Scheme) -> Backend:
    """Return the configured backend, once every name that was asked for has been checked.

    Raises
    ------
    PluginError, InputError
        A name is unknown, or a file or folder is missing; whether a library is missing is not asked yet.
    """
    asked = run.config.quantize
    backend = plugins.backend(asked.backend)
    if scheme.needs_calibration:
        plugins.sampler(asked.calib)
    if run.config.qat.trainer is not None:
        plugins.backend(run.config.qat.trainer)
    check_names(run.config)
    return backend


def reference(run: Run, backend: str | None = None) -> Artifact:
    """Return the FP32 artifact of the configured model, on a backend (by default the configured one)."""
    name = backend or run.config.quantize.backend
    return quantize(run.with_options("quantize", backend=name, recipe=None, **FLOAT))


def subjects(
    run: Run, ids: Sequence[str] | None, reference_id: str | None = None, *, runnable: bool = False
) -> list[Artifact]:
    """Return the selected artifacts, the reference first.

    Parameters
    ----------
    run : Run
        The experiment.
    ids : sequence of str, optional
        Ids, unique prefixes of ids or the hashes at their ends, of artifacts or of predictions imported from another
        machine. If omitted: all artifacts of the configured model.
    reference_id : str, optional
        The reference; by default the FP32 artifact of the same model and backend.
    runnable : bool
        Without ids, leave out those artifacts, the configured one excepted, whose runtime is not available here.
    """
    if ids:
        found = [subject_named(run.workspace, name) for name in ids]
        first = [one for one in artifacts(run.workspace, found[0].model_id) if one.scheme.label == "fp32"]
        first = [one for one in first if one.backend == found[0].backend and not one.decision]
    else:
        first, configured = [reference(run)], quantize(run)
        others = artifacts(run.workspace, configured.model_id)
        found = [configured, *(one for one in others if not (runnable and _left_out(run, one)))]
    if reference_id is not None:
        first = [artifact_named(run.workspace, reference_id)]
    return list({(artifact.id, artifact.answers): artifact for artifact in (*first[:1], *found)}.values())


def _left_out(run: Run, artifact: Artifact) -> bool:
    available = plugins.backend(artifact.backend).availability()
    if not available.can_run:
        run.reporter.say(f"{artifact.id} is left out: {available.reason}")
    return not available.can_run


def _validation(run: Run, model: ExportedModel) -> Validation | None:
    """Return some validation images with their groups and FP32's answers; None where there is no such split."""
    samples = read(run)
    try:
        frame = samples.split(VALIDATION)
    except InputError:
        return None
    store = prepare(run, model.preprocessing)
    frame, rows = store.readable(frame)
    if not len(rows):
        return None
    # Evenly over the split, which may be sorted by group or class.
    chosen = slice(0, COMPARED * (step := max(1, len(rows) // COMPARED)), step)

    def batches() -> Iterator[NDArray[np.float32]]:
        return store.images.batches(rows[chosen], BATCH if model.batch is None else model.batch)

    groups = group_labels(frame.iloc[chosen], samples.features(run.config.quantize.calib_by))
    return Validation(batches, groups, reference_logits(model.path, batches(), usable_cores()), model.task)


def configured_scheme(run: Run) -> Scheme:
    """Return the scheme that the configuration asks for, of its recipe or of its options."""
    asked = run.config.quantize
    if asked.recipe is not None:
        return _checked(read_recipe(asked.recipe))
    if asked.reduce_range and asked.method != "ptq_static":
        raise InputError(f"--reduce-range is for --method ptq_static, not for {asked.method}; leave one of them out.")
    if asked.placement == "measured" and asked.method != "ptq_static":
        raise InputError(
            f"--placement measured is for --method ptq_static, not for {asked.method}; leave one of them out."
        )
    if asked.rescaling == "on" and asked.method in {"ptq_dynamic", "qat"}:
        raise InputError(f"--rescaling on is for --method ptq_static, not for {asked.method}; leave one of them out.")
    if asked.method == "cast":
        return Scheme.cast(asked.precision)
    if asked.method == "none" or asked.bits == 32:
        return Scheme.float32()
    kept = tuple(_kept_float(name) for name in asked.keep_float or ())
    fields = {"method": asked.method, "bits": asked.bits, "act_bits": asked.act_bits, "overrides": kept}
    if asked.method != "ptq_static":
        weights = {"weight_rule": asked.weight_rule} if asked.method == "qat" else {}
        return Scheme.model_validate(fields | {"range_rule": "none"} | weights)
    rules: dict[str, object] = {"range_rule": asked.range_rule, "calib_policy": asked.calib_policy}
    rules |= {"weight_rule": asked.weight_rule, "reduce_range": asked.reduce_range}
    rules |= {"placement": asked.placement, "rescaling": asked.rescaling}
    return _checked(
        Scheme.model_validate(fields | rules | {"bias_correction": asked.bias_correction, "rounding": asked.rounding})
    )


def _checked(scheme: Scheme) -> Scheme:
    """Normalize the names of rules and policies; unknown ones are an InputError."""
    if not scheme.needs_calibration:
        return scheme
    policy = Policy.parse(scheme.calib_policy)
    # minimax is a rule of its own: it weighs no groups, and its ranges are those of least squared error.
    rule = "mse" if policy.name == MINIMAX else scheme.range_rule
    for override in scheme.overrides:
        if override.range_rule is not None:
            Rule.parse(override.range_rule)
        if override.calib_policy is not None:
            Policy.parse(override.calib_policy)
    rule = rule if rule == "auto" else Rule.parse(rule).label
    return scheme.model_copy(update={"range_rule": rule, "calib_policy": policy.label})


def _kept_float(name: str) -> Override:
    roles = get_args(Role)
    return Override(role=name, quantize=False) if name in roles else Override(name=name, quantize=False)


def _check(backend: Backend, scheme: Scheme) -> None:
    require_support(backend, scheme)
    if scheme.placement == "measured":
        require_measurable(backend, scheme)
    available = backend.availability()
    if not available.can_write:
        raise UnavailableError(
            f"the backend {backend.name} is not available here: {available.reason} {available.remedy}"
        )


@dataclass(frozen=True)
class _Source:
    """What an artifact is made of: the FP32 model, or that trained on from it; the calibration set and its record.

    ``floats`` is FP32's artifact, where the placement is chosen by a comparison with it.
    """

    model: ExportedModel
    tuned: ExportedModel | None
    calibration: CalibrationSet | None
    record: Entry[RecordFacts] | None
    floats: Artifact | None = None

    @property
    def quantized(self) -> ExportedModel:
        return self.tuned or self.model

    @property
    def sampler(self) -> str:
        return "" if self.calibration is None else self.calibration.sampler

    @property
    def inputs(self) -> dict[str, str]:
        found = {"model": self.model.id}
        if self.record is not None:
            found |= {"calibration": self.record.manifest.inputs["calibration"], "record": self.record.id}
        return found if self.tuned is None else found | {"tuned": self.tuned.id}


def _written(backend: Backend, source: _Source, scheme: Scheme, out: Path) -> Artifact:
    plan = None
    if not scheme.is_float:
        plan = make_plan(source.quantized, scheme, backend.numerics(scheme), source.calibration)
    written = backend.quantize(source.quantized, scheme, plan, out)
    return replace(written, batch=source.model.batch, task=source.model.task)


def _is_open(scheme: Scheme) -> bool:
    """Whether a scheme leaves a choice to the validation images."""
    chosen = {scheme.range_rule, scheme.bias_correction, scheme.rounding if scheme.has_low_bits else ""}
    return scheme.needs_calibration and "auto" in chosen


def _rescalable(backend: Backend, scheme: Scheme, model: ExportedModel) -> bool:
    """Whether rescaling may matter for a model, and the backend executes it."""
    wanted = scheme.model_copy(update={"rescaling": "on"})
    return support_of(backend, wanted).level is not Level.NO and worth_a_trial(cleaned(model.path), scheme.bits)


def _tell(run: Run, scheme: Scheme, made: Choice, placed: PlacementChoice | None) -> None:
    """Report the choices, and warn if predictions still change too much."""
    kept: Trial | None = None
    if made.trials:
        kept = min(made.trials, key=lambda one: one.score)
        run.reporter.say(f"closest to FP32 of {len(made.trials)} candidates on validation images: {kept.name}")
    if placed is not None:
        run.reporter.say(f"placement kept: {placed.kept.name}; {placed.why}")
        kept = placed.kept.answers
    if kept is not None and (kept.agreement < HOLDS or kept.worst_agreement < HOLDS_IN_A_GROUP):
        worst = f", {1 - kept.worst_agreement:.0%} in the worst group" if kept.worst_group else ""
        run.reporter.say(
            f"WARNING: {scheme.label} changes {1 - kept.agreement:.0%} of the answers on validation images{worst}; "
            "leave sensitive layers in float (`--keep-float head,first`), use more bits, or --method qat."
        )


def _artifact(run: Run, backend: Backend, scheme: Scheme, source: _Source) -> Artifact:
    model, entry, sampler = source.model, source.record, source.sampler
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
            **_measurement(run, source),
            **({"integer_sums": IntegerSums.SATURATING.value} if seven_bits_may_help(run, backend, scheme) else {}),
        },
        inputs=source.inputs,
    )

    label = f"{scheme.label}/{sampler}" if sampler else scheme.label
    try:
        made = run.produce(
            derivation,
            lambda out: _build(run, backend, scheme, source, out),
            f"quantizing {model.name} for {backend.name}: {label}",
        )
    except NothingFaster as refused:
        kept = keep_refused(run, derivation, backend, scheme, refused)
        raise SchemeNotSupported(f"{str(refused)[:-1]}; `fqbench show {kept.id}` lists what was tried.") from refused
    return open_artifact(run.workspace, made)


def _measurement(run: Run, source: _Source) -> dict[str, dict[str, object]]:
    """Return what the times behind a measured placement depend on; nothing where none are taken."""
    return {} if source.floats is None else {"measured_on": measured_on(run, source.floats)}


def _build(run: Run, backend: Backend, scheme: Scheme, source: _Source, out: Path) -> ArtifactFacts:
    """Write an artifact into a folder, with what is open in its scheme chosen on validation images."""
    model, calibration, floats = source.model, source.calibration, source.floats
    validation = _validation(run, model) if _is_open(scheme) or floats is not None else None

    def make(settled: Scheme, folder: Path) -> Artifact:
        return _written(backend, source, settled, folder)

    made = choose(
        scheme,
        validation,
        make,
        lambda artifact, batches: logits_of(artifact, batches, device=run.config.bench.device),
        out,
        rescalable=lambda: _rescalable(backend, scheme, model),
        reducible=seven_bits_may_help(run, backend, scheme),
    )
    placed = None if floats is None else place(run, model, made, floats=floats, validation=validation, make=make)
    _tell(run, scheme, made, placed)
    written = made.artifact if placed is None else placed.artifact
    placement = {} if placed is None else {"placement": placed.to_dict() | _measurement(run, source)}
    return ArtifactFacts(
        backend=backend.name,
        scheme=scheme,
        files=written.files,
        sampler=source.sampler,
        support=support_of(backend, scheme).level,
        model_digest=model.digest,
        task=model.task,
        batch=model.batch,
        groups=calibration.group_counts if calibration is not None else {},
        choice=made.to_dict() | placement,
        details=dict(written.details),
        agreement=None if source.tuned is None else agreement(run, source.tuned, written),
    )
