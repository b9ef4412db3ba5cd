"""The user's own images: a folder with ``metadata.csv``, as Hugging Face's imagefolder has it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

import numpy as np

from fqbench.data.samples import FIXED_COLUMNS, SPLITS, Samples, group_labels
from fqbench.data.splits import stratified_split
from fqbench.errors import DataError, InputError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

METADATA = "metadata.csv"
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
MAX_VALUES = 20
UNKNOWN = "unknown"
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
SHOWN = 3

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
    table = _read_table(root, name)
    label = _label_column(table, label)
    features = _sensitive_columns(table, label, sensitive)
    names = _file_names(table, root)
    codes, classes = _classes(table, label, names)
    frame = table[list(features)].apply(_fill)
    frame.insert(0, "sample_id", names)
    frame.insert(1, "path", names)
    frame.insert(2, "split", "train")
    frame.insert(3, "label", codes)
    if "split" in table.columns:
        frame["split"] = _named_splits(table["split"], names)
    else:
        frame["split"] = stratified_split(group_labels(frame, features), codes, seed=seed)
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
        table = pd.read_csv(path, dtype=str, encoding="utf-8-sig", keep_default_na=False, skipinitialspace=True)
    except pd.errors.EmptyDataError:
        table = pd.DataFrame()
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        reason = str(error).strip().rstrip(".")
        raise DataError(f"{path} is not a table in CSV and UTF-8 ({reason}); save it again as such.") from error
    table.columns = table.columns.str.strip() if len(table.columns) else table.columns
    if table.empty:
        raise InputError(f"{path} lists no images; add a header line and one line an image.")
    if "file_name" not in table.columns:
        hint = ", ".join(table.columns)
        raise InputError(f"{path} has no column 'file_name', but {hint}; name the column of the image paths so.")
    return table.apply(lambda column: column.str.strip())


def _label_column(table: pd.DataFrame, label: str | None) -> str:
    columns = [column for column in table.columns if column not in ("file_name", "split", "sample_id")]
    if label is None:
        if "label" in table.columns:
            return "label"
        raise InputError(
            f"{METADATA} has no column 'label'; say which of its columns is the label: {', '.join(columns) or 'none'}."
        )
    if label not in columns:
        raise InputError(f"{METADATA} has no label column {label!r}: {did_you_mean(label, columns)}")
    return label


def _sensitive_columns(table: pd.DataFrame, label: str, sensitive: Sequence[str] | None) -> tuple[str, ...]:
    columns = [column for column in table.columns if column not in ("file_name", "sample_id", "split", label)]
    if sensitive is not None:
        for feature in sensitive:
            if feature not in columns:
                hint = did_you_mean(feature, columns) if columns else "it has no column besides file, split and label."
                raise InputError(f"{METADATA} has no sensitive column {feature!r}: {hint}")
        chosen = list(dict.fromkeys(sensitive))
    else:
        chosen = [column for column in columns if table[column].nunique() <= MAX_VALUES]
        left_out = [column for column in columns if column not in chosen]
        if left_out:
            logger.warning(
                "%s: columns with more than %d values are not taken as sensitive features: %s; name them to use them.",
                METADATA,
                MAX_VALUES,
                ", ".join(left_out),
            )
    clash = [feature for feature in chosen if feature in FIXED_COLUMNS]
    if clash:
        raise InputError(f"{METADATA}: a sensitive column cannot be called {clash[0]!r}; rename that column.")
    return tuple(chosen)


def _file_names(table: pd.DataFrame, root: Path) -> list[str]:
    given: list[str] = table["file_name"].tolist()
    for row, text in enumerate(given):
        _check_file_name(text, row)
    names = [PurePosixPath(text).as_posix() for text in given]
    seen: set[str] = set()
    twice = [name for name in names if name in seen or seen.add(name)]
    if twice:
        raise InputError(
            f"{METADATA} lists {len(twice)} file(s) more than once ({_some(twice)}); keep one line an image."
        )
    present = set(_walk(root, ""))
    missing = [name for name in names if name not in present]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(names)} images in {METADATA} are not under {root} ({_some(missing)}); "
            "copy them there or take their lines out."
        )
    return names


def _check_file_name(text: str, row: int) -> None:
    where = f"{METADATA}, line {row + 2}"
    if not text:
        raise InputError(f"{where}: file_name is empty; give the path of the image, or take the line out.")
    if PurePosixPath(text).is_absolute() or PureWindowsPath(text).drive or PureWindowsPath(text).root:
        raise InputError(f"{where}: file_name {text!r} is an absolute path; give it relative to the folder.")
    if ".." in PureWindowsPath(text).parts:
        raise InputError(f"{where}: file_name {text!r} leaves the folder with '..'; move the image into it.")
    if not text.lower().endswith(SUFFIXES):
        raise InputError(f"{where}: {text!r} is no {', '.join(SUFFIXES)} file; convert it, or take the line out.")


def _walk(root: Path, prefix: str) -> Iterator[str]:
    """Give the path of every file under ``root``: one look a folder, where a stat an image is slow on network disks."""
    with os.scandir(root) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _walk(Path(entry.path), f"{prefix}{entry.name}/")
            else:
                yield prefix + entry.name


def _classes(table: pd.DataFrame, label: str, names: list[str]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    column = table[label]
    empty = [name for name, value in zip(names, column, strict=True) if not value]
    if empty:
        raise DataError(
            f"{len(empty)} of {len(names)} images have no {label!r} ({_some(empty)}); "
            f"fill in the label in {METADATA} or take the lines out."
        )
    values: list[str] = column.unique().tolist()
    classes = sorted(values, key=_class_sort_key(values))
    if len(classes) < 2:
        raise DataError(f"all {len(names)} images have {label!r} = {classes[0]!r}; add images of a second class.")
    index = {value: code for code, value in enumerate(classes)}
    return column.map(index).to_numpy(dtype=np.int64), tuple(classes)


def _is_whole_number(value: str) -> bool:
    digits = value.removeprefix("-")
    return digits.isascii() and digits.isdigit()


def _class_sort_key(values: list[str]) -> Callable[[str], tuple[int, str]]:
    """Return the order of the classes: whole numbers by value, false before true, else by name."""
    if all(_is_whole_number(value) for value in values):
        return lambda value: (int(value), value)
    return lambda value: (0, value)


def _fill(column: pd.Series[str]) -> pd.Series[str]:
    return column.mask(column == "", UNKNOWN)


def _named_splits(column: pd.Series[str], names: list[str]) -> list[str]:
    lowered = column.str.lower()
    wrong = [(name, value) for name, value in zip(names, column, strict=True) if value.lower() not in SPLIT_NAMES]
    if wrong:
        name, value = wrong[0]
        raise InputError(
            f"{METADATA}: {len(wrong)} row(s) have a split that is not known, first {value!r} for {name}; "
            f"use {', '.join(SPLITS)}, or leave the column out to have the images divided."
        )
    return [SPLIT_NAMES[value] for value in lowered]


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
