"""Labels of one or several columns: the class of each image, or several attributes that it has or has not."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fqbench.data.columns import label_column
from fqbench.data.labels import classes_of
from fqbench.data.samples import Attribute, attribute_column
from fqbench.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

SHOWN = 5


@dataclass(frozen=True)
class Labels:
    """The labels of a table.

    Attributes
    ----------
    codes : ndarray of int64, shape (rows,)
        Index of the class of each row; with attributes, of their combination, in the order of the columns.
    classes : tuple of str
        Names of the classes, or of the attributes.
    attributes : tuple of Attribute
        Empty where there is one label.
    columns : mapping of str to ndarray of int64
        0 and 1 of each attribute, as columns of the table of samples.
    """

    codes: NDArray[np.int64]
    classes: tuple[str, ...]
    attributes: tuple[Attribute, ...] = ()
    columns: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)

    @classmethod
    def of_attributes(cls, values: Mapping[Attribute, NDArray[np.int64]]) -> Labels:
        """Return the labels of attributes, of which 0 and 1 are given per row."""
        _rows, codes = np.unique(np.column_stack(list(values.values())), axis=0, return_inverse=True)
        return cls(
            codes=np.asarray(codes, dtype=np.int64).reshape(-1),
            classes=tuple(one.name for one in values),
            attributes=tuple(values),
            columns={attribute_column(one.name): column for one, column in values.items()},
        )


def asked_labels(label: str | None) -> tuple[str, ...]:
    """Return the columns that ``--label A,B`` names; none where it is not given.

    Raises
    ------
    InputError
        One is named twice, or empty.
    """
    if label is None:
        return ()
    names = tuple(part.strip() for part in label.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise InputError(f"--label {label}: give different names of columns, comma-separated, as in Smiling,Young.")
    return names


def label_columns(table: pd.DataFrame, label: str | None, where: str, taken: Collection[str]) -> tuple[str, ...]:
    """Return the columns of the labels: several where ``label`` names several, comma-separated.

    Raises
    ------
    InputError
        There is no such column.
    """
    if label is None or label in table.columns or "," not in label:
        return (label_column(table, label, where, taken),)
    return tuple(label_column(table, name, where, taken) for name in asked_labels(label))


def refuse_shared(labels: Sequence[str], sensitive: Sequence[str] | None, where: str) -> None:
    """Raise an error where one of several attributes is a sensitive feature, too.

    Raises
    ------
    InputError
        It is; the message names them.
    """
    shared = [name for name in labels if name in (sensitive or ())]
    if len(labels) > 1 and shared:
        raise InputError(
            f"{where}: {', '.join(shared)} is both an attribute to predict and a sensitive feature; leave it "
            "out of --label (or --column), or out of --sensitive."
        )


def labels_of(
    table: pd.DataFrame,
    columns: Sequence[str],
    names: Sequence[str],
    where: str,
    *,
    classes: Mapping[str, Sequence[str] | None] | None = None,
    threshold: float | None = None,
) -> Labels:
    """Read the label columns of a table.

    Parameters
    ----------
    table : DataFrame of str
        The table.
    columns : sequence of str
        One column: its values are classes. Several: each is an attribute of two values, of which the second one is
        "present".
    names : sequence of str
        The images, for messages.
    where : str
        Name of the table in messages.
    classes : mapping, optional
        The values of a column in order, where the data bring them; by default those that occur, sorted.
    threshold : float, optional
        Divides a label of numbers into two classes.

    Raises
    ------
    InputError
        An attribute has not two values, or see `fqbench.data.labels.classes_of`.
    DataError
        See there.
    """
    known = classes or {}
    if len(columns) == 1:
        codes, found = classes_of(table[columns[0]], names, where, known.get(columns[0]), threshold)
        return Labels(codes, found)
    if threshold is not None:
        raise InputError("--label-threshold divides one label; leave it out, or name one column with --label.")
    values = {}
    for column in columns:
        codes, found = classes_of(table[column], names, where, known.get(column))
        if len(found) != 2:
            listed = ", ".join(found[:SHOWN]) + (", …" if len(found) > SHOWN else "")
            raise InputError(
                f"{where}: {column!r} has {len(found)} values ({listed}), and each of several attributes needs two; "
                "leave it out of --label."
            )
        values[Attribute(column, (found[0], found[1]))] = codes
    return Labels.of_attributes(values)
