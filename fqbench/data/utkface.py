"""UTKFace as it is distributed: everything about a face is in the name of its file.

``[age]_[gender]_[race]_[date&time].jpg``, with ``.chip.jpg`` after it for the aligned faces (Zhang et al. 2017,
https://susanqq.github.io/UTKFace). A few names of the original lack a field: these are skipped, counted and listed.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fqbench.data.finding import open_folders, require_text, stop
from fqbench.data.samples import Problem, Samples, group_labels
from fqbench.data.splits import stratified_split
from fqbench.errors import DataError, InputError, did_you_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAME = "utkface"
LABEL = "gender"
SENSITIVE_FEATURES = ("race", "age")
COLUMNS = ("gender", "race", "age")
GENDERS = ("male", "female")
RACES = ("White", "Black", "Asian", "Indian", "Others")
AGE_GROUPS = (0, 20, 40, 60)
OLDEST = 120
LISTED = 10
# The original has "24_0_1_20170116220224657 .jpg.chip.jpg" and "55_0_0_20170116232725357jpg.chip.jpg": no field lacks.
PATTERN = re.compile(r"(\d{1,3})_(\d+)_(\d+)_(\d+)\s*\.?jpe?g(\.chip\.jpe?g)?", re.IGNORECASE)


@dataclass(frozen=True)
class Face:
    """What one file name says."""

    path: str
    age: int
    gender: int
    race: int
    taken: str
    aligned: bool


def picture_names(root: Path) -> list[str]:
    """Return every ``.jpg`` below ``root``, sorted, relative to it; hidden folders are skipped.

    Raises
    ------
    InputError
        There is no such folder.
    DataError
        A name is not UTF-8.
    """
    if not root.is_dir():
        raise InputError(f"{NAME}: there is no folder {root}; give the one that holds the pictures or their parts.")
    names = sorted(_walk(root))
    require_text(names, root)
    return names


def read_utkface(
    root: Path,
    names: Sequence[str] | None = None,
    *,
    label: str | None = None,
    sensitive: Sequence[str] | None = None,
    age_groups: Sequence[int] | None = None,
    seed: int = 0,
) -> Samples:
    """Read UTKFace; there is no official split, so one is drawn that keeps each group's share.

    Parameters
    ----------
    root : Path
        Folder of the pictures, or of the parts (part1, part2, ...).
    names : sequence of str, optional
        What `picture_names` returned, where it was asked already.
    label : str, optional
        gender (default), race or age.
    sensitive : sequence of str, optional
        By default race and age, without the label.
    age_groups : sequence of int, optional
        Lowest age of each group, rising from 0; 0, 20, 40, 60 by default.
    seed : int
        Seed of the split.

    Raises
    ------
    InputError
        An unknown column, or age groups that are none.
    DataError
        No picture has a well-formed name, or all have the same label.
    """
    import pandas as pd

    label, features = _columns(label, sensitive)
    bounds = _bounds(age_groups)
    names = picture_names(root) if names is None else names
    faces, problems = _parse(names)
    if not faces:
        raise DataError(
            f"{NAME}: none of {len(names)} .jpg files below {root} is named age_gender_race_time.jpg; check --root."
        )
    columns, classes = _values(faces, bounds)
    present = [value for value in classes[label] if value in set(columns[label])]
    if len(present) < 2:
        raise DataError(f"{NAME}: all {len(faces)} images have {label} {present[0]!r}; choose another --label.")
    codes = np.array([present.index(value) for value in columns[label]], dtype=np.int64)
    kept = {feature: columns[feature] for feature in features}
    groups = group_labels(pd.DataFrame(columns), [name for name in COLUMNS if name != label])
    paths = [face.path for face in faces]
    split = stratified_split(groups, codes, seed=seed)
    frame = pd.DataFrame({"sample_id": paths, "path": paths, "split": split, "label": codes, **kept})
    return Samples(NAME, root, frame, tuple(present), features, problems=problems)


def _walk(root: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(root, onerror=stop):
        folders[:] = open_folders(folders)
        prefix = Path(folder).relative_to(root).as_posix()
        for name in files:
            if name.lower().endswith((".jpg", ".jpeg")) and not name.startswith("."):
                yield name if prefix == "." else f"{prefix}/{name}"


def _columns(label: str | None, sensitive: Sequence[str] | None) -> tuple[str, tuple[str, ...]]:
    label = label or LABEL
    features = tuple(dict.fromkeys(sensitive)) if sensitive is not None else ("gender", *SENSITIVE_FEATURES)
    for name, flag in ((label, "--label"), *((feature, "--sensitive") for feature in features)):
        if name not in COLUMNS:
            raise InputError(f"{NAME} has no column {name!r} for {flag}: {did_you_mean(name, COLUMNS)}")
    if sensitive is None:
        features = SENSITIVE_FEATURES if label == LABEL else tuple(name for name in features if name != label)
    if label in features:
        raise InputError(f"{NAME}: {label!r} is the label and a sensitive feature; choose another for one of them.")
    return label, features


def _bounds(age_groups: Sequence[int] | None) -> tuple[int, ...]:
    bounds = tuple(AGE_GROUPS if age_groups is None else age_groups)
    if len(bounds) < 2 or bounds[0] != 0 or any(low >= high for low, high in itertools.pairwise(bounds)):
        raise InputError(
            f"{NAME}: {', '.join(map(str, bounds))} are not valid age groups; give the lowest age of each in "
            "ascending order, starting with 0, as in --age-groups 0,20,40,60."
        )
    return bounds


def _parse(names: Sequence[str]) -> tuple[list[Face], tuple[Problem, ...]]:
    malformed, twice = [], []
    kept: dict[tuple[int, int, int, str], Face] = {}
    for name in names:
        face = _face(name)
        if face is None:
            malformed.append(name)
            continue
        key = (face.age, face.gender, face.race, face.taken)
        # The same face lies in several archives, as found and aligned: in two splits it would leak.
        if key in kept and (kept[key].aligned or not face.aligned):
            twice.append(name)
            continue
        if key in kept:
            twice.append(kept[key].path)
        kept[key] = face
    found = (
        ("file name(s) with a missing or invalid field are skipped", malformed),
        ("duplicate file(s) of one face are left out; the aligned one is kept", twice),
    )
    problems = tuple(Problem(what, len(files), tuple(sorted(files)[:LISTED])) for what, files in found if files)
    return sorted(kept.values(), key=lambda face: face.path), problems


def _face(path: str) -> Face | None:
    match = PATTERN.fullmatch(path.rpartition("/")[2])
    if match is None:
        return None
    age, gender, race = (int(match[field]) for field in (1, 2, 3))
    if age > OLDEST or gender >= len(GENDERS) or race >= len(RACES):
        return None
    return Face(path, age, gender, race, match[4], aligned=match[5] is not None)


def _values(
    faces: Sequence[Face], bounds: tuple[int, ...]
) -> tuple[dict[str, NDArray[np.str_]], dict[str, tuple[str, ...]]]:
    ends = [f"{low}-{high - 1}" for low, high in itertools.pairwise(bounds)]
    ages = (*ends, f"{bounds[-1]}+")
    of_age = np.searchsorted(bounds, [face.age for face in faces], side="right") - 1
    columns = {
        "gender": np.asarray(GENDERS)[[face.gender for face in faces]],
        "race": np.asarray(RACES)[[face.race for face in faces]],
        "age": np.asarray(ages)[of_age],
    }
    return columns, {"gender": GENDERS, "race": RACES, "age": ages}
