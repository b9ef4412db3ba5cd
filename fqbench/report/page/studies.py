"""The report on a study: every configuration of a grid, from its table alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

from fqbench.contracts.runtime import Level
from fqbench.report.document import UNDEFINED, Document, Heading, Records, Section, Sheet, Tone, Tones, notes, warnings
from fqbench.report.figures import WITHOUT_A_FIGURE, Axis, Candidate, Dot, DotPlot, Heatmap, Series, TradeOff, front
from fqbench.report.hypotheses import hypotheses_document
from fqbench.report.page.clouds import REFERENCE, cloud_sections, with_losses
from fqbench.report.page.contents import PageContents
from fqbench.report.page.groups import ANSWERS, CHANGE, FULL_COLOUR
from fqbench.report.page.hypotheses import hypotheses_section
from fqbench.report.page.material import lineage_of, mark
from fqbench.report.page.origins import entries_section
from fqbench.report.page.quantities import GAP, LATENCY, OVERALL, SIZE, UP, WORST
from fqbench.study.hypotheses.questions import Answers, answer_hypotheses
from fqbench.study.table import ALL, COLUMNS, PARQUET, read_table
from fqbench.workspace.kinds import STUDIES, StudyFacts

if TYPE_CHECKING:
    import pandas as pd

    from fqbench.workspace import Entry, Workspace

FLOAT_BITS = 32
MODEL_AXES, SCHEME_AXES = ("data", "model", "seed", "backend"), ("sampler", "policy", "mitigation")
# What a trade-off shows, and the measure of the table that it is.
MEASURES = {
    LATENCY.key: ("latency_p50_ms", 1.0, "{:.3f} ms"),
    SIZE.key: ("size_bytes", 1e-6, "{:.2f} MB"),
    WORST.key: ("worst_group_accuracy", 1.0, "{:.1%}"),
    OVERALL.key: ("accuracy", 1.0, "{:.1%}"),
    GAP.key: ("accuracy_gap", 1.0, "{:.1%}"),
}
PARITY = "demographic_parity_difference_change"
COLUMNS_OF_CELLS = (
    "configuration", "verdict", ">accuracy", ">worst group", ">largest loss, points", ">Δ demographic parity, points",
    ">p50 ms", ">speed-up", ">MB", "level",
)  # fmt: skip


@dataclass(frozen=True)
class Configuration:
    """A cell of a study: its coordinates, its figures by group and measure, and the axes that its name needs."""

    row: Mapping[str, Any]
    figures: Mapping[tuple[str, str], Mapping[str, Any]]
    sources: tuple[str, ...]
    named: frozenset[str]

    @property
    def model(self) -> str:
        """What was quantized: those of data, model, seed and runtime that are not the same in the whole study."""
        return self._said(MODEL_AXES) or str(self.row["model"])

    @property
    def scheme(self) -> str:
        """What was done to the model; says so if it is simulated or emulated."""
        row = self.row
        bits = () if row["bits"] == FLOAT_BITS else (f"int{row['bits']}",)
        return mark(" ".join((str(row["method"]), *bits, self._said(SCHEME_AXES))).strip(), self.level)

    @property
    def name(self) -> str:
        """Model and scheme."""
        said = self._said(MODEL_AXES)
        return f"{said}: {self.scheme}" if said else self.scheme

    def _said(self, axes: Sequence[str]) -> str:
        parts = [
            f"seed {self.row[axis]}" if axis == "seed" else str(self.row[axis]) for axis in axes if axis in self.named
        ]
        return " ".join(part for part in parts if part)

    @property
    def level(self) -> Level:
        """How it was executed."""
        return Level(str(self.row["level"]))

    @property
    def is_reference(self) -> bool:
        """Whether the others are compared with it."""
        return not self.row["reference"]

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """Groups whose change of accuracy is known."""
        return tuple(group for group, measure in self.figures if measure == "accuracy_change" and group != ALL)

    def dot(self, measure: str, group: str = ALL, factor: float = 1.0, form: str = "{:.3f}") -> Dot:
        """Return a figure with its interval; undefined where the table has none."""
        found = self.figures.get((group, measure))
        if found is None or math.isnan(found["value"]):
            return Dot(math.nan, math.nan, math.nan, UNDEFINED if found else WITHOUT_A_FIGURE)
        value, low, high = (factor * float(found[end]) for end in ("value", "low", "high"))
        text = form.format(value)
        if not math.isnan(low):
            text += f" [{form.format(low)}, {form.format(high)}]"
        return Dot(value, low, high, text, str(found["verdict"]))

    def change(self, group: str) -> Dot:
        """Return the change of a group's accuracy in points."""
        return self.dot("accuracy_change", group, 100.0, "{:+.1f}")

    @cached_property
    def largest_loss(self) -> tuple[Dot, str] | None:
        """The change of the group that lost most, and its name; None where no change is known."""
        changes = [(self.change(group), group) for group in self.groups]
        known = [one for one in changes if not math.isnan(one[0].value)]
        return min(known, key=lambda one: one[0].value, default=None)

    @property
    def verdict(self) -> tuple[str, Tone]:
        """What is known of its groups, in a few words."""
        if self.is_reference:
            return "reference", "plain"
        changes = [self.change(group) for group in self.groups]
        lost = sum(dot.answer == "different" and dot.value < 0 for dot in changes)
        undecided = sum(dot.answer == "undecided" for dot in changes)
        if lost:
            return f"harms {lost} of {len(changes)} groups", "bad"
        if undecided:
            return f"undecided for {undecided} of {len(changes)}", "open"
        return ("equivalent or better in every group", "good") if changes else ("no groups to compare", "open")


@dataclass(frozen=True)
class StudyMaterial:
    """A study's table, and the entries that it came from; no entry where the table alone is known."""

    entry: Entry[StudyFacts] | None
    table: pd.DataFrame
    lineage: tuple[Entry[Any], ...]
    missing: tuple[str, ...]

    @cached_property
    def facts(self) -> StudyFacts:
        """What its entry says of it; of a table alone, without the cells that failed."""
        if self.entry is not None:
            return self.entry.facts
        table = self.table
        return StudyFacts(study=str(table["study"].iloc[0]), cells=table["cell"].nunique(), rows=len(table), failed={})

    @property
    def sources(self) -> tuple[str, ...]:
        """Id of its entry."""
        return () if self.entry is None else (self.entry.id,)

    @cached_property
    def configurations(self) -> tuple[Configuration, ...]:
        """The cells, in the order of the table."""
        found = []
        for _cell, rows in self.table.groupby("cell", sort=False):
            records = [{str(name): value for name, value in one.items()} for one in rows.to_dict("records")]
            figures = {(str(one["group"]), str(one["measure"])): one for one in records}
            sources = dict.fromkeys(str(one["source"]) for one in records)
            first = next((one for one in records if one["split"]), records[0])
            found.append(Configuration(first, figures, (str(first["artifact"]), *sources), self.varying))
        return tuple(found)

    @cached_property
    def answers(self) -> Answers:
        """The answers of the table to the hypotheses."""
        return answer_hypotheses(self.table)

    @cached_property
    def varying(self) -> frozenset[str]:
        """Axes with more than one value; calibration is left out where nothing is calibrated."""
        values = {axis: set(self.table[axis].unique()) - {""} for axis in (*MODEL_AXES, *SCHEME_AXES)}
        return frozenset(axis for axis, found in values.items() if len(found) > (0 if axis == "mitigation" else 1))

    @property
    def constant(self) -> str:
        """Axes with one value, said once for the whole study."""
        axes = [axis for axis in (*MODEL_AXES, *SCHEME_AXES) if axis not in self.varying]
        known = {axis: [str(value) for value in self.table[axis].unique() if value != ""] for axis in axes}
        return ", ".join(f"{axis} {values[0]}" for axis, values in known.items() if values)


def gather_study(workspace: Workspace, identity: str) -> StudyMaterial:
    """Read a study's table.

    Raises
    ------
    InputError
        There is no such study.
    DataError
        It is damaged, or of another version.
    """
    entry = workspace.get(identity, STUDIES)
    lineage, missing = lineage_of(workspace, [entry])
    return StudyMaterial(entry, read_table(entry.file(PARQUET)), lineage, missing)


def summary_section(material: StudyMaterial) -> Iterator[Section]:
    """Count what was run, what failed, and what harms a group."""
    yield Heading("Summary")
    facts = material.facts
    cells = [one for one in material.configurations if not one.is_reference]
    tones = [one.verdict[1] for one in cells]
    yield from notes(
        f"{facts.cells} configurations, {len(cells)} of them quantized: {tones.count('bad')} harm at least one group "
        f"significantly, {tones.count('good')} are equivalent to their FP32 model or better in every group, and "
        f"{tones.count('open')} are undecided.",
        f"In all of them: {material.constant}." if material.constant else "",
        f"Failed: {len(facts.failed)}, with their reasons below." if facts.failed else "",
    )
    if facts.study.endswith("-debug"):
        yield from warnings("tiny data and short training (--debug): these figures mean nothing.")
    yield from warnings(*dict.fromkeys(str(notice) for notice in material.table["notice"] if notice))


def cells_section(material: StudyMaterial) -> Iterator[Section]:
    """One row per configuration, and those that failed."""
    yield Heading("Configurations")
    rows, tones = [], []
    for one in material.configurations:
        words, tone = one.verdict
        worst = one.largest_loss
        tones.append(tone)
        rows.append(
            (
                one.name, words, one.dot("accuracy").text, one.dot("worst_group_accuracy").text,
                WITHOUT_A_FIGURE if worst is None else f"{worst[0].text} {worst[1]}",
                one.dot(PARITY, ALL, 100.0, "{:+.1f}").text, one.dot("latency_p50_ms").text,
                one.dot("speedup", ALL, 1.0, "{:.2f}x").text, one.dot("size_bytes", ALL, 1e-6, "{:.2f}").text,
                one.level.value,
            )
        )  # fmt: skip
    sources = tuple(one.sources for one in material.configurations)
    how = "Verdicts are on the change of accuracy of each group against the FP32 model of the same training."
    yield Sheet(
        "", COLUMNS_OF_CELLS, tuple(rows), notes(how), tones=Tones(1, tuple(tones)), sources=sources, name="cells"
    )
    failed = material.facts.failed
    if failed:
        yield Sheet("failed", ("configuration", "reason"), tuple(failed.items()), name="failed")


def trade_off_section(material: StudyMaterial) -> Iterator[Section]:
    """Cost and accuracy of every configuration."""
    yield Heading("Trade-offs")
    figure = trade_off(material)
    yield figure
    losses = [_largest_loss(one) for one in material.configurations]
    yield from cloud_sections([with_losses(figure, losses, "trade-offs-in-3d")])


def trade_off(material: StudyMaterial) -> TradeOff:
    """Return cost and accuracy of every configuration, and the fronts."""
    candidates = tuple(_candidate(one) for one in material.configurations)
    across = (LATENCY, SIZE) if any(LATENCY.key in one.dots for one in candidates) else (SIZE,)
    fronts = {f"{x.key}|{y.key}": front(candidates, x, y) for x in across for y in UP}
    best = ", ".join(candidates[number].name for number in fronts[f"{across[0].key}|{WORST.key}"])
    return TradeOff(
        name="trade-offs",
        title="Cost and accuracy of each configuration",
        description=f"No other configuration beats these in {across[0].axis.label} and {WORST.axis.label}: {best}.",
        caption=(
            "The line joins configurations that no other one beats in both quantities, whatever their model. Hollow: "
            "simulated or emulated, which have no speed to compare."
        ),
        sources=material.sources,
        across=across,
        up=UP,
        candidates=candidates,
        fronts=fronts,
    )


def change_section(material: StudyMaterial) -> Iterator[Section]:
    """Change of demographic parity per scheme and model, and change of accuracy per configuration and group."""
    cells = [one for one in material.configurations if not one.is_reference]
    if not cells:
        return
    yield Heading("Change against FP32")
    schemes, models = (list(dict.fromkeys(names)) for names in zip(*((c.scheme, c.model) for c in cells), strict=True))
    known = {(one.scheme, one.model): one.dot(PARITY, ALL, 100.0, "{:+.1f}") for one in cells}
    nothing = Dot(math.nan, math.nan, math.nan, WITHOUT_A_FIGURE)
    yield DotPlot(
        name="change-of-parity",
        title="Change of the demographic parity difference, points",
        description=f"{len(schemes)} schemes and {len(models)} models.",
        caption="Above 0: the difference between groups grew. Intervals of the paired difference.",
        sources=material.sources,
        rows=tuple(schemes),
        axis=Axis("change of the demographic parity difference, points", signed=True),
        series=tuple(
            Series(model, tuple(known.get((scheme, model), nothing) for scheme in schemes)) for model in models
        ),
        answers=ANSWERS,
    )
    for number, by in enumerate(dict.fromkeys(one.groups for one in cells)):
        yield _heatmap(material, [one for one in cells if one.groups == by], by, number)


# In this order.
SECTIONS: tuple[Callable[[StudyMaterial], Iterator[Section]], ...] = (
    summary_section,
    trade_off_section,
    change_section,
    hypotheses_section,
    cells_section,
)


def study_page(material: StudyMaterial, cards: Mapping[str, str] | None = None) -> PageContents:
    """Return the report: page, tables, and the model cards that are given."""
    sections = chain(*(section(material) for section in (*SECTIONS, _origins)))
    whole = Records(tuple(COLUMNS), material.table.to_numpy(dtype=object).tolist())
    facts = material.facts
    return PageContents(
        title=f"Study {facts.study}",
        lead=(f"{facts.cells} configurations", f"{facts.rows:,} figures"),
        document=Document(tuple(sections)),
        entries=material.sources,
        tables={"study": Document((), records=whole), "all-hypotheses": hypotheses_document(material.answers)},
        cards=cards or {},
    )


def _origins(material: StudyMaterial) -> Iterator[Section]:
    if material.entry is not None:
        yield from entries_section(material.lineage, material.missing)
        return
    yield Heading("Where the figures come from")
    yield from notes("A table that was made elsewhere. Ids are those of the workspace that it was made in.")


def _heatmap(material: StudyMaterial, cells: list[Configuration], groups: tuple[str, ...], number: int) -> Heatmap:
    values = tuple(tuple(one.change(group) for group in groups) for one in cells)
    shown = tuple(tuple(Dot(d.value, d.low, d.high, d.text.partition(" ")[0], d.answer) for d in row) for row in values)
    largest = [abs(dot.value) for row in values for dot in row if not math.isnan(dot.value)]
    return Heatmap(
        name="configurations-and-groups" if number == 0 else f"configurations-and-groups-{number + 1}",
        title="Change of accuracy per group, points",
        description=f"{len(cells)} configurations and {len(groups)} groups.",
        caption="Orange: loses accuracy; blue: gains. ● equivalent, ◆ different, ○ undecided.",
        sources=material.sources,
        corner="configuration",
        rows=tuple(one.name for one in cells),
        columns=groups,
        cells=shown,
        axis=CHANGE,
        limit=max([*largest, FULL_COLOUR]),
    )


def _candidate(one: Configuration) -> Candidate:
    dots = {key: one.dot(measure, ALL, factor, form) for key, (measure, factor, form) in MEASURES.items()}
    known = {key: dot for key, dot in dots.items() if not math.isnan(dot.value)}
    if not one.level.has_speed:
        known.pop(LATENCY.key, None)
    return Candidate(one.name, known, hollow=not one.level.has_speed)


def _largest_loss(one: Configuration) -> Dot | None:
    return REFERENCE if one.is_reference else None if one.largest_loss is None else one.largest_loss[0]
