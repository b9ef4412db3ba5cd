"""FairFace as it is distributed: two tables, two folders of pictures, in a tight or a wide crop.

Kärkkäinen and Joo 2021, https://github.com/joojs/fairface. Their validation set is the test split here, as nothing else
is published; our validation split is carved out of their training set, stratified and seeded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fqbench.data.listing import check_names, check_present, first_existing
from fqbench.data.samples import Samples, group_labels
from fqbench.data.splits import VAL_ONLY, stratified_split
from fqbench.data.text_table import read_text_table
from fqbench.errors import DataError, InputError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

NAME = "fairface"
LABEL = "gender"
SENSITIVE_FEATURES = ("race",)
COLUMNS = ("gender", "race", "age", "service_test")
TABLES = {"train": "fairface_label_train.csv", "val": "fairface_label_val.csv"}
# Names that the two archives, and the folders that people unpack them into, go by.
PADDINGS = {
    "0.25": ("fairface-img-margin025-trainval", "margin025", "padding_025", "padding_0.25", "padding=0.25", "0.25"),
    "1.25": ("fairface-img-margin125-trainval", "margin125", "padding_125", "padding_1.25", "padding=1.25", "1.25"),
}
SHORT_AGES = {"more than 70": "70+"}
VALUES = {
    "gender": ("Male", "Female"),
    "race": ("Black", "East Asian", "Indian", "Latino_Hispanic", "Middle Eastern", "Southeast Asian", "White"),
    "age": ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70", "70+"),
}
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
HEADER_LINES = 1


@dataclass(frozen=True)
class FairfaceFiles:
    """Where the parts of a FairFace tree lie."""

    tables: dict[str, Path]
    pictures: Path


def find_files(root: Path, padding: str | None = None) -> FairfaceFiles:
    """Find the tables and the folder that holds ``train/`` and ``val/``.

    Parameters
    ----------
    root : Path
        Folder of the data set.
    padding : str, optional
        "0.25" or "1.25", where both variants are there.

    Raises
    ------
    InputError
        A part is missing, or both variants are there and none was chosen.
    """
    if not root.is_dir():
        raise InputError(f"{NAME}: there is no folder {root}; give the one that holds {TABLES['train']}.")
    plain = root if (root / "train").is_dir() and (root / "val").is_dir() else None
    variants = {name: first_existing(root, folders) for name, folders in PADDINGS.items()}
    found = {name: folder for name, folder in variants.items() if folder is not None}
    if padding is not None and plain is None and padding not in found:
        raise InputError(f"{NAME}: {root} has no pictures of padding {padding} ({', '.join(PADDINGS[padding])}).")
    if padding is None and plain is None and len(found) > 1:
        raise InputError(f"{NAME}: {root} holds both paddings; choose one with --padding 0.25 or --padding 1.25.")
    pictures = found.get(padding or next(iter(found), ""), plain)
    if padding is None and plain is not None:
        pictures = plain
    if pictures is None or not (pictures / "train").is_dir() or not (pictures / "val").is_dir():
        raise InputError(
            f"{NAME}: {root} has no pictures (train/ and val/); unpack fairface-img-margin025-trainval.zip there, "
            "from https://github.com/joojs/fairface."
        )
    tables = {}
    for part, name in TABLES.items():
        path = first_existing(root, (name,)) or first_existing(pictures, (name,))
        if path is None:
            raise InputError(f"{NAME}: {root} has no {name}; download it from https://github.com/joojs/fairface.")
        tables[part] = path
    return FairfaceFiles(tables, pictures)


def read_fairface(
    root: Path,
    *,
    label: str | None = None,
    sensitive: Sequence[str] | None = None,
    padding: str | None = None,
    seed: int = 0,
) -> Samples:
    """Read FairFace.

    Parameters
    ----------
    root : Path
        Folder of the data set.
    label : str, optional
        gender (default), race or age.
    sensitive : sequence of str, optional
        Of gender, race, age and service_test; by default race, the feature that the set is balanced by.
    padding : str, optional
        "0.25" or "1.25", where both variants of the pictures are there.
    seed : int
        Seed of the validation split.

    Raises
    ------
    InputError
        A part is missing, a column is unknown, or a name occurs twice or leaves the folder.
    DataError
        A table is damaged, or pictures are missing.
    """
    import pandas as pd

    label, features = _columns(label, sensitive)
    files = find_files(root, padding)
    parts = [_read_table(path, part) for part, path in files.tables.items()]
    table = pd.concat(parts, ignore_index=True)
    names = check_names(table["file"].tolist(), "FairFace's tables")
    check_present(names, files.pictures, "FairFace's tables")
    classes = _ordered(label, table[label])
    if len(classes) < 2:
        raise DataError(f"{NAME}: all {len(names)} images have {label} {classes[0]!r}; choose another --label.")
    codes = table[label].map({value: code for code, value in enumerate(classes)}).to_numpy(dtype=np.int64)
    training = np.asarray([name.startswith("train/") for name in names])
    split = np.full(len(names), "test", dtype="<U5")
    groups = group_labels(table, [name for name in ("gender", "race", "age") if name in {*features, label}])
    split[training] = stratified_split(groups[training], codes[training], seed=seed, shares=VAL_ONLY)
    folder = files.pictures.relative_to(root).as_posix()
    paths = names if folder == "." else [f"{folder}/{name}" for name in names]
    kept = {feature: table[feature].to_numpy(dtype=np.str_) for feature in features}
    frame = pd.DataFrame({"sample_id": names, "path": paths, "split": split, "label": codes, **kept})
    return Samples(NAME, root, frame, classes, features)


def _columns(label: str | None, sensitive: Sequence[str] | None) -> tuple[str, tuple[str, ...]]:
    label = label or LABEL
    default = SENSITIVE_FEATURES if label not in SENSITIVE_FEATURES else ("gender",)
    features = default if sensitive is None else tuple(dict.fromkeys(sensitive))
    for name, flag in ((label, "--label"), *((feature, "--sensitive") for feature in features)):
        if name not in COLUMNS:
            raise InputError(f"{NAME} has no column {name!r} for {flag}: {did_you_mean(name, COLUMNS)}")
    if label in features:
        raise InputError(f"{NAME}: {label!r} is the label and a sensitive feature; choose another for one of them.")
    return label, features


def _read_table(path: Path, part: str) -> pd.DataFrame:
    table = read_text_table(path, mend="download it again")
    for column in ("file", "gender", "race", "age"):
        if column not in table.columns:
            raise DataError(f"{path} has no column {column!r}; download it again.")
    if table.empty:
        raise DataError(f"{path} lists no images; download it again.")
    if "service_test" not in table.columns:
        table["service_test"] = "unknown"
    for column, known in VALUES.items():
        _check_values(table[column].tolist(), column, known, path)
    # A name that leaves the folder is refused later, with the words for that.
    inside = (name for name in table["file"] if ".." not in name and not name.startswith("/"))
    strange = [name for name in inside if not name.startswith(f"{part}/")]
    if strange:
        raise DataError(f"{path} lists {strange[0]!r}, which is not in {part}/; download it again.")
    table["age"] = table["age"].replace(SHORT_AGES)
    return table


def _check_values(values: Sequence[str], column: str, known: Sequence[str], path: Path) -> None:
    """Raise an error for the first row with an unknown value, and suggest what it probably was."""
    for row, value in enumerate(values):
        if value in known:
            continue
        where = f"{path}, line {row + 1 + HEADER_LINES}"
        if not value:
            raise DataError(f"{where}: no {column}; fill it in, or download the table again.")
        age = _age_before_a_spreadsheet(value) if column == "age" else None
        if age is not None:
            raise DataError(
                f"{where}: age {value!r} is {age!r} turned into a date by a spreadsheet; download the table again, and "
                "import it with all columns as text."
            )
        raise DataError(f"{where}: {column} {value!r} is unknown: {did_you_mean(value, known)}")


def _age_before_a_spreadsheet(value: str) -> str | None:
    """Return the age group that a spreadsheet turned into a date, if the text is one."""
    parts = re.findall(r"[A-Za-z]{3}|\d+", value)
    numbers = [str(MONTHS.index(part.lower()) + 1) if part.lower() in MONTHS else str(int(part)) for part in parts if
               part.lower() in MONTHS or part.isdigit()]  # fmt: skip
    for age in VALUES["age"]:
        low, _, high = age.partition("-")
        if high and len(numbers) >= 2 and {low, high} <= set(numbers):
            return age
    return None


def _ordered(column: str, values: pd.Series[str]) -> tuple[str, ...]:
    """Classes by name, ages from young to old."""
    names = sorted(set(values))
    if column == "age":
        names.sort(key=lambda age: int(age.replace("+", "-").partition("-")[0]) if age[:1].isdigit() else 0)
    return tuple(names)
