"""A study as a document: its plan, how far it has come, and its table in short."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fqbench.report.document import UNDEFINED, Document, Heading, Records, Section, Sheet, notes, warnings
from fqbench.storage import finite_or_none
from fqbench.study.progress import told
from fqbench.study.table import ALL, COLUMNS, CSV, PARQUET

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from fqbench.study.cells import Cell
    from fqbench.study.runner import StudyResult, StudyStatus

# Columns of the table in short: measure, heading, factor, format.
SHOWN = (
    ("accuracy", ">accuracy", 1.0, ".3f"),
    ("worst_group_accuracy", ">worst group", 1.0, ".3f"),
    ("demographic_parity_difference", ">DP difference", 1.0, ".3f"),
    ("demographic_parity_difference_change", ">Δ DP, points", 100.0, "+.2f"),
    ("equalized_odds_difference", ">EO difference", 1.0, ".3f"),
    ("latency_p50_ms", ">p50 ms", 1.0, ".2f"),
    ("speedup", ">speed-up", 1.0, ".2f"),
    ("size_bytes", ">MB", 1e-6, ".2f"),
)
NO_SPEED = "simulated or emulated: no speed-up"


def plan_document(name: str, cells: Sequence[Cell]) -> Document:
    """Return the cells of a study with their ids, as ``--dry-run`` lists them."""
    phases = Counter(cell.phase.value for cell in cells)
    rows = tuple((cell.id, cell.phase.value) for cell in cells)
    said = ", ".join(f"{phase} {count}" for phase, count in phases.items())
    sheet = Sheet("", ("cell", "phase"), rows, notes(f"{len(cells)} cells: {said}; nothing was run."))
    value = {"study": name, "cells": [{"id": cell.id, "phase": cell.phase.value, "name": cell.name} for cell in cells]}
    return Document((Heading(f"study {name}"), sheet), value)


def status_document(status: StudyStatus) -> Document:
    """Return how far a study has come."""
    states = Counter(one.state for one in status.cells)
    rows = tuple(
        (one.cell.name, one.state, f"{one.seconds:.0f}" if one.seconds else "-", one.reason) for one in status.cells
    )
    said = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    left = f"{said}; about {told(status.seconds_left)} of work left." if states["waiting"] else f"{said}."
    sheet = Sheet("", ("cell", "state", ">seconds", "reason"), rows, notes(left))
    cells = [
        {"id": one.cell.id, "name": one.cell.name, "state": one.state, "seconds": one.seconds, "reason": one.reason}
        for one in status.cells
    ]
    value = finite_or_none({"study": status.name, "seconds_left": status.seconds_left, "cells": cells})
    return Document((Heading(f"study {status.name}"), sheet), value)


def result_document(result: StudyResult, table: pd.DataFrame) -> Document:
    """Return the table of a study that has just run, with what failed."""
    failed = {name: one.reason for name, one in result.failed.items()}
    shown = table_document(table, result.table.facts.study, result.table.file(PARQUET), failed)
    return Document((*shown.sections, *notes(f"this run took {told(result.seconds)}.")), shown.value, shown.records)


def table_document(table: pd.DataFrame, name: str, file: Path, failed: Mapping[str, str]) -> Document:
    """Return the main figures of every cell; the records and the value are the whole table."""
    sections = tuple(_sections(table, name, failed))
    also = f" and {CSV}" if file.with_name(CSV).is_file() else ""
    place = notes(f"{len(table)} rows in {file}{also}; docs/study.md describes the columns.")
    records = Records(tuple(COLUMNS), table.to_numpy(dtype=object).tolist())
    value = {
        "study": name,
        "table": str(file),
        "failed": dict(failed),
        "rows": [finite_or_none(row) for row in table.to_dict("records")],
    }
    return Document((*sections, *place), value, records)


def _sections(table: pd.DataFrame, name: str, failed: Mapping[str, str]) -> Iterator[Section]:
    yield Heading(f"study {name}")
    yield from notes(*dict.fromkeys(str(notice) for notice in table["notice"] if notice))
    if name.endswith("-debug"):
        yield from warnings("tiny data and short training (--debug): these figures mean nothing.")
    whole = table[table["group"] == ALL]
    figures: dict[str, dict[str, float]] = {}
    for cell, measure, value in zip(whole["cell"], whole["measure"], whole["value"], strict=True):
        figures.setdefault(cell, {})[measure] = value
    firsts = table.drop_duplicates("cell")
    rows = tuple(
        (_name(first), str(first["level"]), *_figures(figures.get(first["cell"], {})), tail(first))
        for first in firsts.to_dict("records")
    )
    headings = tuple(heading for _measure, heading, _factor, _form in SHOWN)
    said = notes(NO_SPEED + " is computed for these levels.") if _unreal(firsts) else ()
    yield Sheet("cells", ("configuration", "level", *headings, "cell"), rows, said)
    if failed:
        yield Sheet("failed", ("cell", "reason"), tuple(failed.items()))


def _unreal(firsts: pd.DataFrame) -> bool:
    return bool(firsts["level"].isin(["simulated", "emulated"]).any())


def tail(row: Mapping[Any, Any]) -> str:
    """Return the hash of a row's cell."""
    return "#" + str(row["cell"]).rpartition("-")[2]


def _name(row: Mapping[Any, Any]) -> str:
    scheme = row["method"] if row["bits"] == 32 else f"{row['method']} int{row['bits']}"
    parts = (row["data"], row["model"], f"seed {row['seed']}", row["backend"], scheme, row["sampler"], row["policy"])
    return " ".join(str(part) for part in (*parts, row["mitigation"]) if part)


def _figures(figures: Mapping[str, float]) -> Iterator[str]:
    for measure, _heading, factor, form in SHOWN:
        value = figures.get(measure)
        if value is None:
            yield "-"
        else:
            yield UNDEFINED if math.isnan(value) else format(factor * value, form)
