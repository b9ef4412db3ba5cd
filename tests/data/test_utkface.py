"""UTKFace: what the names say, which names are skipped, and the split that is drawn."""

from __future__ import annotations

from pathlib import Path

import pytest

from fqbench.data.utkface import read_utkface
from fqbench.errors import DataError, InputError
from tests.data.trees import write_utkface


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def many(root: Path, count: int = 400) -> Path:
    return touch(root, *(f"{i % 100}_{i % 2}_{i // 2 % 5}_20170119{i:09d}.jpg" for i in range(count)))


@pytest.mark.parametrize("suffix", [".jpg", ".jpg.chip.jpg"])
@pytest.mark.parametrize("parts", [1, 3])
def test_both_variants_in_one_or_several_folders(tmp_path: Path, suffix: str, parts: int) -> None:
    samples = read_utkface(write_utkface(tmp_path, 30, suffix=suffix, parts=parts))
    assert len(samples.frame) == 30
    assert samples.classes == ("male", "female")
    assert samples.sensitive_features == ("race", "age")
    row = samples.frame.iloc[0]
    age, gender, race = map(int, Path(row["path"]).name.split("_")[:3])
    assert row["label"] == gender
    assert row["race"] == ("White", "Black", "Asian", "Indian", "Others")[race]
    low = [bound for bound in (0, 20, 40, 60) if bound <= age][-1]
    assert row["age"].startswith(str(low))


def test_malformed_names_are_skipped_counted_and_listed(tmp_path: Path) -> None:
    known = (
        "39_1_20170116174525125.jpg.chip.jpg",  # the original's own: race is missing
        "61_1_20170109142408075.jpg.chip.jpg",
        "53__0_20170116184028385.jpg",  # gender is missing
        "30_3_0_20170116184028386.jpg",  # there is no gender 3
        "30_1_7_20170116184028387.jpg",
        "230_1_0_20170116184028388.jpg",
        "portrait.jpg",
    )
    whole = ("24_0_1_20170116220224657 .jpg.chip.jpg", "55_0_0_20170116232725357jpg.chip.jpg")
    root = touch(many(tmp_path, 40), *known, *whole, ".DS_Store", "readme.txt", ".cache/1_0_0_1.jpg")
    samples = read_utkface(root)
    (problem,) = samples.problems
    assert (problem.count, set(problem.first)) == (7, set(known))
    assert set(whole) <= set(samples.frame["sample_id"])
    assert len(samples.frame) == 42


def test_a_face_in_two_archives_is_taken_once(tmp_path: Path) -> None:
    names = [f"{i % 90}_{i % 2}_{i % 5}_2017{i:04d}" for i in range(20)]
    root = touch(
        tmp_path,
        *(f"part1/{name}.jpg" for name in names),
        *(f"UTKFace/{name}.jpg.chip.jpg" for name in names),
        *(f"zcrop/{name}.jpg.chip.jpg" for name in names[:5]),
    )
    samples = read_utkface(root)
    assert len(samples.frame) == 20
    assert samples.frame["path"].str.startswith("UTKFace/").all()
    assert samples.problems[0].count == 25


def test_age_groups_and_other_labels(tmp_path: Path) -> None:
    root = many(tmp_path)
    samples = read_utkface(root, label="age", age_groups=(0, 18, 65))
    assert samples.classes == ("0-17", "18-64", "65+")
    assert samples.sensitive_features == ("gender", "race")
    ages = samples.frame["path"].str.partition("_")[0].astype(int)
    assert (samples.frame["label"] == (ages >= 18).astype(int) + (ages >= 65)).all()


def test_the_split_is_stratified_and_seeded(tmp_path: Path) -> None:
    root = many(tmp_path)
    frame = read_utkface(root).frame
    shares = frame["split"].value_counts(normalize=True)
    assert shares["test"] == pytest.approx(0.2, abs=0.02)
    assert shares["val"] == pytest.approx(0.1, abs=0.02)
    assert frame.groupby(["race", "age"])["split"].nunique().min() == 3
    assert frame["split"].tolist() == read_utkface(root).frame["split"].tolist()
    assert frame["split"].tolist() != read_utkface(root, seed=1).frame["split"].tolist()


def test_the_split_does_not_depend_on_the_chosen_features(tmp_path: Path) -> None:
    root = many(tmp_path)
    assert read_utkface(root).frame["split"].tolist() == read_utkface(root, sensitive=["race"]).frame["split"].tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": "gendre"}, "no column 'gendre' for --label: did you mean 'gender'"),
        ({"sensitive": ["tone"]}, "no column 'tone' for --sensitive"),
        ({"sensitive": ["gender"]}, "'gender' is the label and a sensitive feature"),
        ({"age_groups": (10, 20)}, "10, 20 are not valid age groups"),
        ({"age_groups": (0, 40, 20)}, "ascending order, starting with 0"),
        ({"age_groups": (0,)}, "0 are not valid age groups"),
    ],
)
def test_wrong_options(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_utkface(many(tmp_path, 8), **options)


def test_no_pictures_and_one_class(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        read_utkface(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"none of 1 .jpg files below .* is named age_gender_race_time"):
        read_utkface(touch(tmp_path / "other", "portrait.jpg"))
    with pytest.raises(DataError, match="all 2 images have gender 'male'"):
        read_utkface(touch(tmp_path / "men", "20_0_1_1.jpg", "30_0_1_2.jpg"))
