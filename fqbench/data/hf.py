"""A Hugging Face data set on disk: Arrow files of ``save_to_disk``, or Parquet files, with the images inside.

Both are read by pyarrow, so that nothing else has to be installed. Which column holds images and what the numbers of a
label stand for is written in the files' own schema.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fqbench.data.arrow import as_text, plain_columns
from fqbench.data.attributes import label_columns, labels_of, refuse_shared
from fqbench.data.columns import SPLIT_NAMES, group_rows, named_splits, sensitive_columns
from fqbench.data.pictures import ROW, open_arrow
from fqbench.data.samples import Problem, Samples
from fqbench.data.splits import split_rows
from fqbench.data.table import split_column
from fqbench.errors import DataError, InputError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

NAME = "hf"
WHOLE = "train"  # of data that name no split: these are divided
LISTED = 10
LABELS = ("label", "labels")


@dataclass(frozen=True)
class Shard:
    """One file of a data set.

    Attributes
    ----------
    path : str
        Relative to the data set's folder.
    split : str
        As the data set names it; empty where it does not.
    """

    path: str
    split: str

    @property
    def standard_split(self) -> str:
        """Train, val or test."""
        return SPLIT_NAMES[self.split.lower()] if self.split else WHOLE


def find_shards(root: Path) -> list[Shard]:
    """Return the files of a data set in order.

    Raises
    ------
    InputError
        There is no such folder, or it holds no data set.
    DataError
        A file that the data set lists is missing or damaged.
    """
    if not root.is_dir():
        raise InputError(
            f"{NAME}: there is no folder {root}; give the one that save_to_disk wrote, or of Parquet files."
        )
    if (root / "dataset_dict.json").is_file():
        splits: list[str] = _json(root / "dataset_dict.json")["splits"]
        return [shard for split in splits for shard in _saved(root, split, split)]
    if (root / "state.json").is_file():
        return list(_saved(root, "", str(_json(root / "state.json").get("_split") or "")))
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.parquet"))
    if not files:
        raise InputError(
            f"{NAME}: {root} holds neither a data set of save_to_disk (dataset_dict.json or state.json) nor .parquet "
            "files; save one there with dataset.save_to_disk, or use --data imagefolder for images in folders."
        )
    return [Shard(path, _split_of_name(path)) for path in files]


def read_hf(
    root: Path,
    shards: Sequence[Shard],
    *,
    label: str | None = None,
    sensitive: Sequence[str] | None = None,
    image: str | None = None,
    split: str | None = None,
    seed: int = 0,
    threshold: float | None = None,
) -> Samples:
    """Read a data set of Arrow or Parquet files; the images stay where they are.

    Parameters
    ----------
    root : Path
        Its folder.
    shards : sequence of Shard
        What `find_shards` returns.
    label : str, optional
        Column of the label, several attributes separated by commas; by default ``label``, ``labels`` or the
        only column of type ClassLabel.
    sensitive : sequence of str, optional
        Columns of the sensitive features; by default every other plain column with few values.
    image : str, optional
        Column of the images; by default the only one.
    split : str, optional
        Column of the split, for data whose files do not name it.
    seed : int
        Seed of a split that the data do not bring.
    threshold : float, optional
        Divides a label of numbers into two classes.

    Returns
    -------
    Samples
        Classes are those of the ClassLabel in its order, else the values sorted.

    Raises
    ------
    InputError
        A column is missing or not clear, or the splits have unknown names.
    DataError
        A file is damaged, its columns differ from the first one's, or there are too few classes.
    """
    import pandas as pd

    kept, left_out = _usable(shards)
    schema, where = _schema(root / kept[0].path), root.name
    features = _features(schema)
    image = _image_column(schema, features, image, where)
    plain = plain_columns(schema)
    tables = [_rows(root, shard, plain, features) for shard in kept]
    split = split_column(tables[0], split, where)
    own = {split} if split else set()
    columns = label_columns(tables[0], label or _default_label(plain, features), where, own)
    refuse_shared(columns, sensitive, where)
    kept, tables, unlabelled = _labelled(kept, tables, columns[0])
    table = pd.concat(tables, ignore_index=True)
    chosen = sensitive_columns(table, sensitive, where, {*own, *columns})
    of_row = [shard for shard, rows in zip(kept, tables, strict=True) for _ in range(len(rows))]
    ids = _ids([shard.split for shard in of_row])
    known = {column: features.get(column, {}).get("names") for column in columns}
    labels = labels_of(table, columns, ids, where, classes=known, threshold=threshold)
    grouping = group_rows(table, chosen, labels.codes, sensitive, where)
    if split and not any(shard.split for shard in kept):
        named = named_splits(table[split].tolist(), ids, where)
    else:
        named = [shard.standard_split for shard in of_row]
    parts, notice = split_rows(named, grouping.groups, labels.codes, seed=seed)
    paths = [f"{shard.path}{ROW}{row}" for shard, rows in zip(kept, tables, strict=True) for row in range(len(rows))]
    fixed = {"sample_id": ids, "path": paths, "split": parts, "label": labels.codes, **labels.columns}
    return Samples(
        name=NAME,
        root=root,
        frame=pd.DataFrame({**fixed, **grouping.values}),
        classes=labels.classes,
        sensitive_features=grouping.features,
        notice=notice,
        problems=(*left_out, *unlabelled),
        image_column=image,
        attributes=labels.attributes,
    )


def _saved(root: Path, folder: str, split: str) -> Iterator[Shard]:
    state = _json(root / folder / "state.json")
    for file in state["_data_files"]:
        path = Path(folder) / file["filename"]
        if not (root / path).is_file():
            raise DataError(
                f"{root / path} is missing, which {folder or root.name}/state.json lists; save the data again."
            )
        yield Shard(path.as_posix(), split)


def _json(path: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); save the data set again with save_to_disk.") from error
    return values


def _split_of_name(path: str) -> str:
    """Return the split in ``data/train-00000-of-00002.parquet`` or ``train/part0.parquet``; empty without one."""
    for part in reversed(Path(path).with_suffix("").parts):
        for word in re.split(r"[-._ ]", part):
            if word.lower() in SPLIT_NAMES:
                return word
    return ""


def _usable(shards: Sequence[Shard]) -> tuple[list[Shard], tuple[Problem, ...]]:
    """Drop splits other than train, val and test, if there are any of these."""
    known = [shard for shard in shards if shard.split.lower() in SPLIT_NAMES]
    others = list(dict.fromkeys(shard.split for shard in shards if shard.split.lower() not in SPLIT_NAMES))
    if not known:
        if len(others) > 1:
            raise InputError(
                f"{NAME}: the splits {', '.join(others)} have unknown names; save them as train, validation and test, "
                "or as one data set with a column 'split'."
            )
        return [Shard(shard.path, "") for shard in shards], ()
    if not others:
        return known, ()
    what = "split(s) other than train, validation and test are left out"
    return known, (Problem(what, len(others), tuple(others[:LISTED])),)


def _schema(path: Path) -> pa.Schema:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_schema(path) if path.suffix == ".parquet" else open_arrow(path).schema
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def _features(schema: pa.Schema) -> dict[str, Mapping[str, Any]]:
    """Return the types that Hugging Face's library wrote into the schema, by column."""
    try:
        described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features: dict[str, Mapping[str, Any]] = described.get("info", {}).get("features") or {}
    except (ValueError, AttributeError):
        return {}
    return {name: feature for name, feature in features.items() if isinstance(feature, Mapping)}


def _image_column(schema: pa.Schema, features: Mapping[str, Mapping[str, Any]], asked: str | None, where: str) -> str:
    found = [name for name in schema.names if features.get(name, {}).get("_type") == "Image"]
    found = found or [field.name for field in schema if _holds_bytes(field.type)]
    if asked is not None:
        if asked not in found:
            hint = did_you_mean(asked, found) if found else "it has none."
            raise InputError(f"{where} has no column {asked!r} of images for --image-column: {hint}")
        return asked
    if len(found) != 1:
        what = f"several columns of images ({', '.join(found)}); choose one with --image-column" if found else (
            f"no column with images inside (its columns: {', '.join(schema.names)}); use --data table --table FILE "
            "--images DIR where a column names image files"
        )  # fmt: skip
        raise InputError(f"{where} has {what}.")
    return str(found[0])


def _holds_bytes(kind: pa.DataType) -> bool:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return bool(kind.get_field_index("bytes") >= 0)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _default_label(plain: Sequence[str], features: Mapping[str, Mapping[str, Any]]) -> str | None:
    usual = [name for name in LABELS if name in plain]
    typed = [name for name in plain if features.get(name, {}).get("_type") == "ClassLabel"]
    return usual[0] if usual else typed[0] if len(typed) == 1 else None


def _rows(root: Path, shard: Shard, columns: Sequence[str], features: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Return the plain columns of one file as text; the images are not read."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = root / shard.path
    try:
        if path.suffix == ".parquet":
            table = pq.read_table(path, columns=list(columns))
            rows = pq.read_metadata(path).num_rows
        else:
            table = open_arrow(path).select(list(columns))
            rows = table.num_rows
        text = {name: as_text(table.column(name), features.get(name, {}).get("names")) for name in columns}
    except (pa.ArrowException, OSError, KeyError) as error:
        raise _damaged(path, error) from error
    return pd.DataFrame(text, index=range(rows))


def _labelled(
    shards: list[Shard], tables: list[pd.DataFrame], label: str
) -> tuple[list[Shard], list[pd.DataFrame], tuple[Problem, ...]]:
    """Drop splits without labels: many public test sets do not publish them."""
    with_label = {shard.split for shard, table in zip(shards, tables, strict=True) if (table[label] != "").any()}
    without = tuple(dict.fromkeys(shard.split for shard in shards if shard.split not in with_label))
    if not without or not with_label:
        return shards, tables, ()
    kept = [index for index, shard in enumerate(shards) if shard.split in with_label]
    problem = Problem(f"split(s) have no values of {label!r} and are left out", len(without), without[:LISTED])
    return [shards[index] for index in kept], [tables[index] for index in kept], (problem,)


def _ids(splits: Sequence[str]) -> list[str]:
    """Number the rows of each split."""
    numbers = {split: count() for split in splits}
    return [f"{split or 'row'}-{next(numbers[split]):07d}" for split in splits]


def _damaged(path: Path, error: Exception) -> DataError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return DataError(f"{path} cannot be read ({reason}); save the data set again.")
