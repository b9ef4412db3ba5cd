"""A CSV or Parquet file anywhere with labels and sensitive features, and the folder of its images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fqbench.data.arrow import as_text, plain_columns
from fqbench.data.attributes import label_columns, labels_of, refuse_shared
from fqbench.data.columns import group_rows, named_splits, sensitive_columns
from fqbench.data.finding import find_pictures
from fqbench.data.samples import Samples
from fqbench.data.splits import split_rows
from fqbench.data.text_table import read_text_table, refuse_twins
from fqbench.errors import DataError, InputError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

NAME = "table"
SEPARATORS = {".csv": ",", ".tsv": "\t"}
IMAGE_COLUMNS = ("file_name", "filename", "file", "path", "image", "image_path", "img", "image_id", "image_name")
SPLIT = "split"


def read_table(
    path: Path,
    root: Path,
    *,
    label: str | None = None,
    sensitive: Sequence[str] | None = None,
    image: str | None = None,
    split: str | None = None,
    seed: int = 0,
    threshold: float | None = None,
) -> Samples:
    """Read a table of images.

    Parameters
    ----------
    path : Path
        CSV, TSV or Parquet.
    root : Path
        Folder of the images.
    label, sensitive
        Columns of the label (several attributes are separated by commas) and of the sensitive features; see
        `fqbench.data.columns`.
    image : str, optional
        Column that says which image a row is about (see `find_pictures`); by default the only one of the usual names.
    split : str, optional
        Column of the split; by default ``split`` where there is one. Without one the table is divided 70/10/20.
    seed : int
        Seed of that division.
    threshold : float, optional
        Divides a label of numbers into two classes.

    Raises
    ------
    InputError
        The table or the folder is missing, or the table lacks a column.
    DataError
        The table is damaged, images are missing, or there are too few classes.
    """
    import pandas as pd

    table = open_table(path)
    check_folder(root)
    where = path.name
    image = image_column(table, image, where)
    split = split_column(table, split, where)
    own = {image, "sample_id"} | ({split} if split else set())
    columns = label_columns(table, label, where, own)
    refuse_shared(columns, sensitive, where)
    features = sensitive_columns(table, sensitive, where, {*own, *columns})
    names = find_pictures(table[image].tolist(), root, where)
    labels = labels_of(table, columns, names, where, threshold=threshold)
    grouping = group_rows(table, features, labels.codes, sensitive, where)
    named = named_splits(table[split].tolist(), names, where) if split else None
    parts, notice = split_rows(named, grouping.groups, labels.codes, seed=seed)
    fixed = {"sample_id": names, "path": names, "split": parts, "label": labels.codes, **labels.columns}
    frame = pd.DataFrame({**fixed, **grouping.values})
    return Samples(NAME, root, frame, labels.classes, grouping.features, notice, attributes=labels.attributes)


def check_table(path: Path) -> None:
    """Check that a table exists and has a known ending.

    Raises
    ------
    InputError
        No such file, or another format.
    """
    if not path.is_file():
        raise InputError(f"there is no table {path}; check --table.")
    if path.suffix.lower() not in {*SEPARATORS, ".parquet"}:
        raise InputError(f"{path} is not a supported table; give --table a .csv, .tsv or .parquet file.")


def check_folder(root: Path) -> None:
    """Check that the folder of a table's images exists.

    Raises
    ------
    InputError
        It does not.
    """
    if not root.is_dir():
        raise InputError(f"there is no folder {root}; give the folder of the images with --images DIR.")


def open_table(path: Path) -> pd.DataFrame:
    """Read all plain columns of a CSV, TSV or Parquet file as text, blanks around values removed.

    Raises
    ------
    InputError
        No such file, another format, no rows, or two columns of one name.
    DataError
        It is damaged.
    """
    check_table(path)
    suffix = path.suffix.lower()
    if not path.stat().st_size:
        raise InputError(f"{path} has no rows; it needs a header and one row per image.")
    table = _parquet(path) if suffix == ".parquet" else read_text_table(path, SEPARATORS[suffix])
    if table.empty:
        raise InputError(f"{path} has no rows; it needs a header and one row per image.")
    return table


def image_column(table: pd.DataFrame, asked: str | None, where: str) -> str:
    """Return the column of the images' names: the one asked for, else the only one of the usual names.

    Raises
    ------
    InputError
        There is none, or several are likely.
    """
    if asked is not None:
        if asked not in table.columns:
            raise InputError(
                f"{where} has no column {asked!r} for --image-column: {did_you_mean(asked, table.columns)}"
            )
        return asked
    usual = [column for column in IMAGE_COLUMNS if column in table.columns]
    if IMAGE_COLUMNS[0] in usual or len(usual) == 1:
        return usual[0]
    found = f"has several columns that may name the images ({', '.join(usual)})" if usual else "names no images"
    raise InputError(f"{where} {found}; add --image-column COLUMN, one of: {', '.join(table.columns)}.")


def split_column(table: pd.DataFrame, asked: str | None, where: str) -> str | None:
    """Return the column of the split, or None if there is none and none was asked for.

    Raises
    ------
    InputError
        The column asked for is not there.
    """
    if asked is not None and asked not in table.columns:
        raise InputError(f"{where} has no column {asked!r} for --split-column: {did_you_mean(asked, table.columns)}")
    return asked or (SPLIT if SPLIT in table.columns else None)


def _parquet(path: Path) -> pd.DataFrame:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
        refuse_twins(schema.names, path)
        columns = plain_columns(schema)
        table = pq.read_table(path, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a Parquet file ({str(error).splitlines()[0]}); save it again.") from error
    return pd.concat({name: as_text(table.column(name)) for name in columns}, axis=1) if columns else pd.DataFrame()
