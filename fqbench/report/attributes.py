"""Several attributes as a document: a table over all of them, and in full those that are asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fqbench.errors import InputError, did_you_mean
from fqbench.fairness.attributes import AttributeRow, attribute_rows
from fqbench.report.document import UNDEFINED, Document, Heading, Records, Section, Sheet, notes, warnings
from fqbench.report.evaluation import RECORDS, evaluation_document, points
from fqbench.report.names import legend, short_names
from fqbench.storage import finite_or_none

if TYPE_CHECKING:
    from fqbench.fairness.evaluated import Evaluation


def attributes_document(evaluations: Sequence[Evaluation], full: Sequence[str] = ()) -> Document:
    """Return evaluations of several attributes, one view after the other.

    Parameters
    ----------
    evaluations : sequence of Evaluation
        One per attribute and view.
    full : sequence of str
        Attributes whose evaluation is shown in full below the table.

    Raises
    ------
    InputError
        No such attribute.
    """
    known = list(dict.fromkeys(one.attribute for one in evaluations))
    for name in full:
        if name not in known:
            raise InputError(f"there is no attribute {name!r} for --attribute: {did_you_mean(name, known)}")
    sections: list[Section] = []
    tables: list[dict[str, Any]] = []
    records: list[Sequence[object]] = []
    for view in dict.fromkeys((one.by, one.subset) for one in evaluations):
        part = [one for one in evaluations if (one.by, one.subset) == view]
        rows = attribute_rows(part)
        sections += _sections(part, rows)
        for one in part:
            shown = evaluation_document(one)
            sections += shown.sections if one.attribute in full else ()
            assert shown.records is not None  # noqa: S101  # an evaluation always has them
            records += [[one.attribute, *row] for row in shown.records.rows]
        tables.append({"by": list(view[0]), "subset": view[1], "rows": [finite_or_none(row) for row in rows]})
    value = {"attributes": tables, "evaluations": [one.to_dict() for one in evaluations]}
    return Document(tuple(sections), value, Records(("attribute", *RECORDS), records))


def _sections(evaluations: Sequence[Evaluation], rows: Sequence[AttributeRow]) -> Iterator[Section]:
    first = evaluations[0]
    artifacts = first.artifacts
    ids = [one.id for one in artifacts]
    names = short_names([one.label for one in artifacts], ids)
    groups = " × ".join(first.by) or "all images together"
    subset = f", only {first.subset}" if first.subset else ""
    yield Heading(f"{first.data}, {first.split} split{subset}, {len(evaluations)} attributes, by {groups}")
    yield from notes(first.notice)
    yield from warnings(*first.notes)
    yield legend(names, ids, {"runtime": [one.runtime for one in artifacts]})
    for artifact, name in zip(artifacts[1:], names[1:], strict=True):
        yield _sheet(names[0], name, [row for row in rows if row.artifact_id == artifact.id], evaluations)
    if not rows:
        yield _alone(names[0], evaluations)
    yield from notes("--attribute NAME shows an attribute in full, --json and --csv all of them.")


def _sheet(reference: str, name: str, rows: Sequence[AttributeRow], evaluations: Sequence[Evaluation]) -> Sheet:
    change = evaluations[0].artifacts[1].change
    correction = "" if change is None else change.correction
    cells = [
        (
            row.attribute,
            f"{row.accuracy.reference:.3f}",
            f"{row.accuracy.candidate:.3f}",
            points(row.accuracy),
            _p(row.p_adjusted),
            row.worst_group or "-",
            UNDEFINED if row.worst_accuracy is None else points(row.worst_accuracy),
            _p(row.worst_p_adjusted),
            f"{_share(row.gap_reference)} to {_share(row.gap)}",
            f"{row.equivalent} / {row.different} / {row.undecided}",
        )
        for row in rows
    ]
    before, after = (sum(values) / len(rows) for values in zip(*_accuracies(rows), strict=True))
    mean = (f"mean of {len(rows)}", f"{before:.3f}", f"{after:.3f}", f"{100 * (after - before):+.2f}", *["-"] * 6)
    columns = (
        "attribute", f">accuracy {reference}", f">{name}", ">Δ accuracy, points", f">p ({correction})",
        "worst group", ">its Δ, points", ">its p", ">equalized odds difference", ">groups = / ≠ / ?",
    )  # fmt: skip
    how = (
        f"p: exact McNemar test, {correction} over all attributes and artifacts; of the worst group, over all "
        "groups, too. groups: how many are equivalent, different and undecided. "
        "The interval of a worst group is not corrected for being the worst of several."
    )
    return Sheet(f"{name} against {reference}: all attributes", columns, (*cells, mean), notes(how), total=True)


def _accuracies(rows: Sequence[AttributeRow]) -> list[tuple[float, float]]:
    return [(row.accuracy.reference, row.accuracy.candidate) for row in rows]


def _alone(name: str, evaluations: Sequence[Evaluation]) -> Sheet:
    rows = []
    for one in evaluations:
        report = one.artifacts[0].report
        accuracy, gaps = report.overall.accuracy, report.gaps
        worst, odds = gaps["worst_group_accuracy"], gaps["equalized_odds_difference"]
        interval = f"{accuracy.value:.3f} [{accuracy.low:.3f}, {accuracy.high:.3f}]"
        group = worst.pair[1] if worst.pair else "-"
        rows.append((one.attribute, str(report.overall.n), interval, _share(worst.value), group, _share(odds.value)))
    columns = ("attribute", ">n", ">accuracy", ">worst-group accuracy", "worst group", ">equalized odds difference")
    return Sheet(f"{name}: all attributes", columns, tuple(rows))


def _share(value: float) -> str:
    return UNDEFINED if math.isnan(value) else f"{value:.3f}"


def _p(value: float) -> str:
    return UNDEFINED if math.isnan(value) else f"{value:.3f}"
