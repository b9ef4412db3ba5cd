"""The table of samples: one row per image, with its split, label and sensitive features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from fqbench.contracts.task import PredictionTask
from fqbench.data.pictures import ROW, EmbeddedPictures, Files
from fqbench.errors import InputError, did_you_mean
from fqbench.storage import text_digest

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from fqbench.data.pictures import Pictures

SPLITS = ("train", "val", "test")
GROUP_SEPARATOR = "×"
SMALL_GROUP = 30  # groups with fewer images are marked in every report
SHOWN = 4
FIXED_COLUMNS = ("sample_id", "path", "split", "label")


@dataclass(frozen=True)
class Problem:
    """A problem that a reader found in a data set.

    Attributes
    ----------
    what : str
        What it is, and what was done.
    count : int
        How many files or rows.
    first : tuple of str
        The first few of them.
    """

    what: str
    count: int
    first: tuple[str, ...]


@dataclass(frozen=True)
class Attribute:
    """One of several things that are predicted for each image: its name, and the names of "no" and "yes"."""

    name: str
    classes: tuple[str, str]


@dataclass(frozen=True)
class Samples:
    """A data set as a table; the pictures stay where they are.

    Attributes
    ----------
    name : str
        Name of the data set.
    root : Path
        Folder that the paths in ``frame`` are relative to.
    frame : DataFrame
        Columns ``sample_id`` (str, unique), ``path`` (str), ``split`` ("train", "val" or "test"), ``label``
        (int64, an index into ``classes``), then one str column a sensitive feature. With attributes, ``label`` is
        their combination, and each has a column of 0 and 1 (`attribute_column`).
    classes : tuple of str
        Names of the classes; with attributes, of these: what the outputs of a model stand for.
    sensitive_features : tuple of str
        Names of the sensitive-feature columns.
    notice : str
        What every report on this data set has to say (for synthfaces: that it is not evidence about people).
    problems : tuple of Problem
        What the reader left out.
    image_column : str
        Column that holds the pictures, where these lie inside Parquet or Arrow files; ``path`` is then file and row.
        Empty where each picture is a file.
    attributes : tuple of Attribute
        What is predicted, where it is more than one label; else empty.
    """

    name: str
    root: Path
    frame: pd.DataFrame
    classes: tuple[str, ...]
    sensitive_features: tuple[str, ...]
    notice: str = ""
    problems: tuple[Problem, ...] = ()
    image_column: str = ""
    attributes: tuple[Attribute, ...] = ()

    @property
    def pictures(self) -> Pictures:
        """What opens the pictures of ``frame["path"]``."""
        return EmbeddedPictures(self.root, self.image_column) if self.image_column else Files(self.root)

    @property
    def files(self) -> list[str]:
        """The files that the pictures lie in, each once, in the table's order."""
        paths = self.frame["path"]
        return list(dict.fromkeys(path.rpartition(ROW)[0] for path in paths)) if self.image_column else paths.tolist()

    @property
    def task(self) -> PredictionTask:
        """Whether the labels are classes or attributes."""
        return PredictionTask.ATTRIBUTES if self.attributes else PredictionTask.CLASSES

    @property
    def labellings(self) -> tuple[Samples, ...]:
        """The data set with one label: itself, or once for each attribute."""
        return tuple(self.of(one) for one in self.attributes) or (self,)

    def of(self, attribute: Attribute) -> Samples:
        """Return the data set with one attribute as its label."""
        frame = self.frame.assign(label=self.frame[attribute_column(attribute.name)])
        return replace(self, frame=frame, classes=attribute.classes, attributes=())

    def targets(self, frame: pd.DataFrame) -> NDArray[np.int64]:
        """Return what a model is to predict for some rows: classes (rows,), or 0 and 1 (rows, attributes)."""
        import numpy as np

        columns = [attribute_column(one.name) for one in self.attributes] or "label"
        return frame[columns].to_numpy(dtype=np.int64)

    def require_one_label(self, what: str) -> None:
        """Check that there is one label per image.

        Raises
        ------
        InputError
            There are several attributes; ``what`` begins the message.
        """
        if self.attributes:
            raise InputError(
                f"{what} needs one label per image, and {self.name} is read with {len(self.attributes)} attributes "
                f"({', '.join(self.classes[:SHOWN])}{', …' if len(self.classes) > SHOWN else ''}); choose one of them "
                "with --label."
            )

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the rows and the names of the classes: what later stages depend on."""
        own = [attribute_column(one.name) for one in self.attributes]
        columns = [*FIXED_COLUMNS, *own, *self.sensitive_features]
        text = self.frame[columns].to_csv(index=False, lineterminator="\n")
        of_attributes = (self.attributes,) if self.attributes else ()
        head = repr((self.name, self.classes, self.sensitive_features, *of_attributes))
        return text_digest(head + "\n" + text)

    def split(self, name: str) -> pd.DataFrame:
        """Return the rows of one split, in table order.

        Raises
        ------
        InputError
            The data set has no rows in that split.
        """
        rows = self.frame[self.frame["split"] == name]
        if rows.empty:
            present = sorted(self.frame["split"].unique())
            if name == "train":
                raise InputError(
                    f"{self.name} has images in the split {' and '.join(present)} only, and training and calibration "
                    "need train images; add some, or evaluate a trained model without them: --onnx FILE, or --model "
                    "NAME --weights FILE --epochs 0, with --method none, cast or ptq_dynamic."
                )
            raise InputError(f"{self.name} has no images in split {name!r}: {did_you_mean(name, present)}")
        return rows

    def features(self, by: Sequence[str] | None = None) -> tuple[str, ...]:
        """Return the sensitive features asked for, all of them by default.

        Raises
        ------
        InputError
            A name is not a sensitive feature of this data set.
        """
        return features_among(self.name, self.sensitive_features, by)

    def groups(self, by: Sequence[str], where: tuple[str, str] | None = None) -> tuple[str, ...]:
        """Return the names of all groups in any split, sorted, so that one without images in a split is still known.

        Parameters
        ----------
        by : sequence of str
            Sensitive features whose intersections are the groups.
        where : tuple of two str, optional
            A sensitive feature and a value; only groups among these rows are returned.
        """
        frame = self.frame
        if where is not None:
            frame = frame[frame[where[0]].astype(str) == where[1]]
        return tuple(sorted(map(str, set(group_labels(frame, by)))))


def features_among(data: str, known: Sequence[str], by: Sequence[str] | None) -> tuple[str, ...]:
    """Return the sensitive features asked for among those that a data set has, all of them by default.

    Raises
    ------
    InputError
        A name is not among them.
    """
    wanted = tuple(by) if by else tuple(known)
    for feature in wanted:
        if feature not in known:
            raise InputError(f"{data} has no sensitive feature {feature!r}: {did_you_mean(feature, known)}")
    return wanted


def attribute_column(name: str) -> str:
    """Return the column of the table of samples that holds an attribute."""
    return f"label.{name}"


def group_labels(frame: pd.DataFrame, by: Sequence[str]) -> NDArray[np.str_]:
    """Name the group of each row: the values of the sensitive features ``by``, joined with ``×``.

    Parameters
    ----------
    frame : DataFrame
        Rows with one column per feature.
    by : sequence of str
        Sensitive features; a group is an intersection of their values. Empty: one group named "all".

    Returns
    -------
    ndarray of str, shape (rows,)
    """
    import numpy as np

    if not by:
        return np.full(len(frame), "all")
    columns = [frame[feature].astype(str) for feature in by]
    joined = columns[0]
    for column in columns[1:]:
        joined = joined.str.cat(column, sep=GROUP_SEPARATOR)
    return np.asarray(joined, dtype=np.str_)
