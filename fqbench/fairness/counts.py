"""Predictions in, one small table of counts out, which is all that fairness metrics need."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from fqbench.data.samples import GROUP_SEPARATOR
from fqbench.errors import InputError, did_you_mean
from fqbench.fairness.encode import code_groups, code_labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_CELLS = 50_000_000


@dataclass(frozen=True, eq=False)
class _Table:
    """What both tables share: named groups on axis 0, classes on the others. Read-only; equal by value."""

    groups: tuple[str, ...]
    classes: tuple[str, ...]
    table: NDArray[np.int64]
    features: tuple[str, ...] = ()

    _class_axes = 2

    def __post_init__(self) -> None:
        table = np.ascontiguousarray(self.table, dtype=np.int64)
        shape = (len(self.groups), *[len(self.classes)] * self._class_axes)
        if table.shape != shape:
            raise InputError(
                f"a table of counts for {shape[0]} groups and {len(self.classes)} classes must have shape {shape}."
            )
        if table.size and table.min() < 0:
            raise InputError("a table of counts has a negative cell; counts are numbers of images.")
        for kind, names in (("group", self.groups), ("class", self.classes)):
            if len(set(names)) != len(names):
                raise InputError(f"a table of counts names a {kind} twice: {', '.join(names)}.")
        if len(self.features) > 1 and any(len(self._levels(group)) != len(self.features) for group in self.groups):
            raise InputError(f"each group must name one value for each of {', '.join(self.features)}.")
        if table is self.table or table.base is not None:
            table = table.copy()
        table.setflags(write=False)
        object.__setattr__(self, "table", table)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, type(self))
            and (self.groups, self.classes, self.features) == (other.groups, other.classes, other.features)
            and bool(np.array_equal(self.table, other.table))
        )

    def __hash__(self) -> int:
        return hash((self.groups, self.classes, self.features, self.table.tobytes()))

    @property
    def n(self) -> NDArray[np.int64]:
        """Images per group, shape (groups,)."""
        sizes: NDArray[np.int64] = self.table.sum(axis=tuple(range(1, self.table.ndim)))
        return sizes

    def _levels(self, group: str) -> tuple[str, ...]:
        return tuple(group.split(GROUP_SEPARATOR)) if len(self.features) > 1 else (group,)

    def _feature_index(self, feature: str) -> int:
        if feature not in self.features:
            raise InputError(f"the counts have no feature {feature!r}: {did_you_mean(feature, self.features)}")
        return self.features.index(feature)

    def _regroup(self, names: Sequence[str], features: tuple[str, ...]) -> Self:
        """Sum the groups that get the same new name, in order of first appearance."""
        groups = tuple(dict.fromkeys(names))
        table = np.zeros((len(groups), *self.table.shape[1:]), dtype=np.int64)
        np.add.at(table, [groups.index(name) for name in names], self.table)
        return replace(self, groups=groups, table=table, features=features)

    def marginal(self, feature: str) -> Self:
        """Sum over all features but one: the groups are then the values of ``feature``.

        Raises
        ------
        InputError
            The table has no such feature.
        """
        index = self._feature_index(feature)
        return self._regroup([self._levels(group)[index] for group in self.groups], (feature,))

    def within(self, control: str) -> dict[str, Self]:
        """Split by a control feature: for each of its values, the table over the remaining features.

        Gaps within each level of a control feature are fairlearn's ``control_features``.

        Raises
        ------
        InputError
            The table has no such feature, or no other feature.
        """
        index = self._feature_index(control)
        rest = tuple(feature for feature in self.features if feature != control)
        if not rest:
            raise InputError(f"{control!r} is the only feature, so nothing is left to compare within its levels.")
        parts: dict[str, Self] = {}
        for level in dict.fromkeys(self._levels(group)[index] for group in self.groups):
            rows = [i for i, group in enumerate(self.groups) if self._levels(group)[index] == level]
            names = [
                GROUP_SEPARATOR.join(v for j, v in enumerate(self._levels(self.groups[i])) if j != index) for i in rows
            ]
            parts[level] = replace(self, groups=tuple(names), table=self.table[rows], features=rest)
        return parts

    def pooled(self) -> Self:
        """Sum over all groups: one group named "all"."""
        return replace(self, groups=("all",), table=self.table.sum(axis=0, keepdims=True), features=())

    def select(self, groups: Sequence[str]) -> Self:
        """Keep the named groups, in this order; one that does not occur comes back empty."""
        table = np.zeros((len(groups), *self.table.shape[1:]), dtype=np.int64)
        for row, group in enumerate(groups):
            if group in self.groups:
                table[row] = self.table[self.groups.index(group)]
        return replace(self, groups=tuple(groups), table=table)

    def merge(self, *others: Self) -> Self:
        """Add tables of other images (shards, replicates); groups that only some of them have are kept.

        Raises
        ------
        InputError
            The tables are over different classes or features.
        """
        for other in others:
            if (other.classes, other.features) != (self.classes, self.features):
                raise InputError("only tables over the same classes and features can be merged.")
        groups = tuple(dict.fromkeys(group for part in (self, *others) for group in part.groups))
        table = np.sum([part.select(groups).table for part in (self, *others)], axis=0)
        return replace(self, groups=groups, table=table)

    def positive_index(self, positive: str | int | None) -> int:
        """Return the index of the positive class: the one named, else the second of two.

        Raises
        ------
        InputError
            No such class, or more than two classes and none named.
        """
        if positive is not None:
            if str(positive) not in self.classes:
                raise InputError(f"there is no class {str(positive)!r}: {did_you_mean(str(positive), self.classes)}")
            return self.classes.index(str(positive))
        if len(self.classes) != 2:
            raise InputError(f"name the positive class: one of {', '.join(self.classes)}.")
        return 1

    def binary(self, positive: str | int | None = None) -> Self:
        """Reduce to one class against the rest; the positive class comes last.

        Parameters
        ----------
        positive : str or int, optional
            Name of the positive class; the second of two by default.

        Raises
        ------
        InputError
            No such class, or more than two classes and none named.
        """
        index = self.positive_index(positive)
        table = self.table
        for axis in range(1, table.ndim):
            chosen = table.take([index], axis=axis)
            table = np.concatenate([table.sum(axis=axis, keepdims=True) - chosen, chosen], axis=axis)
        name = self.classes[index]
        rest = self.classes[1 - index] if len(self.classes) == 2 else f"not {name}"
        return replace(self, classes=(rest, name), table=table)


@dataclass(frozen=True, eq=False)
class Counts(_Table):
    """How often each group's images of each class were given each prediction.

    Attributes
    ----------
    groups : tuple of str
        Names of the groups; for intersections the features' values joined with ``×``.
    classes : tuple of str
        Names of the classes.
    table : ndarray of int64, shape (groups, labels, predictions)
        The counts; read-only.
    features : tuple of str
        Sensitive features whose values name the groups; may be empty (then `marginal` and `within` are refused).
    """


@dataclass(frozen=True, eq=False)
class PairedCounts(_Table):
    """The joint counts of two models on the same images.

    Attributes
    ----------
    groups, classes, features
        As in `Counts`.
    table : ndarray of int64, shape (groups, labels, reference predictions, predictions)
        The counts; read-only.
    """

    _class_axes = 3

    @property
    def reference(self) -> Counts:
        """The reference model's own table."""
        return Counts(self.groups, self.classes, self.table.sum(axis=3), self.features)

    @property
    def candidate(self) -> Counts:
        """The candidate's (the quantized model's) own table."""
        return Counts(self.groups, self.classes, self.table.sum(axis=2), self.features)


def count(
    y_true: Any,
    y_pred: Any,
    groups: Any,
    *,
    classes: Sequence[Hashable] | None = None,
    known_groups: Sequence[str] | None = None,
) -> Counts:
    """Count predictions by group, label and prediction, in one pass.

    Parameters
    ----------
    y_true, y_pred : array-like, shape (n,)
        True and predicted labels: integers, booleans or strings.
    groups : array-like of shape (n,), mapping of name to such an array, or DataFrame
        The group of each image. Several features: a group is an intersection of their values, joined with ``×``.
    classes : sequence, optional
        All classes, in order. If these are names, integer labels are indices into them. By default the values that
        occur, in order; labels that are all 0 or all 1 are taken for two classes.
    known_groups : sequence of str, optional
        All groups, in order, also such as do not occur here (they get an empty row).

    Returns
    -------
    Counts

    Raises
    ------
    InputError
        Lengths differ, a label is not among ``classes``, a group is not among ``known_groups``, or scores were given
        for labels.
    DataError
        No rows, a missing value, or only one class and ``classes`` not given.
    """
    names, (truth, pred) = code_labels({"y_true": y_true, "y_pred": y_pred}, classes)
    labels, features, codes = code_groups(groups, len(truth), known_groups)
    table = _tabulate((len(labels), len(names), len(names)), codes, truth, pred)
    return Counts(labels, names, table, features)


def count_paired(
    y_true: Any,
    y_pred_reference: Any,
    y_pred: Any,
    groups: Any,
    *,
    classes: Sequence[Hashable] | None = None,
    known_groups: Sequence[str] | None = None,
) -> PairedCounts:
    """Count two models' predictions for the same images by group, label, reference prediction and prediction.

    Parameters, errors: as `count`; ``y_pred_reference`` (array-like, shape (n,)) are the reference model's labels for
    the images of ``y_pred``, in the same order.
    """
    columns = {"y_true": y_true, "y_pred_reference": y_pred_reference, "y_pred": y_pred}
    names, (truth, reference, pred) = code_labels(columns, classes)
    labels, features, codes = code_groups(groups, len(truth), known_groups)
    table = _tabulate((len(labels), *[len(names)] * 3), codes, truth, reference, pred)
    return PairedCounts(labels, names, table, features)


def _tabulate(shape: tuple[int, ...], *codes: NDArray[np.intp]) -> NDArray[np.int64]:
    cells = int(np.prod([float(size) for size in shape]))
    if cells > MAX_CELLS:
        sizes = " x ".join(map(str, shape))
        raise InputError(f"the table of counts would have {sizes} cells; give fewer groups or classes.")
    index = codes[0].astype(np.intp)
    for size, code in zip(shape[1:], codes[1:], strict=True):
        index *= size
        index += code
    return np.bincount(index, minlength=cells).reshape(shape).astype(np.int64, copy=False)
