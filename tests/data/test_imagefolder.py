from collections import Counter
from pathlib import Path

import pytest

from fqbench.data.imagefolder import picture_names, read_imagefolder
from fqbench.data.samples import Samples, group_labels
from fqbench.errors import DataError, FqbenchError, InputError


def tree(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def read(root: Path, table: Path | None = None, **options: object) -> Samples:
    return read_imagefolder(root, picture_names(root), table=table, **options)  # type: ignore[arg-type]


def test_class_folders_as_torchvision_reads_them(tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision.datasets")
    names = [f"{label}/{part}{index}.jpg" for label in ("dog", "cat") for part in ("", "x/") for index in range(10)]
    tree(tmp_path, *names, "cat/readme.txt", "cat/.hidden.jpg")
    samples = read(tmp_path)
    theirs = torchvision.ImageFolder(tmp_path, is_valid_file=lambda path: ".hidden" not in path and "txt" not in path)
    assert samples.classes == tuple(theirs.classes)
    expected = {str(Path(path).relative_to(tmp_path)): label for path, label in theirs.samples}
    assert dict(zip(samples.frame["path"], samples.frame["label"], strict=True)) == expected
    assert samples.sensitive_features == ()
    assert set(group_labels(samples.frame, samples.sensitive_features)) == {"all"}
    assert Counter(samples.frame["split"]) == {"train": 28, "val": 4, "test": 8}


@pytest.mark.parametrize(
    ("splits", "expected", "notice"),
    [
        (("train", "valid", "test"), {"train": 20, "val": 20, "test": 20}, ""),
        (("train", "val"), {"train": 18, "val": 2, "test": 20}, "test is the data's own val split"),
        (("Train", "test"), {"train": 18, "val": 2, "test": 20}, "val is 10 % of the data's train split"),
        (("test",), {"test": 20}, ""),
        (("train",), {"train": 14, "val": 2, "test": 4}, "split 70/10/20"),
    ],
)
def test_split_folders(tmp_path: Path, splits: tuple[str, ...], expected: dict[str, int], notice: str) -> None:
    tree(tmp_path, *(f"{split}/{label}/{index}.png" for split in splits for label in "01" for index in range(10)))
    samples = read(tmp_path)
    assert samples.classes == ("0", "1")
    assert Counter(samples.frame["split"]) == expected
    assert notice in samples.notice
    assert bool(samples.notice) == bool(notice)


def test_classes_that_are_numbers_are_in_order(tmp_path: Path) -> None:
    assert read(tree(tmp_path, "10/a.jpg", "9/b.jpg", "-1/c.jpg")).classes == ("-1", "9", "10")


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    assert read(tree(tmp_path, "train/a.jpg", "car/b.jpg")).classes == ("car", "train")


def test_a_table_of_features(tmp_path: Path) -> None:
    root = tree(tmp_path / "pets", *(f"{label}/{label}{index}.jpg" for label in ("cat", "dog") for index in range(3)))
    path = tmp_path / "features.csv"
    path.write_text("image,light\ncat0,day\ncat/cat1.jpg,night\ncat2.jpg,\ndog/dog0,day\ndog1,day\nnobody,day\n")
    samples = read(root, path)
    assert samples.sensitive_features == ("light",)
    light = dict(zip(samples.frame["path"], samples.frame["light"], strict=True))
    assert light == {
        "cat/cat0.jpg": "day",
        "cat/cat1.jpg": "night",
        "cat/cat2.jpg": "unknown",
        "dog/dog0.jpg": "day",
        "dog/dog1.jpg": "day",
        "dog/dog2.jpg": "unknown",
    }
    assert [(problem.count, problem.first) for problem in samples.problems] == [
        (1, ("dog/dog2.jpg",)),
        (1, ("nobody",)),
    ]


@pytest.mark.parametrize(
    ("names", "table", "error", "message"),
    [
        ([], None, InputError, "holds no images"),
        (["a.jpg"], None, InputError, "1 images but no class folders; .*--table FILE"),
        (["cat/a.jpg"], None, DataError, "in the class folder 'cat'"),
        (["train/cat/a.jpg", "val/cat/b.jpg"], None, DataError, "in the class folder 'cat'"),
        (["cat/a.jpg", "dog/b.jpg"], "file,sex\nc,f\n", InputError, "lists none of the 2 images"),
        (["cat/a.jpg", "dog/a.jpg"], "file,sex\na,f\n", DataError, "'a' fits 2 images"),
        (["cat/a.jpg", "dog/b.jpg"], "file,sex\na,f\ncat/a.jpg,m\n", InputError, "cat/a.jpg more than once"),
        (["cat/a.jpg", "dog/b.jpg"], "name,sex\na,f\n", InputError, "add --image-column COLUMN"),
    ],
)
def test_what_is_wrong_is_said(
    tmp_path: Path, names: list[str], table: str | None, error: type[FqbenchError], message: str
) -> None:
    root = tree(tmp_path / "tree", *names)
    root.mkdir(exist_ok=True)
    path = None
    if table is not None:
        path = tmp_path / "t.csv"
        path.write_text(table)
    with pytest.raises(error, match=message):
        read(root, path)


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    tree(tmp_path, "cat/a.jpg", "dog/b.jpg")
    (tmp_path / "dog" / "up").symlink_to(tmp_path)
    assert picture_names(tmp_path) == ["cat/a.jpg", "dog/b.jpg"]
