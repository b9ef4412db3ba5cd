"""The label of each row of a user's table: names of classes, or a number that a threshold divides."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fqbench.data.listing import some
from fqbench.errors import DataError, InputError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

MAX_CLASSES_OF_MEASUREMENTS = 20
MISSING = ("", "nan", "NaN", "NAN", "<NA>", "#N/A", "NULL", "null")


def classes_of(
    column: pd.Series[str],
    names: Sequence[str],
    where: str,
    classes: Sequence[str] | None = None,
    threshold: float | None = None,
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the class of each row, and the names of the classes in order.

    Parameters
    ----------
    column : Series of str
        The label of each row; its name is the column's.
    names : sequence of str
        The images, for messages.
    where : str
        Name of the table in messages.
    classes : sequence of str, optional
        The names in order, where the data bring them; by default those that occur, sorted.
    threshold : float, optional
        Makes two classes of numbers: below it, and from it on.

    Raises
    ------
    InputError
        The labels are measurements and no threshold is given, a threshold is given for labels that are not numbers,
        or two labels are the same but for upper and lower case, blanks, or how a number is written.
    DataError
        A row has no label, or all have the same.
    """
    label = column.name
    empty = [name for name, value in zip(names, column, strict=True) if value in MISSING]
    if empty:
        raise DataError(
            f"{len(empty)} of {len(names)} images have no {label!r} ({some(empty)}); "
            f"fill in the label in {where} or remove these rows."
        )
    if threshold is not None:
        return _divided(column, names, where, threshold)
    values: list[str] = column.unique().tolist()
    if len(values) < 2:
        raise DataError(f"all {len(names)} images have {label!r} = {values[0]!r}; add images of a second class.")
    if classes is None:
        _refuse_measurements(values, str(label), len(names), where)
        refuse_lookalikes(values, str(label), where)
    classes = tuple(classes) if classes else ordered(values)
    index = {value: code for code, value in enumerate(classes)}
    return np.array([index[value] for value in column], dtype=np.int64), classes


def ordered(values: Collection[str]) -> tuple[str, ...]:
    """Return the names of classes in order: numbers by value, else by name (so false comes before true)."""
    numbers = {value: as_number(value) for value in values}
    if None in numbers.values():
        return tuple(sorted(values))
    return tuple(sorted(values, key=lambda value: (numbers[value], value)))


def refuse_lookalikes(values: Collection[str], column: str, where: str) -> None:
    """Raise an error for values that look the same but would be different classes or groups.

    Raises
    ------
    InputError
        Two values differ only in case, in blanks, or in how a number is written.
    """
    alike: dict[object, list[str]] = defaultdict(list)
    for value in values:
        number = as_number(value)
        alike[" ".join(value.split()).casefold() if number is None else number].append(value)
    for twins in alike.values():
        if len(twins) > 1:
            one, other = sorted(twins)[:2]
            raise InputError(
                f"{where}: column {column!r} has both {one!r} and {other!r}, which look like the same value; "
                "use one spelling."
            )


def as_number(value: str) -> float | None:
    """Return a finite number as a table has it, or None."""
    try:
        number = float(value) if value.isascii() and "_" not in value else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _refuse_measurements(values: Sequence[str], label: str, rows: int, where: str) -> None:
    """Raise an error if the labels have too many different values to be classes."""
    most_rows = len(values) > max(2, rows // 2)
    numbers = [as_number(value) for value in values]
    if None not in numbers:
        fractions = any(number != int(number) for number in numbers if number is not None)
        if (fractions and (len(values) > MAX_CLASSES_OF_MEASUREMENTS or most_rows)) or (
            most_rows and len(values) > MAX_CLASSES_OF_MEASUREMENTS
        ):
            middle = float(np.median([number for number in numbers if number is not None]))
            raise InputError(
                f"{where}: label {label!r} holds {len(values)} different numbers in {rows} rows, which are "
                f"measurements and not classes; add --label-threshold X (as in --label-threshold {middle:g}) to divide "
                "them into two classes, or write a column of bins."
            )
    elif most_rows and len(values) > MAX_CLASSES_OF_MEASUREMENTS:
        raise InputError(
            f"{where}: label {label!r} holds {len(values)} different values in {rows} rows, so nearly every image "
            "would be a class of its own; choose another column with --label."
        )


def _divided(
    column: pd.Series[str], names: Sequence[str], where: str, threshold: float
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    numbers = [as_number(value) for value in column]
    for name, value, number in zip(names, column, numbers, strict=True):
        if number is None:
            raise InputError(
                f"{where}: {column.name!r} is {value!r} for {name}, not a number; --label-threshold divides numbers."
            )
    codes = np.array([number >= threshold for number in numbers if number is not None], dtype=np.int64)
    if len(np.unique(codes)) < 2:
        side = f"at least {threshold:g}" if codes[0] else f"below {threshold:g}"
        known = [number for number in numbers if number is not None]
        raise InputError(
            f"{where}: {column.name!r} is {side} for all {len(names)} images; "
            f"give a --label-threshold between {min(known):g} and {max(known):g}."
        )
    return codes, (f"below {threshold:g}", f"at least {threshold:g}")
