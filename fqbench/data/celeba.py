"""CelebA as it is distributed: 40 attributes per face, the official split, aligned pictures.

Liu et al. 2015, https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html. Files lie as in the original archives, in
torchvision's ``celeba`` folder, or as comma-separated variants of the same tables.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fqbench.data.attributes import Labels, asked_labels, refuse_shared
from fqbench.data.listing import check_names, check_present, first_existing, some
from fqbench.data.samples import Attribute, Problem, Samples
from fqbench.errors import DataError, InputError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

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
        Any of the 40 attributes; Smiling by default. Its classes are "not Smiling" and "Smiling". Several are separated
        by commas.
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
    labels = asked_labels(label) or (LABEL,)
    refuse_shared(labels, sensitive, NAME)
    features = tuple(dict.fromkeys(SENSITIVE_FEATURES if sensitive is None else sensitive))
    if sensitive is None:
        features = tuple(feature for feature in features if feature not in labels)
    _check_columns(table, labels, features)
    names = check_names(table["file_name"].tolist(), files.attributes.name)
    present = check_present(names, files.pictures, files.attributes.name)
    split = _splits(files.partition, names, files.attributes.name)
    positive = {column: table[column].to_numpy() > 0 for column in (*labels, *features)}
    found = _labels({label: positive[label].astype(np.int64) for label in labels})
    folder = files.pictures.relative_to(root)
    columns = {
        "sample_id": names,
        "path": [f"{folder.as_posix()}/{name}" for name in names],
        "split": split,
        "label": found.codes,
        **found.columns,
        **{feature: np.where(positive[feature], feature, f"not {feature}") for feature in features},
    }
    return Samples(
        name=NAME,
        root=root,
        frame=pd.DataFrame(columns),
        classes=found.classes,
        sensitive_features=features,
        problems=_unlisted(present, names),
        attributes=found.attributes,
    )


def _labels(values: Mapping[str, NDArray[np.int64]]) -> Labels:
    for label, codes in values.items():
        if len(np.unique(codes)) < 2:
            raise DataError(f"{NAME}: all {len(codes)} images have the same {label!r}; choose another --label.")
    attributes = {Attribute(label, (f"not {label}", label)): codes for label, codes in values.items()}
    if len(values) > 1:
        return Labels.of_attributes(attributes)
    ((attribute, codes),) = attributes.items()
    return Labels(codes, attribute.classes)


def read_attributes(path: Path) -> pd.DataFrame:
    """Read ``list_attr_celeba``: ``file_name``, then one int8 column per attribute, 1 where it is true.

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
        raise DataError(f"{path} has no attribute names in its header, or one of them twice; download it again.")
    lines = _Lines(path, body, 2 if count is None else 3)
    table = lines.parsed(columns, "int8")
    if count is not None and count != len(table):
        raise DataError(f"{path} declares {count} rows in its first line but has {len(table)}; download it again.")
    values = table[columns].to_numpy()
    allowed = {-1, 1} if (values == -1).any() else {0, 1}
    if not np.isin(values, list(allowed)).all():
        raise lines.fault(columns, allowed)
    return table


def _text(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error}); download it again.") from error
    return text.replace("\r\n", "\n")


@dataclass(frozen=True)
class _Lines:
    """The rows of a table; ``text`` starts at line ``first`` of the file at ``path``."""

    path: Path
    text: str
    first: int

    def fields(self, line: str) -> list[str]:
        return [part.strip() for part in line.split(",")] if self.path.suffix == ".csv" else line.split()

    def parsed(self, columns: Sequence[str], kind: str) -> pd.DataFrame:
        import pandas as pd

        if not self.text.strip():
            raise DataError(f"{self.path} lists no images; download it again.")
        # pandas takes too many fields in the first row for an index.
        if len(self.fields(self.text.partition("\n")[0])) != len(columns) + 1:
            raise self.fault(columns, None)
        try:
            return pd.read_csv(
                io.StringIO(self.text),
                sep="," if self.path.suffix == ".csv" else r"\s+",
                header=None,
                names=["file_name", *columns],
                dtype={"file_name": str} | dict.fromkeys(columns, kind),
                index_col=False,
                keep_default_na=False,
            )
        except (ValueError, TypeError, pd.errors.ParserWarning) as error:  # a parser error is a ValueError
            raise self.fault(columns, None) from error

    def fault(self, columns: Sequence[str], allowed: Collection[int] | None) -> DataError:
        """Return an error that names the first invalid row."""
        numbers = None if allowed is None else ", ".join(map(str, sorted(allowed)))
        for number, line in enumerate(self.text.split("\n"), self.first):
            fields = self.fields(line)
            where = f"{self.path}, line {number} ({fields[0] if fields else 'empty'})"
            if line.strip() and len(fields) != len(columns) + 1:
                return DataError(f"{where}: {len(fields)} fields instead of {len(columns) + 1}; download it again.")
            for column, value in zip(columns, fields[1:], strict=False):
                digits = value.removeprefix("-")
                if not (digits.isascii() and digits.isdigit()) or (allowed is not None and int(value) not in allowed):
                    what = f"{column} is {value!r}, not {numbers or 'a whole number'}"
                    return DataError(f"{where}: {what}; download it again.")
        return DataError(f"{self.path} is damaged; download it again.")


def _check_columns(table: pd.DataFrame, labels: Sequence[str], features: Sequence[str]) -> None:
    known = list(table.columns[1:])
    for name, flag in (*((label, "--label") for label in labels), *((feature, "--sensitive") for feature in features)):
        if name not in known:
            raise InputError(f"{NAME} has no attribute {name!r} for {flag}: {did_you_mean(name, known)}")
    if labels[0] in features:
        raise InputError(f"{NAME}: {labels[0]!r} is the label and a sensitive feature; choose another for one of them.")


def _splits(path: Path, names: list[str], attributes: str) -> list[str]:
    text = _text(path)
    if path.suffix == ".csv":
        text = text.partition("\n")[2]
    lines = _Lines(path, text, 2 if path.suffix == ".csv" else 1)
    table = lines.parsed(["partition"], "int64")
    if not table["partition"].isin(list(SPLITS)).all():
        raise lines.fault(["partition"], SPLITS)
    listed = check_names(table["file_name"].tolist(), path.name)
    of_name = dict(zip(listed, table["partition"].map(SPLITS), strict=True))
    missing = [name for name in names if name not in of_name]
    if missing or len(of_name) != len(names):
        odd = missing or sorted(set(listed) - set(names))
        raise DataError(
            f"{path} and {attributes} do not list the same images: {len(odd)} are in only one of them ({some(odd)}); "
            "download both again."
        )
    return [of_name[name] for name in names]


def _unlisted(present: set[str], names: list[str]) -> tuple[Problem, ...]:
    extra = sorted(present - set(names))
    return (Problem("file(s) that no table lists are left out", len(extra), tuple(extra[:10])),) if extra else ()
