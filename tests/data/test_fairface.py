"""FairFace: their tables, both paddings, their validation set as our test split."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fqbench.data.fairface import read_fairface
from fqbench.errors import DataError, FqbenchError, InputError
from tests.data.trees import RACES, write_fairface


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fairface(tmp_path_factory.mktemp("fairface"))


def bare(root: Path, train: str | bytes | None = None) -> Path:
    """Tables and empty pictures; ``train`` replaces the training table."""
    for part in ("train", "val"):
        (root / part).mkdir(parents=True)
        for index in range(1, 5):
            (root / part / f"{index}.jpg").touch()
        rows = [
            f"{part}/{i},{'3-9'},{('Male', 'Female')[i % 2]},White,True".replace(f"/{i},", f"/{i}.jpg,")
            for i in range(1, 5)
        ]
        (root / f"fairface_label_{part}.csv").write_text("\n".join(["file,age,gender,race,service_test", *rows]) + "\n")
    if train is not None:
        content = train if isinstance(train, bytes) else train.encode()
        (root / "fairface_label_train.csv").write_bytes(content)
    return root


def test_the_defaults(tree: Path) -> None:
    samples = read_fairface(tree)
    assert samples.classes == ("Female", "Male")
    assert samples.sensitive_features == ("race",)
    assert set(samples.frame["race"]) == set(RACES)
    test = samples.split("test")
    assert (len(test), test["path"].str.startswith("val/").all()) == (28, True)
    assert samples.frame[samples.frame["split"] != "test"]["path"].str.startswith("train/").all()
    held_out = samples.split("val")
    assert len(held_out) == pytest.approx(8, abs=6)
    assert set(held_out["race"]) == set(RACES)


def test_the_validation_split_is_seeded(tree: Path) -> None:
    first, again, other = (read_fairface(tree, seed=seed).frame["split"].tolist() for seed in (0, 0, 1))
    assert first == again != other


def test_ages_are_ordered_and_service_test_can_be_a_feature(tree: Path) -> None:
    samples = read_fairface(tree, label="age", sensitive=["gender", "service_test"])
    assert samples.classes == ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "70+")
    assert set(samples.frame["service_test"]) == {"True", "False"}


@pytest.mark.parametrize(
    ("folder", "padding"),
    [("fairface-img-margin025-trainval", None), ("fairface-img-margin125-trainval", "1.25"), ("1.25", None)],
)
def test_the_folders_of_the_archives(tmp_path: Path, folder: str, padding: str | None) -> None:
    root = write_fairface(tmp_path, 14, pictures=tmp_path / folder)
    assert read_fairface(root, padding=padding).frame["path"].iloc[0] == f"{folder}/train/1.jpg"


def test_both_paddings_need_a_choice(tmp_path: Path) -> None:
    for folder in ("margin025", "margin125"):
        write_fairface(tmp_path, 14, pictures=tmp_path / folder)
    with pytest.raises(InputError, match=r"holds both paddings; choose one with --padding 0.25 or --padding 1.25"):
        read_fairface(tmp_path)
    ids = {}
    for padding, folder in (("0.25", "margin025"), ("1.25", "margin125")):
        frame = read_fairface(tmp_path, padding=padding).frame
        assert frame["path"].str.startswith(folder).all()
        ids[padding] = frame[["sample_id", "split"]]
    assert ids["0.25"].equals(ids["1.25"])


HEADER = "file,age,gender,race,service_test\n"
GOOD = HEADER + "train/1.jpg,3-9,Male,White,True\ntrain/2.jpg,more than 70,Female,Black,False\n"


@pytest.mark.parametrize(
    ("found", "meant"),
    [("9-Mar", "3-9"), ("Mar-09", "3-9"), ("3/9/2026", "3-9"), ("2026-03-09", "3-9"), ("Oct-19", "10-19"),
     ("19-Oct", "10-19")],
)  # fmt: skip
def test_an_age_that_a_spreadsheet_made_a_date_of(tmp_path: Path, found: str, meant: str) -> None:
    root = write_fairface(tmp_path)
    path = root / "fairface_label_train.csv"
    lines = path.read_text().splitlines()
    changed = next(index for index, line in enumerate(lines) if f",{meant}," in line)
    path.write_text("\n".join(line.replace(f",{meant},", f",{found},") for line in lines) + "\n")
    message = rf"train.csv, line {changed + 1}: age '{found}' is '{meant}' turned into a date by a spreadsheet"
    with pytest.raises(DataError, match=message):
        read_fairface(root)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (",White,", ",Whiite,", "line 4: race 'Whiite' is unknown: did you mean 'White'?"),
        (",White,", ",white,", "line 4: race 'white' is unknown: did you mean 'White'?"),
        (",Female,", ",F,", "line 3: gender 'F' is unknown: choose one of: Female, Male."),
        (",20-29,", ",25,", "line 5: age '25' is unknown: "),
        ("file,age,gender", "file,age,age", "has two columns 'age'; rename one of them."),
    ],
)
def test_a_value_that_the_data_set_does_not_have(tmp_path: Path, before: str, after: str, message: str) -> None:
    root = write_fairface(tmp_path)
    path = root / "fairface_label_train.csv"
    path.write_text(path.read_text().replace(before, after), encoding="utf-8")
    with pytest.raises(FqbenchError, match=re.escape(message)):
        read_fairface(root)


def test_byte_order_mark_crlf_and_quotes(tmp_path: Path) -> None:
    text = '\ufeff"file","age","gender","race","service_test"\r\n"train/1.jpg","3-9","Male","Middle Eastern","True"\r\n'
    samples = read_fairface(bare(tmp_path, text + "train/2.jpg,3-9,Female,Black,True\r\n"))
    assert samples.frame["race"].tolist()[:2] == ["Middle Eastern", "Black"]


@pytest.mark.parametrize(
    ("train", "error", "message"),
    [
        ("", DataError, "has no column 'file'; download it again"),
        (HEADER, DataError, "lists no images; download it again"),
        (b"file,age\n\xff\xfe,1\n", DataError, "is not a table in CSV and UTF-8"),
        ("file,age,gender\n", DataError, "has no column 'race'; download it again"),
        (HEADER + "train/1.jpg,3-9,Male,White,True,more\ntrain/2.jpg,1,2,3,4,5\n", DataError, "is not a table in CSV"),
        (
            HEADER + "train/1.jpg,3-9,,White,True\n",
            DataError,
            r"train.csv, line 2: no gender; fill it in",
        ),
        (HEADER + "val/1.jpg,3-9,Male,White,True\n", DataError, "lists 'val/1.jpg', which is not in train/"),
        (GOOD + "train/1.jpg,3-9,Male,White,True\n", InputError, r"lists 1 file\(s\) more than once \(train/1.jpg\)"),
        (GOOD + "train/../../../etc/passwd,3-9,Male,White,True\n", InputError, "leaves the folder with"),
        (GOOD + "/etc/passwd,3-9,Male,White,True\n", InputError, "is an absolute path"),
        (GOOD + "train/9.jpg,3-9,Male,White,True\n", DataError, r"1 of 7 images .* \(train/9.jpg\)"),
    ],
)
def test_damaged_tables(tmp_path: Path, train: str | bytes, error: type[FqbenchError], message: str) -> None:
    with pytest.raises(error, match=message):
        read_fairface(bare(tmp_path, train))


def test_one_class(tmp_path: Path) -> None:
    root = bare(tmp_path)
    for part in ("train", "val"):
        path = root / f"fairface_label_{part}.csv"
        path.write_text(path.read_text().replace("Female", "Male"))
    with pytest.raises(DataError, match="all 8 images have gender 'Male'; choose another --label"):
        read_fairface(root)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": "rase"}, "no column 'rase' for --label: did you mean 'race'"),
        ({"sensitive": ["gender"]}, "'gender' is the label and a sensitive feature"),
        ({"padding": "1.25"}, r"has no pictures of padding 1.25"),
    ],
)
def test_wrong_options(tree: Path, tmp_path: Path, options: dict, message: str) -> None:
    root = tree
    if "padding" in options:
        root = write_fairface(tmp_path, 14, pictures=tmp_path / "margin025")
    with pytest.raises(InputError, match=message):
        read_fairface(root, **options)


def test_missing_parts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        read_fairface(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"has no pictures \(train/ and val/\)"):
        read_fairface(tmp_path)
    root = bare(tmp_path / "tree")
    (root / "fairface_label_val.csv").unlink()
    with pytest.raises(InputError, match=r"has no fairface_label_val.csv"):
        read_fairface(root)
