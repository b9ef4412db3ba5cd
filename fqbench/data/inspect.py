"""Inspect a data set before training: counts, imbalance, the smallest groups, problems."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from fqbench.data.samples import SMALL_GROUP, SPLITS, Problem, Samples, group_labels

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

SMALLEST = 5
LISTED = 10


@dataclass(frozen=True)
class GroupSize:
    """Images of one group.

    Attributes
    ----------
    group : str
        Its name.
    images : int
        In all splits together.
    share : float
        Of all images.
    splits, labels : dict
        Images a split and a class.
    """

    group: str
    images: int
    share: float
    splits: dict[str, int]
    labels: dict[str, int]


@dataclass(frozen=True)
class Inspection:
    """What a data set holds.

    Attributes
    ----------
    data, notice : str
        Its name, and what every report on it has to say.
    by : tuple of str
        Sensitive features that make the groups.
    images : int
        How many.
    splits : dict
        Images a split.
    labels : dict
        Images a class, in each split; of several attributes, images that have it.
    groups : tuple of GroupSize
        Every group of the data, smallest first.
    class_imbalance, group_imbalance : float
        Images of the largest class (group) over those of the smallest.
    problems : tuple of Problem
        What the reader left out, and what the counts show.
    several : bool
        Whether the labels are attributes, of which an image may have several or none.
    """

    data: str
    notice: str
    by: tuple[str, ...]
    images: int
    splits: dict[str, int]
    labels: dict[str, dict[str, int]]
    groups: tuple[GroupSize, ...]
    class_imbalance: float
    group_imbalance: float
    problems: tuple[Problem, ...]
    several: bool = False

    @property
    def smallest_groups(self) -> tuple[GroupSize, ...]:
        """The few groups with the fewest images."""
        return self.groups[:SMALLEST]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**asdict(self), "smallest_groups": [group.group for group in self.smallest_groups]}


def inspect(samples: Samples, by: Sequence[str] | None = None) -> Inspection:
    """Count a data set by split, class and group, and list what is wrong with it.

    Parameters
    ----------
    samples : Samples
        The table.
    by : sequence of str, optional
        Sensitive features whose intersections are the groups; all by default.

    Raises
    ------
    InputError
        An unknown sensitive feature.
    """
    by = samples.features(by)
    frame = samples.frame
    table = frame.assign(group=group_labels(frame, by))
    has = _has(samples)
    splits = {name: int((table["split"] == name).sum()) for name in SPLITS}
    of_class = {
        name: {label: int(rows[(table["split"] == name).to_numpy()].sum()) for label, rows in has.items()}
        for name in SPLITS
    }
    groups = _groups(table, has)
    problems = (*samples.problems, *_empty_files(samples))
    problems += tuple(_constant(of_class, splits) if samples.attributes else _count_problems(groups, of_class))
    return Inspection(
        data=samples.name,
        notice=samples.notice,
        by=by,
        images=len(frame),
        splits=splits,
        labels=of_class,
        groups=groups,
        class_imbalance=_imbalance(samples, has),
        group_imbalance=groups[-1].images / groups[0].images,
        problems=problems,
        several=bool(samples.attributes),
    )


def _has(samples: Samples) -> dict[str, NDArray[np.bool_]]:
    """Return which images are of each class, or have each attribute."""
    targets = samples.targets(samples.frame)
    if samples.attributes:
        return {one.name: targets[:, index] == 1 for index, one in enumerate(samples.attributes)}
    return {label: targets == index for index, label in enumerate(samples.classes)}


def _imbalance(samples: Samples, has: Mapping[str, NDArray[np.bool_]]) -> float:
    """Return images of the largest class over those of the smallest; of attributes, the largest such ratio."""
    counts = [int(rows.sum()) for rows in has.values()]
    if not samples.attributes:
        return max(counts) / max(1, min(counts))
    total = len(samples.frame)
    return max(max(count, total - count) / max(1, min(count, total - count)) for count in counts)


def _constant(labels: dict[str, dict[str, int]], splits: dict[str, int]) -> list[Problem]:
    problems = []
    for split, total in splits.items():
        constant = [name for name, count in labels[split].items() if total and count in {0, total}]
        if constant:
            what = f"attribute(s) have one value only in split {split!r}"
            problems.append(Problem(what, len(constant), tuple(constant[:LISTED])))
    return problems


def _groups(table: pd.DataFrame, has: Mapping[str, NDArray[np.bool_]]) -> tuple[GroupSize, ...]:
    found = []
    of_group = table["group"].to_numpy()
    for group, rows in table.groupby("group", sort=True):
        splits, mine = rows["split"].value_counts(), of_group == group
        found.append(
            GroupSize(
                group=str(group),
                images=len(rows),
                share=len(rows) / len(table),
                splits={name: int(splits.get(name, 0)) for name in SPLITS},
                labels={label: int(having[mine].sum()) for label, having in has.items()},
            )
        )
    return tuple(sorted(found, key=lambda group: (group.images, group.group)))


def _count_problems(groups: Sequence[GroupSize], labels: dict[str, dict[str, int]]) -> list[Problem]:
    problems = []
    for split in SPLITS:
        missing = [group.group for group in groups if not group.splits[split]]
        small = [group.group for group in groups if 0 < group.splits[split] < SMALL_GROUP]
        without = [label for label, count in labels[split].items() if not count]
        found = (
            (f"group(s) have no image in split {split!r}", missing),
            (f"group(s) have under {SMALL_GROUP} images in split {split!r}", small),
            (f"class(es) have no image in split {split!r}", without),
        )
        problems += [Problem(what, len(names), tuple(names[:LISTED])) for what, names in found if names]
    one_class = [group.group for group in groups if sum(count > 0 for count in group.labels.values()) < 2]
    if one_class:
        problems.append(Problem("group(s) have images of one class only", len(one_class), tuple(one_class[:LISTED])))
    return problems


def _empty_files(samples: Samples) -> list[Problem]:
    """Empty files, which no decoder accepts, and links to nowhere; the pictures themselves are not opened."""
    root, empty, missing = os.fspath(samples.root), [], []
    for path in samples.files:
        try:
            if os.stat(f"{root}/{path}").st_size == 0:  # noqa: PTH116 - 200,000 times
                empty.append(path)
        except OSError:
            missing.append(path)
    found = (("picture(s) are empty files", empty), ("picture(s) are missing, or links to nowhere", missing))
    return [Problem(what, len(paths), tuple(paths[:LISTED])) for what, paths in found if paths]
