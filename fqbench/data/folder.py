"""The user's own images: a folder with ``metadata.csv``, as Hugging Face's imagefolder has it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fqbench.data.attributes import label_columns, labels_of, refuse_shared
from fqbench.data.columns import group_rows, named_splits, sensitive_columns
from fqbench.data.finding import spelled_as_on_disk
from fqbench.data.listing import check_names, check_present
from fqbench.data.samples import Samples
from fqbench.data.splits import split_rows
from fqbench.data.text_table import read_text_table
from fqbench.errors import InputError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

METADATA = "metadata.csv"
OWN_COLUMNS = ("file_name", "split", "sample_id")


def read_folder(
    root: Path,
    *,
    label: str | None,
    sensitive: Sequence[str] | None,
    seed: int,
    notice: str = "",
    name: str = "folder",
    threshold: float | None = None,
) -> Samples:
    """Read a folder of images described by its ``metadata.csv``.

    The table has a column ``file_name`` (relative to ``root``), a label, any number of sensitive features, and
    perhaps ``split``; a table without ``split`` is divided 70/10/20 by label and group, and a missing split is taken
    from the others.

    Parameters
    ----------
    root : Path
        The folder.
    label : str or None
        Column of the label; None means ``label``; several attributes are separated by commas.
    sensitive : sequence of str or None
        Columns of the sensitive features; None means every other column with at most 20 distinct values (columns
        left out are logged as a warning). A missing value becomes "unknown".
    seed : int
        Seed of the division where the table has no ``split``.
    notice, name : str
        Passed on to the result.
    threshold : float, optional
        Divides a label of numbers into two classes.

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
    columns = label_columns(table, label, METADATA, OWN_COLUMNS)
    refuse_shared(columns, sensitive, METADATA)
    features = sensitive_columns(table, sensitive, METADATA, {*OWN_COLUMNS, *columns})
    names = _file_names(table, root)
    labels = labels_of(table, columns, names, METADATA, threshold=threshold)
    grouping = group_rows(table, features, labels.codes, sensitive, METADATA)
    named = named_splits(table["split"].tolist(), names, METADATA) if "split" in table.columns else None
    split, made = split_rows(named, grouping.groups, labels.codes, seed=seed)
    own = {"sample_id": names, "path": names, "split": split, "label": labels.codes, **labels.columns}
    return Samples(
        name=name,
        root=root,
        frame=pd.DataFrame({**own, **grouping.values}),
        classes=labels.classes,
        sensitive_features=grouping.features,
        notice=" ".join(filter(None, (notice, made))),
        attributes=labels.attributes,
    )


def _read_table(root: Path, name: str) -> pd.DataFrame:
    if not root.is_dir():
        raise InputError(f"{name}: there is no folder {root}; give the folder that holds {METADATA} and the images.")
    path = root / METADATA
    if not path.is_file():
        raise InputError(
            f"{name}: {root} has no {METADATA}; write one with the columns file_name, label "
            "and one column per sensitive feature."
        )
    table = read_text_table(path)
    if table.empty:
        raise InputError(f"{path} lists no images; add a header line and one line per image.")
    if "file_name" not in table.columns:
        hint = did_you_mean("file_name", table.columns)
        raise InputError(f"{path} has no column 'file_name' with the paths of the images: {hint}")
    return table


def _file_names(table: pd.DataFrame, root: Path) -> list[str]:
    names = check_names([name.replace("\\", "/") for name in table["file_name"]], METADATA)
    names = check_names(spelled_as_on_disk(names, root), METADATA)
    check_present(names, root, METADATA)
    return names
