"""Search: the fastest or smallest artifact that keeps every group within limits, judged once on the test split."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from fqbench import plugins
from fqbench.catalogue import artifacts
from fqbench.contracts.artifacts import ExportedModel
from fqbench.contracts.scheme import Method, Scheme
from fqbench.data.samples import group_labels
from fqbench.errors import InputError, UnavailableError
from fqbench.gate import GateOptions, GateReport, read_gate
from fqbench.machine import this_machine, usable_cores
from fqbench.quant.recipe import write_recipe
from fqbench.reference_executor import reference_logits
from fqbench.run import Run
from fqbench.search.budget import Budget
from fqbench.search.diagnose import settled_scheme
from fqbench.search.diagnosis import BATCH, IMAGES
from fqbench.search.feasibility import (
    require_decidable,
    require_possible_size,
    require_two_halves,
    unseen_groups,
)
from fqbench.search.finalists import claim_of, front, ordered, pick, report_of, selected
from fqbench.search.forecast import Forecaster
from fqbench.search.images import SPLIT, ValidationImages, validation_images
from fqbench.search.request import Request
from fqbench.search.results import REPORT, FinalistReport, SearchReport, ShownGain, TrialReport
from fqbench.search.trials import BudgetSpent, Trials, answers_on, has_speed, objective_of
from fqbench.search.walk import Walk
from fqbench.stages.bench import bench
from fqbench.stages.export import export
from fqbench.stages.gate import REPORT as VERDICT
from fqbench.stages.gate import gate_entry
from fqbench.stages.named import check_columns
from fqbench.stages.prepare import prepare
from fqbench.stages.quantize import configured_scheme, named_backend, reference
from fqbench.stages.read import read, read_entry
from fqbench.workspace import Derivation
from fqbench.workspace.kinds import ARTIFACTS, EVALUATIONS, SEARCHES, SearchFacts

RECIPE = "recipe.yaml"
MOST_IMAGES = 4000  # validation images, of each group as many as of the others


def search(run: Run, asked: Request) -> tuple[SearchReport, str]:
    """Search, or return the stored result of the same search; with the id of its entry.

    A killed search goes on: the artifacts of finished trials are found in the workspace.

    Raises
    ------
    InputError
        The limits cannot be read, or contradict the model or the options.
    DataError
        Groups are too small to decide a limit.
    GateFailed
        FP32 itself does not keep a limit.
    UnavailableError
        None of the runtimes is available here.
    """
    options = read_gate(asked.limits)
    run = run.with_options("eval", intersect=True, control=None, split="test", threshold=None)
    run = run.with_options("quantize", recipe=None, keep_float=None)
    named_backend(run, configured_scheme(run))
    backends, notes = _backends(run, asked)
    samples = read(run)
    samples.require_one_label("search")
    check_columns(run, samples)
    model = export(run)
    require_possible_size(options, model, asked.bits)
    derivation = Derivation(
        kind=SEARCHES,
        slug=f"{model.name}-{asked.minimize}",
        determined_by={
            "model": model.digest,
            "samples": read_entry(run).digest,
            "prepared": prepare(run, model.preprocessing).entry.digest,
            "artifacts": ARTIFACTS.version,  # trials of an older fqbench can no longer be used
            "limits": options.model_dump(mode="json"),
            "asked": {"minimize": asked.minimize, "bits": asked.bits, "budget": asked.budget, "seed": asked.seed},
            "training": _training(run) if asked.allow_training else None,
            "backends": [[name, plugins.backend(name).availability().writes_with] for name in backends],
            "options": {
                part: getattr(run.config, part).model_dump(mode="json") for part in ("quantize", "eval", "bench")
            },
            "machine": this_machine().to_dict()
            if options.limits.needs_latency or asked.minimize == "latency"
            else None,
        },
        inputs={"model": model.id, "samples": read_entry(run).id},
    )

    def build(out: Path) -> SearchFacts:
        report = _Search(run, asked, options, model, run.workspace.scratch(derivation)).go(backends, notes)
        report.save(out / REPORT)
        (out / RECIPE).write_text(report.recipe, encoding="utf-8")
        return SearchFacts(
            chosen=report.chosen, passed=report.passed, trials=len(report.trials), looks=1, gate=report.gate_id
        )

    entry = run.produce(derivation, build, f"searching the {_superlative(asked.minimize)} artifact within limits")
    return SearchReport.open(entry.file(REPORT)), entry.id


def _training(run: Run) -> dict[str, object]:
    """Return the options that quantization-aware training depends on."""
    return {part: getattr(run.config, part).model_dump(mode="json") for part in ("qat", "train", "objectives")}


def _superlative(objective: str) -> str:
    return {"latency": "fastest", "size": "smallest"}[objective]


def _backends(run: Run, asked: Request) -> tuple[tuple[str, ...], list[str]]:
    """Return the runtimes that can be used here, the configured one first, and a sentence for each that cannot."""
    configured = run.config.quantize.backend
    known = plugins.installed(plugins.BACKENDS)
    wanted = asked.backends or tuple(sorted(known, key=lambda name: name != configured))
    usable, notes = [], []
    for name in wanted:
        available = plugins.backend(name).availability()
        if available.can_run and available.can_write:
            usable.append(name)
        else:
            notes.append(f"{name} is left out: {available.reason} {available.remedy}".strip())
    if not usable:
        raise UnavailableError(f"none of the runtimes can be used here: {' '.join(notes)}")
    return tuple(usable), notes


class _Search:
    """One search while it runs."""

    def __init__(self, run: Run, asked: Request, options: GateOptions, model: ExportedModel, kept: Path) -> None:
        self.run, self.asked, self.options, self.model = run, asked, options, model
        self.samples = read(run)
        images = validation_images(run, model)
        self.images = images.few(MOST_IMAGES, asked.seed) if len(images) > MOST_IMAGES else images
        self.choosing, self.confirming = self.images.halves(asked.seed)
        require_two_halves(self.choosing, self.confirming)
        by = self.samples.features(run.config.eval.by)
        groups, test = self.samples.groups(by), group_labels(self.samples.split("test"), by)
        self.test_images = {group: int((test == group).sum()) for group in groups}
        self.features = by
        self.objective = objective_of(asked.minimize)
        self.trials = Trials(
            run=run,
            forecaster=self._forecaster(self.choosing),
            images=self.images,
            budget=Budget(asked.budget, kept),
            max_mb=options.limits.max_mb,
        )

    def go(self, backends: Sequence[str], notes: Sequence[str]) -> SearchReport:
        undecided = require_decidable(self.options, self.trials.forecaster)
        for note in (*notes, *undecided, *unseen_groups(self.test_images, self.choosing, self.confirming)):
            self.trials.say(note)
        spent = False
        try:
            self._walk(backends)
        except BudgetSpent:
            spent = True
            self.trials.say(f"the budget of {self.asked.budget:g} s is spent after {len(self.trials.done)} trials.")
        seconds = self.trials.budget.used
        if not any(not one.failed for one in self.trials.done):
            reasons = [one.failed for one in self.trials.done[:1]] or self.trials.steps[-1:]
            raise InputError(f"no candidate could be made and run: {' '.join(reasons)}")
        return self._judged(seconds, spent)

    def _walk(self, backends: Sequence[str]) -> None:
        bits = tuple(sorted(self.asked.bits, reverse=True))
        few = self.choosing.few(IMAGES, self.asked.seed)
        walks = [Walk(self.trials, name, bits, self.asked.minimize, few) for name in backends]
        started = [walk for walk in walks if walk.begin() is not None]
        for walk in sorted(started, key=lambda walk: self.objective(walk.start) if walk.start else ()):
            walk.go()
        if self.asked.allow_training:
            self._train([walk.backend for walk in started], bits)

    def _train(self, backends: Sequence[str], bits: Sequence[int]) -> None:
        """Try quantization-aware training where nothing else keeps the limits, or where it could be smaller."""
        if not self.model.architecture:
            self.trials.say(
                f"{self.model.name} is an ONNX file, which cannot be trained: --allow-training is left out."
            )
            return
        best = self.trials.best(self.objective)
        for name in backends:
            for each in bits:
                if best is not None and not self._could_be_smaller(best, each):
                    continue
                if not has_speed(name, Scheme(method=Method.QAT, bits=each, range_rule="none")):
                    self.trials.say(f"{name} does not run {each}-bit weights of QAT in integer kernels.")
                    continue
                found = self.trials.trained(name, each, f"{each} bits, trained with quantization")
                if not found.harmless or (found.keeps and self.asked.minimize == "latency"):
                    break  # fewer bits would harm more, or win nothing

    def _could_be_smaller(self, best: TrialReport, bits: int) -> bool:
        """Whether an artifact with these bits everywhere would be smaller than the best one."""
        own = Scheme.model_validate_json(best.scheme)
        return self.asked.minimize == "size" and (bits < own.bits or (bits == own.bits and bool(own.overrides)))

    def _judged(self, seconds: float, spent: bool) -> SearchReport:
        """Confirm and measure the finalists, choose one of them, and have the test split judge it, once."""
        finalists = self._finalists(pick(self.trials.done, self.objective))
        winner = selected(finalists)
        chosen = self.trials.done[self._number(winner.artifact_id) - 1]
        claim = self._claim(chosen, len(finalists))
        earlier = self._earlier_looks()
        state = "the confirming images agree" if winner.kept else "the confirming images speak against it"
        self.trials.say(f"chosen: {chosen.label}; {state}. The test split judges it now, the only look of this search.")
        reference(self.run, chosen.backend)
        verdict, gate_id = self._verdict(chosen)
        return SearchReport(
            objective=self.asked.minimize,
            limits=self.options.limits.model_dump(exclude_none=True),
            images={"choosing": self.choosing.counts, "confirming": self.confirming.counts, "test": self.test_images},
            trials=tuple(self.trials.done),
            finalists=finalists,
            front=front(self.trials.done),
            chosen=chosen.artifact_id,
            recipe=self._recipe(chosen),
            claim=claim,
            gate=verdict,
            gate_id=gate_id,
            earlier_looks=earlier,
            steps=tuple(self.trials.steps),
            seconds=seconds,
            spent=spent,
            notice=self.samples.notice,
        )

    def _finalists(self, picked: Sequence[TrialReport]) -> tuple[FinalistReport, ...]:
        forecaster = self._forecaster(self.confirming)
        latency = None
        made = [self.trials.artifact(one) for one in picked]
        if self.asked.minimize == "latency" or self.options.limits.needs_latency:
            first = {one.backend: reference(self.run, one.backend) for one in picked}
            latency = bench(self.run.with_options("eval", split=SPLIT), [*first.values(), *made])
        found = []
        for artifact in made:
            logits = answers_on(self.run, artifact, self.confirming, self.images)
            outlooks = forecaster.of(logits).outlooks + self.trials.size_outlook(artifact.size_on_disk)
            found.append(report_of(artifact, outlooks, self.options, latency))
        return ordered(found, self.trials.done, self.asked.minimize)

    def _claim(self, chosen: TrialReport, looks: int) -> ShownGain | None:
        """Compare the chosen artifact with the best uniform one of its bits and backend: what was mended."""
        made = [one for one in self.trials.done if not one.failed and one.backend == chosen.backend]
        uniform = [one for one in made if Scheme.model_validate_json(one.scheme).method is not Method.QAT]
        own = [one for one in uniform if _uniform_bits(one) == _bits(chosen)]
        baseline = min(own or uniform, key=lambda one: one.score)
        if baseline.artifact_id == chosen.artifact_id:
            return None
        forecaster = self._forecaster(self.confirming)
        effects = [
            forecaster.of(answers_on(self.run, self.trials.artifact(one), self.confirming, self.images)).effects
            for one in (baseline, chosen)
        ]
        return claim_of(
            (baseline.artifact_id, effects[0]),
            (chosen.artifact_id, effects[1]),
            self.confirming.groups,
            baseline.worst_group,
            confidence=self.options.confidence,
            looks=looks,
        )

    def _verdict(self, chosen: TrialReport) -> tuple[GateReport, str]:
        entry = gate_entry(self.run, self.asked.limits, [chosen.artifact_id])
        return GateReport.open(entry.file(VERDICT)), entry.id

    def _earlier_looks(self) -> int:
        """Count evaluations of this model's artifacts on this test split that the workspace holds."""
        mine = {one.id for one in artifacts(self.run.workspace, self.model.id)}
        return sum(
            bool(mine & set(entry.facts.artifacts))
            and entry.manifest.determined_by["samples"] == read_entry(self.run).digest
            and entry.manifest.determined_by["options"]["split"] == "test"
            for entry in self.run.workspace.entries(EVALUATIONS)
        )

    def _recipe(self, chosen: TrialReport) -> str:
        with tempfile.TemporaryDirectory(prefix="fqbench-recipe-") as folder:
            file = Path(folder) / RECIPE
            write_recipe(settled_scheme(self.run, chosen.artifact_id), file)
            return file.read_text(encoding="utf-8")

    def _forecaster(self, images: ValidationImages) -> Forecaster:
        size = self.model.batch_size(BATCH)
        positive = self.run.config.eval.positive
        if positive is None and len(self.samples.classes) == 2:
            positive = self.samples.classes[-1]
        return Forecaster(
            options=self.options,
            images=images,
            reference=reference_logits(self.model.path, images.batches(size), usable_cores()),
            test_images=self.test_images,
            classes=self.samples.classes,
            features=self.features,
            positive=positive,
        )

    def _number(self, artifact_id: str) -> int:
        return next(one.number for one in self.trials.done if one.artifact_id == artifact_id)


def _bits(trial: TrialReport) -> int:
    return Scheme.model_validate_json(trial.scheme).bits


def _uniform_bits(trial: TrialReport) -> int:
    """Return the bits of a trial without overrides, 0 for one with them."""
    scheme = Scheme.model_validate_json(trial.scheme)
    return 0 if scheme.overrides else scheme.bits
