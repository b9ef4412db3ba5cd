"""What a page is made of: evaluations, the measurement of the same artifacts, and every entry that these came from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from fqbench.contracts.runtime import Level
from fqbench.errors import InputError
from fqbench.fairness import ChangeReport
from fqbench.fairness.evaluated import EvaluatedArtifact, Evaluation
from fqbench.latency.results import LatencyReport, SubjectLatency
from fqbench.report.names import short_names
from fqbench.search.diagnosed import Diagnosis
from fqbench.search.diagnosis import REPORT as DIAGNOSIS
from fqbench.stages.bench import REPORT as LATENCY
from fqbench.stages.evaluate import open_evaluations
from fqbench.workspace import Entry, Workspace
from fqbench.workspace.kinds import (
    BENCHES,
    DIAGNOSES,
    EVALUATIONS,
    KINDS,
    ArtifactFacts,
    BenchFacts,
    CheckpointFacts,
    DiagnosisFacts,
    EvaluationFacts,
    QatModelFacts,
    TrainingFacts,
)

TAKEN = (EVALUATIONS, BENCHES)


@dataclass(frozen=True)
class ReportedArtifact:
    """An artifact of an evaluation, with everything that is known of it.

    Attributes
    ----------
    name : str
        As all tables and figures call it; says so if it is simulated or emulated.
    figures : EvaluatedArtifact
        Its evaluation.
    entry : Entry or None
        Its entry, that of the artifact below it for an artifact with a fitted decision; None where the predictions are
        another program's, or where the entry is gone.
    latency : SubjectLatency or None
        None where it was not timed.
    """

    name: str
    figures: EvaluatedArtifact
    entry: Entry[ArtifactFacts] | None
    latency: SubjectLatency | None

    @property
    def level(self) -> Level:
        """How it was executed when it made the predictions."""
        return self.figures.level

    @property
    def bytes(self) -> float:
        """Size of its files; NaN where there is no entry."""
        if self.entry is None:
            return math.nan
        files = self.entry.manifest.files
        return float(sum(files[name].size for name in self.entry.facts.files if name in files))

    @property
    def sources(self) -> tuple[str, ...]:
        """Ids of its artifact and its predictions."""
        return (self.figures.id, self.figures.predictions_id)


@dataclass(frozen=True)
class View:
    """One evaluation: its subjects, the reference first, and the entry that holds it."""

    evaluation: Evaluation
    entry: Entry[EvaluationFacts]
    subjects: tuple[ReportedArtifact, ...]
    number: int

    @property
    def compared(self) -> tuple[tuple[ReportedArtifact, ChangeReport], ...]:
        """Subjects that were compared with the reference, and what changed."""
        return tuple((one, one.figures.change) for one in self.subjects if one.figures.change is not None)

    @property
    def reference(self) -> ReportedArtifact:
        """What the others are compared with."""
        return self.subjects[0]

    @property
    def title(self) -> str:
        """Which images, and by which groups."""
        evaluation = self.evaluation
        subset = f", only {evaluation.subset}" if evaluation.subset else ""
        attribute = f", {evaluation.attribute}" if evaluation.attribute else ""
        by = " × ".join(evaluation.by) or "nothing"
        return f"{evaluation.data}, {evaluation.split} split{subset}{attribute}, by {by}"

    def named(self, what: str) -> str:
        """Return a name for a figure or table of this view."""
        return what if self.number == 0 else f"{what}-{self.number + 1}"


@dataclass(frozen=True)
class Measurement:
    """A measurement of latency.

    Attributes
    ----------
    entry : Entry
        Where it is.
    report : LatencyReport
        What it holds, for the artifacts on the page, in their order.
    others : tuple of str
        Measurements of the same artifacts that are not shown.
    """

    entry: Entry[BenchFacts]
    report: LatencyReport
    others: tuple[str, ...]


@dataclass(frozen=True)
class Material:
    """Everything that the sections of a page are functions of.

    Attributes
    ----------
    views : tuple of View
        At least one.
    measurement : Measurement or None
        Of the latency of the artifacts.
    diagnoses : tuple of (Entry, Diagnosis)
        Of the artifacts, layer by layer; the newest of each.
    lineage : tuple of Entry
        Everything that the views and the measurement came from, in the order in which it is made.
    missing : tuple of str
        Ids of entries that others were made of and that are no longer in the workspace.
    """

    views: tuple[View, ...]
    measurement: Measurement | None
    diagnoses: tuple[tuple[Entry[DiagnosisFacts], Diagnosis], ...]
    lineage: tuple[Entry[Any], ...]
    missing: tuple[str, ...]

    @property
    def latency(self) -> LatencyReport | None:
        """The latencies of the artifacts, where they were measured."""
        return None if self.measurement is None else self.measurement.report

    @property
    def names(self) -> dict[str, str]:
        """Names of the artifacts by id, as the first view has them that shows an artifact."""
        return {one.figures.id: one.name for view in reversed(self.views) for one in view.subjects}

    @property
    def measured(self) -> tuple[str, ...]:
        """Id of the measurement, where there is one."""
        return () if self.measurement is None else (self.measurement.entry.id,)

    @property
    def roots(self) -> tuple[str, ...]:
        """Ids of the evaluations and of the measurement."""
        return (*dict.fromkeys(view.entry.id for view in self.views), *self.measured)

    @property
    def notices(self) -> tuple[str, ...]:
        """What has to be said of the data."""
        return tuple(dict.fromkeys(view.evaluation.notice for view in self.views if view.evaluation.notice))

    @cached_property
    def trained(self) -> tuple[tuple[Entry[Any], TrainingFacts], ...]:
        """Entries that were trained in this workspace, with the facts of their training."""
        facts = [(entry, entry.facts) for entry in self.lineage]
        return tuple(
            (entry, one.training)
            for entry, one in facts
            if isinstance(one, CheckpointFacts | QatModelFacts) and one.training is not None
        )


def gather(workspace: Workspace, ids: Sequence[str]) -> Material:
    """Collect evaluations and what they came from; nothing is computed.

    Parameters
    ----------
    workspace : Workspace
        Where the entries are.
    ids : sequence of str
        Of evaluations, and of at most one measurement; the newest evaluation where none is named.

    Raises
    ------
    InputError
        There is no evaluation, an id is of another kind, or two measurements are named.
    DataError
        An entry is damaged, or of another version.
    """
    evaluations, benches = _named(workspace, ids)
    found = [(entry, _marked(evaluation)) for entry in evaluations for evaluation in open_evaluations(entry)]
    evaluated = list(dict.fromkeys(one.id for _entry, evaluation in found for one in evaluation.artifacts))
    measurement = _measurement(workspace, benches, evaluated)
    diagnoses = _diagnoses(workspace, evaluated)
    roots = [*evaluations, *([] if measurement is None else [measurement.entry]), *(entry for entry, _one in diagnoses)]
    lineage, missing = lineage_of(workspace, roots)
    latency = None if measurement is None else measurement.report
    views = tuple(
        View(evaluation, entry, _subjects(evaluation, latency, lineage), number)
        for number, (entry, evaluation) in enumerate(found)
    )
    return Material(views, measurement, diagnoses, lineage, missing)


def mark(name: str, level: Level) -> str:
    """Return a name that says so where an artifact is not executed as it would be shipped."""
    return name if level.has_speed else f"{name} ({level.value})"


def _marked(evaluation: Evaluation) -> Evaluation:
    artifacts = tuple(replace(one, label=mark(one.label, one.level)) for one in evaluation.artifacts)
    return replace(evaluation, artifacts=artifacts)


def _named(workspace: Workspace, ids: Sequence[str]) -> tuple[list[Entry[EvaluationFacts]], list[Entry[BenchFacts]]]:
    kinds = {one: workspace.get(one, TAKEN).kind for one in ids}
    evaluations = [workspace.get(one, EVALUATIONS) for one in ids if kinds[one] == EVALUATIONS.name]
    benches = [workspace.get(one, BENCHES) for one in ids if kinds[one] == BENCHES.name]
    if len(benches) > 1:
        named = ", ".join(entry.id for entry in benches)
        raise InputError(f"a page shows one measurement of latency, and {named} are {len(benches)}; name one of them.")
    evaluations = evaluations or workspace.entries(EVALUATIONS)[-1:]
    if not evaluations:
        raise InputError(f"there is no evaluation in {workspace.root} to report; run `fqbench eval` first.")
    return evaluations, benches


def _measurement(
    workspace: Workspace, named: Sequence[Entry[BenchFacts]], artifacts: Sequence[str]
) -> Measurement | None:
    """The measurement that was named, else that of most of the artifacts, of several the newest.

    Subjects that are not on the page are left out, and the others are put in its order.
    """
    wanted = set(artifacts)
    fitting = [entry for entry in workspace.entries(BENCHES) if wanted & set(entry.facts.artifacts)]
    fitting.sort(key=lambda entry: len(wanted & set(entry.facts.artifacts)))
    if not named and not fitting:
        return None
    entry = named[0] if named else fitting[-1]
    report = LatencyReport.open(entry.file(LATENCY))
    known = {subject.id: subject for subject in report.subjects}
    if not wanted & known.keys():
        raise InputError(f"{entry.id} timed none of the artifacts of the evaluation; name another measurement.")
    shown = replace(report, subjects=tuple(known[one] for one in artifacts if one in known))
    return Measurement(entry, shown, tuple(one.id for one in fitting if one.id != entry.id))


def _subjects(
    evaluation: Evaluation, latency: LatencyReport | None, lineage: Iterable[Entry[Any]]
) -> tuple[ReportedArtifact, ...]:
    entries: Mapping[str, Entry[Any]] = {entry.id: entry for entry in lineage}
    timed = {subject.id: subject for subject in latency.subjects} if latency is not None else {}
    artifacts = evaluation.artifacts
    names = short_names([one.label for one in artifacts], [one.id for one in artifacts])
    return tuple(
        ReportedArtifact(name, one, _artifact(entries, one.id), timed.get(one.id))
        for name, one in zip(names, artifacts, strict=True)
    )


def _artifact(entries: Mapping[str, Entry[Any]], identity: str) -> Entry[ArtifactFacts] | None:
    entry = entries.get(identity)
    while entry is not None and not isinstance(entry.facts, ArtifactFacts):
        entry = entries.get(entry.manifest.inputs.get("artifact", ""))
    return entry


def _diagnoses(workspace: Workspace, ids: Sequence[str]) -> tuple[tuple[Entry[DiagnosisFacts], Diagnosis], ...]:
    newest = {entry.facts.artifact: entry for entry in workspace.entries(DIAGNOSES)}
    found = [newest[one] for one in ids if one in newest]
    return tuple((entry, Diagnosis.open(entry.file(DIAGNOSIS))) for entry in found)


def lineage_of(workspace: Workspace, roots: Sequence[Entry[Any]]) -> tuple[tuple[Entry[Any], ...], tuple[str, ...]]:
    """Return the entries that some entries came from, these included, and the ids of those that are gone.

    The manifests are checked; the files of entries that are only named are not read.
    """
    folders = {path.name: (kind, path) for kind, path in workspace.folders()}
    found: dict[str, Entry[Any]] = {entry.id: entry for entry in roots}
    missing: dict[str, None] = {}
    waiting = list(roots)
    while waiting:
        for identity in waiting.pop().manifest.inputs.values():
            if identity in found or identity in missing:
                continue
            if identity not in folders:
                missing[identity] = None
                continue
            kind, path = folders[identity]
            found[identity] = workspace.open(path, kind)
            waiting.append(found[identity])
    order = {kind.name: number for number, kind in enumerate(KINDS)}
    ordered = sorted(found.values(), key=lambda entry: (order[entry.kind], entry.manifest.created, entry.id))
    return tuple(ordered), tuple(missing)
