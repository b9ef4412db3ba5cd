"""Class folders, as torchvision's ImageFolder has them: ``ROOT/CLASS/image`` or ``ROOT/SPLIT/CLASS/image``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from fqbench.data.columns import SPLIT_NAMES, UNKNOWN, groups_of, sensitive_columns, without_copies
from fqbench.data.finding import Finder, pictures_below, require_text
from fqbench.data.labels import ordered
from fqbench.data.listing import some
from fqbench.data.samples import Problem, Samples, group_labels
from fqbench.data.splits import split_rows
from fqbench.data.table import image_column, open_table
from fqbench.errors import DataError, InputError

if TYPE_CHECKING:
    import pandas as pd

NAME = "imagefolder"
LISTED = 10


def picture_names(root: Path) -> list[str]:
    """Return the pictures below ``root``, which must be in class folders.

    Raises
    ------
    InputError
        There is no such folder, or it holds no class folders with pictures.
    DataError
        A name is not UTF-8.
    """
    if not root.is_dir():
        raise InputError(f"{NAME}: there is no folder {root}; give the folder that holds one folder per class.")
    names = list(pictures_below(root))
    require_text(names, root)
    inside = [name for name in names if "/" in name]
    if not inside:
        found = f"{len(names)} images but no class folders" if names else "no images"
        raise InputError(
            f"{NAME}: {root} holds {found}; put the images into {root.name}/CLASS/ or {root.name}/train/CLASS/, "
            "or describe them in a table with --table FILE --images DIR."
        )
    return inside


def read_imagefolder(
    root: Path,
    names: Sequence[str],
    *,
    table: Path | None = None,
    sensitive: Sequence[str] | None = None,
    image: str | None = None,
    seed: int = 0,
) -> Samples:
    """Read class folders.

    Parameters
    ----------
    root : Path
        The folder. Where all folders in it are named after splits (train, val, test …), the classes are one below.
    names : sequence of str
        What `picture_names` returns.
    table : Path, optional
        CSV, TSV or Parquet with sensitive features of the images.
    sensitive : sequence of str, optional
        Its columns to use; by default all with few values.
    image : str, optional
        Its column that names the images.
    seed : int
        Seed of a split that the folders do not bring.

    Returns
    -------
    Samples
        Rows in the order of the paths; without a table there is no sensitive feature. Classes are sorted as
        torchvision sorts them, but whole numbers by value.

    Raises
    ------
    InputError
        The table does not say what it should, or fits none of the images.
    DataError
        There are fewer than two classes, or a name in the table fits several images.
    """
    import pandas as pd

    parts = [PurePosixPath(name).parts for name in names]
    by_split = all(part[0].lower() in SPLIT_NAMES and len(part) > 2 for part in parts)
    of_class = [part[1 if by_split else 0] for part in parts]
    classes = ordered(set(of_class))
    if len(classes) < 2:
        raise DataError(
            f"{NAME}: all {len(names)} images under {root} are in the class folder {classes[0]!r}; "
            "give the folder above the class folders, or add a second class."
        )
    index = {value: code for code, value in enumerate(classes)}
    codes = np.array([index[value] for value in of_class], dtype=np.int64)
    features = pd.DataFrame(index=range(len(names)))
    problems: tuple[Problem, ...] = ()
    if table is not None:
        features, problems = _features(table, names, sensitive, image)
        features = features[list(without_copies(tuple(features.columns), features, codes, sensitive, table.name))]
    by = tuple(features.columns)
    named = [SPLIT_NAMES[part[0].lower()] if by_split else "train" for part in parts]
    split, notice = split_rows(named, group_labels(features, by), codes, seed=seed)
    frame = pd.DataFrame({"sample_id": names, "path": names, "split": split, "label": codes})
    frame = pd.concat([frame, features], axis=1)
    return Samples(NAME, root, frame, classes, by, notice if by_split else "", problems)


def _features(
    path: Path, names: Sequence[str], sensitive: Sequence[str] | None, image: str | None
) -> tuple[pd.DataFrame, tuple[Problem, ...]]:
    """Return one row of sensitive features per image; an image that the table does not list has "unknown"."""
    table, where = open_table(path), path.name
    image = image_column(table, image, where)
    columns = sensitive_columns(table, sensitive, where, {image, "split", "label", "sample_id"})
    given = table[image].tolist()
    finder, strangers = Finder(names), []
    row_of: dict[str, int] = {}
    for row, text in enumerate(given):
        found = finder.candidates(PurePosixPath(text.replace("\\", "/")).as_posix())
        if len(found) > 1:
            raise DataError(
                f"{where}, row {row + 1}: {text!r} fits {len(found)} images ({some(found)}); "
                "write the path below the folder with its ending."
            )
        if not found:
            strangers.append(text)
        elif row_of.setdefault(found[0], row) != row:
            raise InputError(f"{where} lists {found[0]} more than once; keep one row per image.")
    if not row_of:
        raise InputError(f"{where} lists none of the {len(names)} images ({some(given)}); check --image-column.")
    rows = [row_of.get(name, -1) for name in names]
    features = groups_of(table, columns, where).reindex(rows).fillna(UNKNOWN).reset_index(drop=True)
    unlisted = [name for name in names if name not in row_of]
    found_problems = (
        (f"image(s) that {where} does not list have the value {UNKNOWN!r}", unlisted),
        (f"row(s) of {where} name no image and are left out", strangers),
    )
    return features, tuple(Problem(what, len(all_), tuple(all_[:LISTED])) for what, all_ in found_problems if all_)
