"""Sections on where the artifacts come from: calibration, training, and every entry with its hash and versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fqbench.machine import Machine
from fqbench.report.calibration import SHOWN, largest_differences
from fqbench.report.document import Heading, Section, Sheet, notes, warnings
from fqbench.report.figures import Axis, Dot, Heatmap, Line, Lines
from fqbench.report.names import short_ids
from fqbench.workspace.kinds import PredictionFacts

if TYPE_CHECKING:
    from fqbench.report.page.material import Material
    from fqbench.workspace import Entry

CLIPPED = Axis("values clipped, %")


def calibration_section(material: Material) -> Iterator[Section]:
    """Which share of each group's activations the ranges clip."""
    found = _calibrated(material)
    if not found:
        return
    yield Heading("Calibration")
    yield from notes(
        "Activation ranges are chosen on calibration images. Values outside a range are clipped, which harms a group "
        "more if its activations are larger."
    )
    yield _mean_clipping(found)
    for one in found:
        yield Heading(f"Tensors of {one.name}", level=3, folded=True)
        yield _tensors(one)


def training_section(material: Material) -> Iterator[Section]:
    """Loss and accuracy per epoch of what was trained in this workspace."""
    yield Heading("Training")
    if not material.trained:
        yield from notes("Nothing was trained in this workspace: the weights were brought from elsewhere.")
        return
    yield from (_training(material, curves) for curves in (LOSSES, ACCURACIES))
    rows = tuple(
        (
            entry.id, training.model, str(training.seed), str(len(training.epochs)), str(training.best_epoch),
            f"{training.val_accuracy:.3f}", f"{training.worst_group_accuracy:.3f}", training.worst_group,
            training.device, training.precision,
        )
        for entry, training in material.trained
    )  # fmt: skip
    columns = (
        "checkpoint", "model", ">seed", ">epochs", ">best epoch", ">validation accuracy", ">of the worst group",
        "worst group", "device", "precision",
    )  # fmt: skip
    sources = tuple((entry.id,) for entry, _training in material.trained)
    yield Sheet("", columns, rows, sources=sources, name="training")


def origins_section(material: Material) -> Iterator[Section]:
    """Every entry that a figure or a table came from."""
    yield from entries_section(material.lineage, material.missing)
    yield _machines(material)


def entries_section(lineage: Sequence[Entry[Any]], missing: Sequence[str]) -> Iterator[Section]:
    """Entries with hash, time and command, and the versions of the libraries that made them."""
    yield Heading("Where the figures come from")
    yield from notes("Each figure and row above links to the entries of the workspace that it was made of.")
    rows = tuple(
        (
            entry.kind, entry.id, entry.manifest.created[:16].replace("T", " "), f"{entry.manifest.seconds:.1f}",
            str(entry.manifest.stage_version), entry.digest, entry.manifest.command,
        )
        for entry in lineage
    )  # fmt: skip
    columns = ("kind", "id", "created (UTC)", ">seconds", ">stage version", "SHA-256 of its files", "command")
    lost = f"no longer in the workspace: {', '.join(missing)}." if missing else ""
    yield Sheet("entries", columns, rows, warnings(lost), name="entries", anchors=1)
    yield _versions(lineage)


@dataclass(frozen=True)
class _Calibrated:
    """An artifact that was calibrated: its name, its id, and what was observed."""

    name: str
    id: str
    facts: Mapping[str, Any]

    @property
    def tensors(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = self.facts["tensors"]
        return found

    def mean(self, group: str) -> float | None:
        """Share of a group's values that are clipped, mean over tensors."""
        shares = [tensor["clipped"][group] for tensor in self.tensors.values() if group in tensor["clipped"]]
        return sum(shares) / len(shares) if shares else None


def _calibrated(material: Material) -> list[_Calibrated]:
    found = {}
    for subject in (subject for view in material.views for subject in view.subjects):
        facts = None if subject.entry is None else subject.entry.facts.details.get("calibration")
        if subject.entry is not None and facts:
            found[subject.entry.id] = _Calibrated(subject.name, subject.entry.id, facts)
    return list(found.values())


def _mean_clipping(found: Sequence[_Calibrated]) -> Heatmap:
    groups = list(dict.fromkeys(group for one in found for group in one.facts["groups"]))
    cells = tuple(tuple(_per_cent(one.mean(group)) for one in found) for group in groups)
    return Heatmap(
        name="clipping-per-group",
        title="Share of activations that are clipped, mean over tensors, %",
        description=f"{len(groups)} calibration groups and {len(found)} artifacts, in per cent.",
        caption="On calibration images. A row that stands out is a group that the ranges do not fit.",
        sources=tuple(one.id for one in found),
        corner="group",
        rows=tuple(groups),
        columns=tuple(one.name for one in found),
        cells=cells,
        axis=CLIPPED,
        limit=_largest(cells),
    ).upright


def _tensors(one: _Calibrated) -> Heatmap:
    ranked = largest_differences(one.tensors)[:SHOWN]
    groups = tuple(one.facts["groups"])
    cells = tuple(tuple(_per_cent(tensor["clipped"].get(group)) for group in groups) for _name, tensor in ranked)
    return Heatmap(
        name=f"clipping-{one.id}",
        title=f"Clipped values of {one.name}, per tensor and group, %",
        description=f"{len(ranked)} tensors and {len(groups)} groups, in per cent.",
        caption=(
            f"The {len(ranked)} of {len(one.tensors)} tensors with the largest differences between groups. "
            f"Policy {one.facts['policy']}, range rule {one.facts['rule']}."
        ),
        sources=(one.id,),
        corner="tensor",
        rows=tuple(name for name, _tensor in ranked),
        columns=groups,
        cells=cells,
        axis=CLIPPED,
        limit=_largest(cells),
    )


def _per_cent(share: float | None) -> Dot:
    nan = float("nan")
    return Dot(nan, nan, nan, "-") if share is None else Dot(100 * share, nan, nan, f"{share:.3%}".removesuffix("%"))


def _largest(cells: tuple[tuple[Dot, ...], ...]) -> float:
    """The colour is full at the largest share, but never for less than a thousandth of a per cent."""
    return max((dot.value for row in cells for dot in row if dot.value > 0), default=0.001)


def _labels(material: Material) -> list[str]:
    ids = [entry.id for entry, _training in material.trained]
    names = [f"{training.model}, seed {training.seed}" for _entry, training in material.trained]
    if len(set(names)) == len(names):
        return names
    return [f"{name} #{short}" for name, short in zip(names, short_ids(ids), strict=True)]


@dataclass(frozen=True)
class _Curves:
    """A figure of training: its title and caption, and the fields of an epoch, each named, dashed or not."""

    name: str
    title: str
    caption: str
    up: Axis
    fields: Mapping[str, tuple[str, bool]]


LOSSES = _Curves(
    "training-loss",
    "Loss per epoch",
    "Dashed: training images.",
    Axis("loss"),
    {"training": ("train_loss", True), "validation": ("val_loss", False)},
)
ACCURACIES = _Curves(
    "training-accuracy",
    "Validation accuracy per epoch",
    "Dashed: the group with the lowest accuracy of that epoch.",
    Axis("validation accuracy", percent=True),
    {"all images": ("val_accuracy", False), "worst group": ("worst_group_accuracy", True)},
)


def _training(material: Material, curves: _Curves) -> Lines:
    lines = [
        Line(
            f"{label}: {what}",
            tuple(float(epoch.epoch) for epoch in training.epochs),
            tuple(float(getattr(epoch, field)) for epoch in training.epochs),
            dashed=dashed,
            colour=number,
        )
        for number, ((_entry, training), label) in enumerate(zip(material.trained, _labels(material), strict=True))
        for what, (field, dashed) in curves.fields.items()
    ]
    last = [f"{line.name} {line.ys[-1]:.3f}" for line in lines if line.ys]
    return Lines(
        name=curves.name,
        title=curves.title,
        description=f"After the last epoch: {', '.join(last)}.",
        caption=curves.caption,
        sources=tuple(entry.id for entry, _training in material.trained),
        across=Axis("epoch"),
        up=curves.up,
        lines=tuple(lines),
        points=True,
    )


def _versions(lineage: Sequence[Entry[Any]]) -> Sheet:
    """Each library once, with all versions that made one of the entries."""
    found: dict[str, dict[str, None]] = {}
    for entry in lineage:
        for library, version in entry.manifest.versions.items():
            found.setdefault(library, {})[version] = None
    rows = tuple((library, ", ".join(versions)) for library, versions in sorted(found.items()))
    return Sheet("versions of the libraries that made them", ("library", "version"), rows, name="versions")


def machines_of(lineage: Sequence[Entry[Any]]) -> dict[Machine, list[str]]:
    """Return where predictions were made, with their ids."""
    found: dict[Machine, list[str]] = {}
    for entry in lineage:
        if isinstance(entry.facts, PredictionFacts):
            found.setdefault(entry.facts.machine, []).append(entry.id)
    return found


def _machines(material: Material) -> Sheet:
    """Where predictions and latencies were made."""
    found = machines_of(material.lineage)
    if material.measurement is not None:
        found.setdefault(material.measurement.report.machine, []).append(material.measurement.entry.id)
    rows = tuple(
        (machine.cpu, str(machine.cores), ", ".join(machine.features) or "-", machine.system, machine.python)
        for machine in found
    )
    sources = tuple(tuple(ids) for ids in found.values())
    columns = ("CPU", ">cores", "integer instructions", "system", "Python")
    return Sheet("machines that answered", columns, rows, sources=sources, name="machines")
