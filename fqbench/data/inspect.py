"""Inspect a data set before training: counts, imbalance, the smallest groups, problems."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from fqbench.data.samples import SMALL_GROUP, SPLITS, Problem, Samples, group_labels

if TYPE_CHECKING:
    import pandas as pd

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
        Images a class, in each split.
    groups : tuple of GroupSize
        Every group of the data, smallest first.
    class_imbalance, group_imbalance : float
        Images of the largest class (group) over those of the smallest.
    problems : tuple of Problem
        What the reader left out, and what the counts show.
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
    labels = frame["label"].map(dict(enumerate(samples.classes)))
    table = frame.assign(group=group_labels(frame, by), label=labels)
    splits = {name: int((table["split"] == name).sum()) for name in SPLITS}
    of_class = {
        name: {label: int(((table["split"] == name) & (table["label"] == label)).sum()) for label in samples.classes}
        for name in SPLITS
    }
    groups = _groups(table, samples.classes)
    totals = [sum(of_class[name][label] for name in SPLITS) for label in samples.classes]
    problems = (*samples.problems, *_empty_files(samples), *_count_problems(groups, of_class))
    return Inspection(
        data=samples.name,
        notice=samples.notice,
        by=by,
        images=len(frame),
        splits=splits,
        labels=of_class,
        groups=groups,
        class_imbalance=max(totals) / max(1, min(totals)),
        group_imbalance=groups[-1].images / groups[0].images,
        problems=problems,
    )


def _groups(table: pd.DataFrame, classes: Sequence[str]) -> tuple[GroupSize, ...]:
    found = []
    for group, rows in table.groupby("group", sort=True):
        splits = rows["split"].value_counts()
        labels = rows["label"].value_counts()
        found.append(
            GroupSize(
                group=str(group),
                images=len(rows),
                share=len(rows) / len(table),
                splits={name: int(splits.get(name, 0)) for name in SPLITS},
                labels={label: int(labels.get(label, 0)) for label in classes},
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
    """Empty files, which no decoder accepts; the pictures themselves are not opened."""
    root = os.fspath(samples.root)
    empty = [path for path in samples.files if os.stat(f"{root}/{path}").st_size == 0]  # noqa: PTH116 - 200,000 times
    return [Problem("picture(s) are empty files", len(empty), tuple(empty[:LISTED]))] if empty else []
