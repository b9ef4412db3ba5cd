"""Arrays from any source, checked once and turned into integer codes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.data.samples import GROUP_SEPARATOR
from fqbench.errors import DataError, InputError, did_you_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_GROUPS = 100_000


def _vector(values: Any, name: str) -> Any:
    """Return ``values`` as something one-dimensional that `_factorize` takes: an ndarray or a pandas Series."""
    array = values if hasattr(values, "dtype") and hasattr(values, "shape") else np.asarray(values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = np.asarray(array)[:, 0]
    if array.ndim != 1:
        raise InputError(f"{name} must be one-dimensional, one entry per image; it has shape {tuple(array.shape)}.")
    return array


def _factorize(array: Any, name: str) -> tuple[NDArray[np.intp], list[Any]]:
    """Return integer codes and the distinct values, sorted where they can be.

    Raises
    ------
    DataError
        A value is missing.
    """
    import pandas as pd

    if isinstance(array, np.ndarray) and array.dtype.kind == "U" and array.dtype.itemsize:
        codes, uniques = _factorize_fixed_width(array)
    else:
        codes, found = pd.factorize(array)
        uniques = list(found.tolist())
    if (missing := int(np.count_nonzero(codes < 0))) > 0:
        first = int(np.argmax(codes < 0))
        raise DataError(f"{name} has {missing:,} missing values, the first in row {first:,}; drop or fix these rows.")
    try:
        order = sorted(range(len(uniques)), key=uniques.__getitem__)
    except TypeError:
        order = sorted(range(len(uniques)), key=lambda i: str(uniques[i]))
    place = np.empty(len(order), dtype=np.intp)
    place[order] = np.arange(len(order))
    return place[codes], [uniques[i] for i in order]


def _factorize_fixed_width(array: NDArray[np.str_]) -> tuple[NDArray[np.intp], list[str]]:
    """`pandas.factorize` for fixed-width strings, without an object per row: hash the words, then check every row."""
    import pandas as pd

    array = np.ascontiguousarray(array)
    words = array.view(np.uint32).reshape(len(array), -1)
    odd = np.random.default_rng(0).integers(1, 2**63, size=words.shape[1], dtype=np.uint64) | np.uint64(1)
    keys = np.zeros(len(array), dtype=np.uint64)
    for word, multiplier in zip(words.T, odd, strict=True):
        keys += word * multiplier
    codes, hashes = pd.factorize(keys)
    first = np.empty(len(hashes), dtype=np.intp)
    first[codes[::-1]] = np.arange(len(array))[::-1]
    uniques = array[first]
    if not all(np.array_equal(word, word[first][codes]) for word in words.T):  # two strings of one hash
        codes, found = pd.factorize(array.astype(object))
        return codes, [str(value) for value in found]
    return codes, [str(value) for value in uniques]


def _label_text(value: Any) -> str:
    """Name a class: 1, True and 1.0 are all "1"."""
    if isinstance(value, bool | np.bool_):
        return str(int(value))
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def code_labels(
    columns: Mapping[str, Any], classes: Sequence[Hashable] | None
) -> tuple[tuple[str, ...], list[NDArray[np.intp]]]:
    """Return the names of the classes and each column as indices into them."""
    arrays = {name: _vector(values, name) for name, values in columns.items()}
    (first, n), *others = [(name, len(array)) for name, array in arrays.items()]
    for name, length in others:
        if length != n:
            raise InputError(f"{first} has {n:,} rows and {name} has {length:,}; they must describe the same images.")
    if n == 0:
        raise DataError(f"{first} is empty; there is nothing to evaluate.")
    coded = {name: _factorize(array, name) for name, array in arrays.items()}
    for name, (_, uniques) in coded.items():
        if any(isinstance(value, float) and not value.is_integer() for value in uniques):
            raise InputError(f"{name} holds fractions, so it looks like scores; give predicted labels.")
    names = _class_names([uniques for _, uniques in coded.values()], classes)
    indices = classes is not None and all(isinstance(name, str) for name in classes)
    places = {name: i for i, name in enumerate(names)}
    out = []
    for name, (codes, uniques) in coded.items():
        lut = [_place(value, places, indices=indices, column=name) for value in uniques]
        out.append(np.asarray(lut, dtype=np.intp)[codes])
    return names, out


def _place(value: Any, places: Mapping[str, int], *, indices: bool, column: str) -> int:
    text = _label_text(value)
    if indices and not isinstance(value, str) and text.lstrip("-").isdigit():
        if 0 <= int(text) < len(places):
            return int(text)
        raise InputError(f"{column} holds {text}, but labels are indices into the {len(places)} classes.")
    if text not in places:
        raise InputError(f"{column} holds {text!r}, which is not one of the classes: {', '.join(places)}.")
    return places[text]


def _class_names(found: Sequence[Sequence[Any]], classes: Sequence[Hashable] | None) -> tuple[str, ...]:
    if classes is not None:
        names = tuple(_label_text(name) for name in classes)
        if len(names) < 2 or len(set(names)) != len(names):
            raise InputError(f"classes must be two or more different names, not: {', '.join(names) or 'none'}.")
        return names
    values = {_label_text(value): value for column in found for value in column}
    if set(values) <= {"0", "1"}:
        return ("0", "1")
    if len(values) < 2:
        raise DataError(f"only the class {next(iter(values))!r} occurs; name all classes with classes=.")
    if all(text.lstrip("-").isdigit() for text in values):
        return tuple(sorted(values, key=int))
    return tuple(sorted(values))


def code_groups(
    groups: Any, n: int, known_groups: Sequence[str] | None
) -> tuple[tuple[str, ...], tuple[str, ...], NDArray[np.intp]]:
    """Return the names of the groups, the features, and each row's group as an index."""
    columns = _feature_columns(groups)
    codes = np.zeros(n, dtype=np.intp)
    values_of: list[tuple[str, ...]] = [()]
    for feature, values in columns.items():
        title = f"sensitive feature {feature!r}" if feature else "groups"
        array = _vector(values, title)
        if len(array) != n:
            raise InputError(f"the labels have {n:,} rows and the groups have {len(array):,}.")
        column_codes, uniques = _factorize(array, title)
        texts = [_label_text(value) for value in uniques]
        if len(columns) > 1 and any(GROUP_SEPARATOR in text for text in texts):
            raise InputError(f"a value of {feature!r} contains {GROUP_SEPARATOR!r}, which joins features; rename it.")
        if len(values_of) * len(texts) > MAX_GROUPS:
            raise InputError(f"feature {feature!r} has {len(texts):,} values; give groups, not measurements.")
        codes = codes * len(texts) + column_codes
        values_of = [(*head, text) for head in values_of for text in texts]
    names = [GROUP_SEPARATOR.join(parts) for parts in values_of]
    present = np.bincount(codes, minlength=len(names)) > 0
    labels = tuple(dict.fromkeys(name for name, here in zip(names, present, strict=True) if here))
    if known_groups is not None:
        unknown = [label for label in labels if label not in known_groups]
        if unknown:
            raise InputError(f"group {unknown[0]!r} is new: {did_you_mean(unknown[0], known_groups)}")
        labels = tuple(known_groups)
    places = {label: i for i, label in enumerate(labels)}
    lut = np.asarray([places.get(name, 0) for name in names], dtype=np.intp)
    features = tuple(feature for feature in columns if feature)
    return labels, features, lut[codes]


def _feature_columns(groups: Any) -> dict[str, Any]:
    """Return one column per sensitive feature; the name is "" where none is given."""
    if isinstance(groups, Mapping):
        columns = {str(name): values for name, values in groups.items()}
    elif hasattr(groups, "columns"):
        columns = {str(name): groups[name] for name in groups.columns}
    else:
        name = getattr(groups, "name", None)
        columns = {"" if name is None else str(name): groups}
    if not columns:
        raise InputError("no sensitive feature was given; name at least one.")
    return columns
