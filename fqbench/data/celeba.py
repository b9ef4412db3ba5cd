"""CelebA as it is distributed: 40 attributes a face, the official split, aligned pictures.

Liu et al. 2015, https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html. Files lie as in the original archives, in
torchvision's ``celeba`` folder, or as comma-separated variants of the same tables.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fqbench.data.listing import check_names, check_present, first_existing, some
from fqbench.data.samples import Problem, Samples
from fqbench.errors import DataError, InputError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

NAME = "celeba"
LABEL = "Smiling"
SENSITIVE_FEATURES = ("Male", "Young")
ATTRIBUTES = tuple(
    f"{folder}list_attr_celeba.{ending}" for ending in ("txt", "csv") for folder in ("", "Anno/", "celeba/")
)
PARTITION = tuple(
    f"{folder}list_eval_partition.{ending}" for ending in ("txt", "csv") for folder in ("", "Eval/", "Anno/", "celeba/")
)
PICTURES = (
    "img_align_celeba/img_align_celeba",  # as a second archive nests it
    "img_align_celeba",
    "Img/img_align_celeba",
    "celeba/img_align_celeba",
)
SPLITS = {0: "train", 1: "val", 2: "test"}


@dataclass(frozen=True)
class CelebaFiles:
    """Where the parts of a CelebA tree lie."""

    attributes: Path
    partition: Path
    pictures: Path


def find_files(root: Path) -> CelebaFiles:
    """Find attributes, partition and pictures below ``root``.

    Raises
    ------
    InputError
        One of them is missing; the message says where to get it.
    """
    if not root.is_dir():
        raise InputError(f"{NAME}: there is no folder {root}; give the one that holds img_align_celeba.")
    parts = {"list_attr_celeba.txt": ATTRIBUTES, "list_eval_partition.txt": PARTITION, "img_align_celeba": PICTURES}
    found = {name: first_existing(root, candidates) for name, candidates in parts.items()}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        raise InputError(
            f"{NAME}: {root} has no {' and no '.join(missing)}; download it from "
            "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html and unpack it there."
        )
    attributes, partition, pictures = (path for path in found.values() if path is not None)
    return CelebaFiles(attributes, partition, pictures)


def read_celeba(root: Path, *, label: str | None = None, sensitive: Sequence[str] | None = None) -> Samples:
    """Read CelebA with the official split.

    Parameters
    ----------
    root : Path
        Folder of the data set.
    label : str, optional
        Any of the 40 attributes; Smiling by default. Its classes are "not Smiling" and "Smiling".
    sensitive : sequence of str, optional
        Any other attributes; Male and Young by default.

    Returns
    -------
    Samples
        Rows in the order of the attribute table; ``sample_id`` is the file name.

    Raises
    ------
    InputError
        A part is missing, an attribute is unknown, or a name occurs twice or leaves the folder.
    DataError
        A table is cut short or holds other values, or pictures are missing.
    """
    import pandas as pd

    files = find_files(root)
    table = read_attributes(files.attributes)
    label = label or LABEL
    features = tuple(dict.fromkeys(SENSITIVE_FEATURES if sensitive is None else sensitive))
    if sensitive is None:
        features = tuple(feature for feature in features if feature != label)
    _check_columns(table, label, features)
    names = check_names(table["file_name"].tolist(), files.attributes.name)
    present = check_present(names, files.pictures, files.attributes.name)
    split = _splits(files.partition, names, files.attributes.name)
    positive = {column: table[column].to_numpy() > 0 for column in (label, *features)}
    if len(np.unique(positive[label])) < 2:
        raise DataError(f"{NAME}: all {len(names)} images have the same {label!r}; choose another --label.")
    folder = files.pictures.relative_to(root)
    columns = {
        "sample_id": names,
        "path": [f"{folder.as_posix()}/{name}" for name in names],
        "split": split,
        "label": positive[label].astype(np.int64),
        **{feature: np.where(positive[feature], feature, f"not {feature}") for feature in features},
    }
    return Samples(
        name=NAME,
        root=root,
        frame=pd.DataFrame(columns),
        classes=(f"not {label}", label),
        sensitive_features=features,
        problems=_unlisted(present, names),
    )


def read_attributes(path: Path) -> pd.DataFrame:
    """Read ``list_attr_celeba``: ``file_name``, then one int8 column an attribute, 1 where it holds.

    Raises
    ------
    DataError
        The table is damaged: its count line is wrong, a row is short, or a value is none of -1, 0, 1.
    """
    text = _text(path)
    if path.suffix == ".csv":
        header, _, body = text.partition("\n")
        columns, count = [part.strip().strip('"') for part in header.strip().split(",")][1:], None
    else:
        first, _, rest = text.partition("\n")
        header, _, body = rest.partition("\n")
        if not first.strip().isdigit():
            raise DataError(f"{path} does not begin with the number of its rows ({first[:40]!r}); download it again.")
        columns, count = header.split(), int(first)
    if not columns or len(set(columns)) < len(columns):
        raise DataError(f"{path} names no attributes in its header, or one twice; download it again.")
    table = _rows(path, body, columns, "int8")
    if count is not None and count != len(table):
        raise DataError(f"{path} says {count} rows in its first line and has {len(table)}; download it again.")
    values = table[columns].to_numpy()
    if not ((values >= -1) & (values <= 1)).all() or ((values == 0).any() and (values == -1).any()):
        raise DataError(f"{path} holds other values than -1 and 1; download it again.")
    return table


def _text(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text in UTF-8 ({error}); download it again.") from error
    return text.replace("\r\n", "\n")


def _rows(path: Path, body: str, columns: Sequence[str], kind: str) -> pd.DataFrame:
    import pandas as pd

    separator = "," if path.suffix == ".csv" else r"\s+"
    first = body.partition("\n")[0]
    width = len(first.split(",") if separator == "," else first.split())
    if not body.strip():
        raise DataError(f"{path} lists no images; download it again.")
    if width != len(columns) + 1:
        raise DataError(f"{path} has {width} fields in its first row, not {len(columns) + 1}; download it again.")
    try:
        return pd.read_csv(
            io.StringIO(body),
            sep=separator,
            header=None,
            names=["file_name", *columns],
            dtype={"file_name": str} | dict.fromkeys(columns, kind),
            index_col=False,
            keep_default_na=False,
        )
    except (ValueError, TypeError, pd.errors.ParserWarning) as error:  # a parser error is a ValueError
        reason = str(error).strip().rstrip(".")
        raise DataError(f"{path} is damaged ({reason}); download it again.") from error


def _check_columns(table: pd.DataFrame, label: str, features: Sequence[str]) -> None:
    known = list(table.columns[1:])
    for name, flag in ((label, "--label"), *((feature, "--sensitive") for feature in features)):
        if name not in known:
            raise InputError(f"{NAME} has no attribute {name!r} for {flag}: {did_you_mean(name, known)}")
    if label in features:
        raise InputError(f"{NAME}: {label!r} is the label and a sensitive feature; choose another for one of them.")


def _splits(path: Path, names: list[str], attributes: str) -> list[str]:
    text = _text(path)
    if path.suffix == ".csv":
        text = text.partition("\n")[2]
    table = _rows(path, text, ["partition"], "int64")
    unknown = sorted(set(table["partition"]) - set(SPLITS))
    if unknown:
        raise DataError(f"{path} has the partition {unknown[0]}, none of 0, 1, 2; download it again.")
    listed = check_names(table["file_name"].tolist(), path.name)
    of_name = dict(zip(listed, table["partition"].map(SPLITS), strict=True))
    missing = [name for name in names if name not in of_name]
    if missing or len(of_name) != len(names):
        odd = missing or sorted(set(listed) - set(names))
        raise DataError(
            f"{path} and {attributes} do not list the same images: {len(odd)} are in one alone ({some(odd)}); "
            "download both again."
        )
    return [of_name[name] for name in names]


def _unlisted(present: set[str], names: list[str]) -> tuple[Problem, ...]:
    extra = sorted(present - set(names))
    return (Problem("file(s) that no table lists are left out", len(extra), tuple(extra[:10])),) if extra else ()
