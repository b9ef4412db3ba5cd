"""Model cards in Hugging Face's format: what was quantized how, results per group, and limits of use."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fqbench.optional import require
from fqbench.quant.choice import CHOSEN
from fqbench.report.document import UNDEFINED, Document, Heading, Section, Sheet, notes
from fqbench.report.evaluation import SHOWN_GAPS, verdict_in_words
from fqbench.report.harm import Harm
from fqbench.report.page.summary import verdict_of
from fqbench.report.renderers import markdown
from fqbench.workspace.kinds import ModelFacts

if TYPE_CHECKING:
    from fqbench.fairness import Estimate, GapEstimate
    from fqbench.fairness.results import ChangeRow
    from fqbench.report.page.material import Material, ReportedArtifact, View

EXTRA = "report"
TASK = "image-classification"
TAGS = ("fqbench", "quantization", "fairness")


def model_card(material: Material, identity: str, more: Sequence[Section] = ()) -> str:
    """Return the model card of a quantized artifact, metadata first.

    Parameters
    ----------
    material : Material
        What was gathered from the workspace.
    identity : str
        Id of an artifact that was compared with a reference.
    more : sequence of Section
        What else is said of it, before the limits of use.

    Raises
    ------
    UnavailableError
        huggingface_hub is not installed.
    """
    hub = require("huggingface_hub", extra=EXTRA)
    shown = [(view, one) for view in material.views for one, _change in view.compared if one.figures.id == identity]
    data = hub.ModelCardData(
        model_name=identity,
        pipeline_tag=TASK,
        tags=list(TAGS),
        metrics=["accuracy"],
        eval_results=[hub.EvalResult(**one) for view, subject in shown for one in _results(view, subject)],
    )
    body = markdown.render(Document(tuple(_sections(material, shown, more))))
    # ModelCard reads the metadata back, and refuses what Hugging Face would.
    card = hub.ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}", ignore_metadata_errors=False)
    return str(card)


def _results(view: View, subject: ReportedArtifact) -> Iterator[dict[str, Any]]:
    """Results in the fields of Hugging Face's model index; an undefined figure is left out."""
    evaluation, report = view.evaluation, subject.figures.report
    where = {
        "task_type": TASK,
        "dataset_type": evaluation.data,
        "dataset_name": f"{evaluation.data}{f', only {evaluation.subset}' if evaluation.subset else ''}"
        f"{f', {evaluation.attribute}' if evaluation.attribute else ''}",
        "dataset_split": evaluation.split,
    }
    for row in (report.overall, *report.groups):
        if not math.isnan(row.accuracy.value):
            group = {} if row is report.overall else {"metric_args": {"group": row.group}}
            name = "accuracy" if row is report.overall else f"accuracy of {row.group}"
            yield {
                **where, **group, "metric_type": "accuracy", "metric_name": name,
                "metric_value": round(row.accuracy.value, 6),
            }  # fmt: skip


def _sections(
    material: Material, shown: list[tuple[View, ReportedArtifact]], more: Sequence[Section]
) -> Iterator[Section]:
    view, subject = shown[0]
    yield Heading(subject.figures.id, level=1)
    words, _tone = verdict_of(subject.figures.change)
    yield from notes(
        f"A quantized image classifier. Compared with {view.reference.name} on {view.title}, it {_verb(words)}. "
        "Every figure below was measured by fqbench and can be found by the ids at the end."
    )
    yield from _quantization(material, subject)
    for one_view, one in shown:
        yield from _groups(one_view, one)
    yield from _speed(material, subject)
    yield from more
    yield Heading("Limits of use")
    yield from notes(*(f"- {sentence}" for sentence in limits(material, shown)))
    yield Heading("How it was made")
    origins = _origins(material, shown)
    rows = tuple((one.kind, one.id, one.digest[:16]) for one in material.lineage if one.id in origins)
    yield Sheet("", ("kind", "id", "SHA-256 begins with"), rows)


def _verb(words: str) -> str:
    return words if words.startswith("harms") else f"is {words}"


def _quantization(material: Material, subject: ReportedArtifact) -> Iterator[Section]:
    entry = subject.entry
    yield Heading("Quantization")
    if entry is None:
        yield from notes("Its entry is not in the workspace, so how it was quantized is not known.")
        return
    facts, scheme = entry.facts, entry.facts.scheme
    rows = [
        ("runtime", subject.figures.runtime),
        ("execution", f"{subject.level.value}; the runtime's own support: {facts.support.value}"),
        ("method", scheme.method.value),
        ("bits of weights, of activations", f"{scheme.bits}, {scheme.act_bits}"),
    ]
    rows += [(name.replace("_", " "), str(facts.choice[name])) for name in CHOSEN if facts.choice.get(name)]
    if "placement" in facts.choice:
        rows.append(("placement, by measurement", facts.choice["placement"]["kept"]))
    calibration = facts.details.get("calibration")
    if calibration:
        images = sum(facts.groups.values())
        rows.append(("calibration", f"{images} images by sampler {facts.sampler!r}, policy {calibration['policy']}"))
        rows.append(("calibration images", ", ".join(f"{group} {count}" for group, count in facts.groups.items())))
    rows += [("exception", override.model_dump_json(exclude_none=True)) for override in scheme.overrides]
    rows.append(("size", f"{subject.bytes / 1e6:.2f} MB"))
    rows += _model(material, entry.manifest.inputs.get("model"))
    yield Sheet("", ("what", "how"), tuple(rows))


def _model(material: Material, source: str | None) -> Iterator[tuple[str, str]]:
    for entry in material.lineage:
        if entry.id == source and isinstance(entry.facts, ModelFacts):
            sizes = entry.facts.preprocessing.size
            yield "FP32 model", entry.facts.architecture or entry.facts.model
            yield "input size, pixels", str(sizes)
            yield "classes", ", ".join(entry.facts.classes)


def _groups(view: View, subject: ReportedArtifact) -> Iterator[Section]:
    report, change = subject.figures.report, subject.figures.change
    if change is None:
        return
    yield Heading(f"Results: {view.title}")
    yield from notes(view.evaluation.notice)
    rows = []
    for row, changed in zip((*report.groups, report.overall), (*change.groups, change.overall), strict=True):
        rows.append((row.group, str(row.n), _rate(row.accuracy), _points(changed), changed.verdict.answer))
    accuracy, changed_by = (
        f">accuracy, {report.confidence:.0%} interval",
        f">change against {view.reference.name}, points",
    )
    columns = ("group", ">images", accuracy, changed_by, "verdict")
    below = notes(verdict_in_words(view.reference.name, subject.name, change))
    yield Sheet("", columns, tuple(rows), below)
    gaps = tuple((title, _rate(report.gaps[key])) for key, title in SHOWN_GAPS.items())
    yield Sheet("", ("gap between groups", f">value, {report.confidence:.0%} interval"), gaps)


def _speed(material: Material, subject: ReportedArtifact) -> Iterator[Section]:
    yield Heading("Speed")
    timed, latency = subject.latency, material.latency
    if timed is None or latency is None:
        yield from notes("Its latency has not been measured.")
    elif timed.speedup is None:
        yield from notes(f"It was {timed.facts.level.value} when it was timed, so there is no speed to report.")
    else:
        one, ratio = timed.p50_ms, timed.speedup
        yield from notes(
            f"p50 {one.value:.3f} ms [{one.low:.3f}, {one.high:.3f}] at batch {latency.batch} with "
            f"{timed.facts.threads} thread(s) on {latency.machine.cpu}; {ratio.value:.2f} times "
            f"[{ratio.low:.2f}, {ratio.high:.2f}] the speed of {material.views[0].reference.name}, measured in turns."
        )


def limits(material: Material, shown: list[tuple[View, ReportedArtifact]]) -> Iterator[str]:
    """Yield what must not be concluded from the figures, one sentence each."""
    subject = shown[0][1]
    yield from material.notices
    if not subject.level.has_speed:
        yield (
            f"The answers were {subject.level.value}: the runtime that would ship the model did not give them, and "
            "its accuracy and speed may differ."
        )
    for _view, one in shown:
        yield from _limits_of_groups(one)
    features = list(dict.fromkeys(feature for view, _one in shown for feature in view.evaluation.by))
    measured = f"Groups were formed by {', '.join(features)}" if features else "No groups were formed"
    yield f"{measured}; nothing is known about other features, other data, or a shift of the data in use."
    if subject.latency is not None and material.latency is not None:
        yield f"The latency holds for {material.latency.machine.cpu} and batch {material.latency.batch} only."
    yield "No license is stated: add that of the FP32 model and of its training data before you publish this card."


def _limits_of_groups(subject: ReportedArtifact) -> Iterator[str]:
    if subject.figures.change is None:
        return
    harm = Harm(subject.figures.change)
    if harm.harmed:
        named = ", ".join(f"{row.group} ({_points(row)} points)" for row in harm.harmed)
        yield f"Do not use it where these groups matter: they lose accuracy significantly: {named}."
    if harm.undecided:
        needed = harm.images_needed
        enough = f"; about {needed:,.0f} images per group would decide" if math.isfinite(needed) else ""
        yield f"Harm is neither shown nor excluded for {', '.join(row.group for row in harm.undecided)}{enough}."
    small = [row.group for row in harm.change.groups if row.small]
    if small:
        yield f"Fewer than 30 images of {', '.join(small)}: their figures say little."


def _origins(material: Material, shown: list[tuple[View, ReportedArtifact]]) -> set[str]:
    """Ids of the entries that the card's figures came from, without those of other artifacts."""
    entries = {entry.id: entry for entry in material.lineage}
    waiting = [name for _view, subject in shown for name in subject.sources]
    found = {view.entry.id for view, _subject in shown}
    if shown[0][1].latency is not None and material.measurement is not None:
        found.add(material.measurement.entry.id)
    while waiting:
        name = waiting.pop()
        if name in entries and name not in found:
            found.add(name)
            waiting += entries[name].manifest.inputs.values()
    return found


def _rate(one: Estimate | GapEstimate) -> str:
    return UNDEFINED if math.isnan(one.value) else f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"


def _points(row: ChangeRow) -> str:
    one = row.accuracy
    if math.isnan(one.value):
        return UNDEFINED
    return f"{100 * one.value:+.2f} [{100 * one.low:+.2f}, {100 * one.high:+.2f}]"
