"""The user's own images: a folder with ``metadata.csv``, as Hugging Face's imagefolder has it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fqbench.data.listing import check_names, check_present, some
from fqbench.data.samples import FIXED_COLUMNS, SPLITS, Samples, group_labels
from fqbench.data.splits import stratified_split
from fqbench.errors import DataError, InputError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

METADATA = "metadata.csv"
MAX_VALUES = 20
UNKNOWN = "unknown"
MISSING = ("", "nan", "NaN")
OWN_COLUMNS = ("file_name", "split", "sample_id")
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}

logger = logging.getLogger(__name__)


def read_folder(
    root: Path,
    *,
    label: str | None,
    sensitive: Sequence[str] | None,
    seed: int,
    notice: str = "",
    name: str = "folder",
) -> Samples:
    """Read a folder of images described by its ``metadata.csv``.

    The table has a column ``file_name`` (relative to ``root``), a label, any number of sensitive features, and
    perhaps ``split``; a table without ``split`` is divided 70/10/20 by label and group.

    Parameters
    ----------
    root : Path
        The folder.
    label : str or None
        Column of the label; None means ``label``.
    sensitive : sequence of str or None
        Columns of the sensitive features; None means every other column with at most 20 distinct values (columns
        left out are logged as a warning). A missing value becomes "unknown".
    seed : int
        Seed of the division where the table has no ``split``.
    notice, name : str
        Passed on to the result.

    Returns
    -------
    Samples
        Rows in the table's order; ``sample_id`` is the file name. Classes are sorted, as numbers where all are
        whole numbers.

    Raises
    ------
    InputError
        The folder or the table is missing, or the table does not say what it should.
    DataError
        Images are missing, or there are too few classes.
    """
    import pandas as pd

    table = _read_table(root, name)
    label = _label_column(table, label)
    features = _sensitive_columns(table, label, sensitive)
    names = _file_names(table, root)
    codes, classes = _classes(table, label, names)
    groups = {feature: table[feature].mask(table[feature].isin(MISSING), UNKNOWN) for feature in features}
    if "split" in table.columns:
        split = _named_splits(table["split"].tolist(), names)
    else:
        split = stratified_split(
            group_labels(pd.DataFrame(groups, index=table.index), features), codes, seed=seed
        ).tolist()
    frame = pd.DataFrame({"sample_id": names, "path": names, "split": split, "label": codes, **groups})
    return Samples(name=name, root=root, frame=frame, classes=classes, sensitive_features=features, notice=notice)


def _read_table(root: Path, name: str) -> pd.DataFrame:
    import pandas as pd

    if not root.is_dir():
        raise InputError(f"{name}: there is no folder {root}; give the folder that holds {METADATA} and the images.")
    path = root / METADATA
    if not path.is_file():
        raise InputError(
            f"{name}: {root} has no {METADATA}; write one with the columns file_name, label "
            "and one column a sensitive feature."
        )
    try:
        with warnings.catch_warnings():
            # pandas only warns of rows that are longer than the header, and drops the rest of them.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(
                path, dtype=str, encoding="utf-8-sig", keep_default_na=False, skipinitialspace=True, index_col=False
            )
    except pd.errors.EmptyDataError:
        table = pd.DataFrame()
    except (pd.errors.ParserError, pd.errors.ParserWarning, UnicodeDecodeError) as error:
        reason = str(error).strip().rstrip(".")
        raise DataError(f"{path} is not a table in CSV and UTF-8 ({reason}); save it again as such.") from error
    if table.empty:
        raise InputError(f"{path} lists no images; add a header line and one line an image.")
    table.columns = table.columns.str.strip()
    if "file_name" not in table.columns:
        hint = did_you_mean("file_name", table.columns)
        raise InputError(f"{path} has no column 'file_name' with the paths of the images: {hint}")
    stripped: pd.DataFrame = table.apply(lambda column: column.fillna("").str.strip())
    return stripped


def _label_column(table: pd.DataFrame, label: str | None) -> str:
    columns = [column for column in table.columns if column not in OWN_COLUMNS]
    if label is None:
        if "label" in columns:
            return "label"
        raise InputError(
            f"{METADATA} has no column 'label'; say which column is the label: {', '.join(columns) or 'it has none'}."
        )
    if label not in columns:
        raise InputError(f"{METADATA} has no label column {label!r}: {_hint(label, columns)}")
    return label


def _sensitive_columns(table: pd.DataFrame, label: str, sensitive: Sequence[str] | None) -> tuple[str, ...]:
    columns = [column for column in table.columns if column not in {*OWN_COLUMNS, *FIXED_COLUMNS, label}]
    if sensitive is not None:
        for feature in sensitive:
            if feature not in columns:
                raise InputError(f"{METADATA} has no sensitive column {feature!r}: {_hint(feature, columns)}")
        return tuple(dict.fromkeys(sensitive))
    chosen = tuple(column for column in columns if table[column].nunique() <= MAX_VALUES)
    left_out = [column for column in columns if column not in chosen]
    if left_out:
        logger.warning(
            "%s: not taken as sensitive features, having more than %d values: %s; name them to use them.",
            METADATA,
            MAX_VALUES,
            ", ".join(left_out),
        )
    return chosen


def _hint(name: str, columns: list[str]) -> str:
    return did_you_mean(name, columns) if columns else f"add that column to {METADATA}."


def _file_names(table: pd.DataFrame, root: Path) -> list[str]:
    names = check_names(table["file_name"].tolist(), METADATA)
    check_present(names, root, METADATA)
    return names


def _classes(table: pd.DataFrame, label: str, names: list[str]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    column = table[label]
    empty = [name for name, value in zip(names, column, strict=True) if value in MISSING]
    if empty:
        raise DataError(
            f"{len(empty)} of {len(names)} images have no {label!r} ({some(empty)}); "
            f"fill in the label in {METADATA} or take the rows out."
        )
    values: list[str] = column.unique().tolist()
    classes = sorted(values, key=_class_sort_key(values))
    if len(classes) < 2:
        raise DataError(f"all {len(names)} images have {label!r} = {classes[0]!r}; add images of a second class.")
    index = {value: code for code, value in enumerate(classes)}
    codes = np.array([index[value] for value in column], dtype=np.int64)
    return codes, tuple(classes)


def _is_whole_number(value: str) -> bool:
    digits = value.removeprefix("-")
    return digits.isascii() and digits.isdigit()


def _class_sort_key(values: list[str]) -> Callable[[str], tuple[int, str]]:
    """Return the order of the classes: whole numbers by value, false before true, else by name."""
    if all(_is_whole_number(value) for value in values):
        return lambda value: (int(value), value)
    return lambda value: (0, value)


def _named_splits(column: list[str], names: list[str]) -> list[str]:
    wrong = [(name, value) for name, value in zip(names, column, strict=True) if value.lower() not in SPLIT_NAMES]
    if wrong:
        name, value = wrong[0]
        raise InputError(
            f"{METADATA}: {len(wrong)} row(s) have an unknown split, first {value!r} for {name}; "
            f"use {', '.join(SPLITS)}, or leave the column out to have the images divided."
        )
    return [SPLIT_NAMES[value.lower()] for value in column]
