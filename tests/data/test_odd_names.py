"""Names as disks have them: letters in two parts, bytes that are no text, several languages, links in a circle."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from fqbench.data.folder import read_folder
from fqbench.data.imagefolder import picture_names, read_imagefolder
from fqbench.data.inspect import inspect
from fqbench.data.samples import Samples
from fqbench.data.table import read_table
from fqbench.data.utkface import picture_names as utkface_names
from fqbench.errors import DataError, InputError

NAMES = ("Zoë/café 1.JPG", "Zoë/ру.jpeg", "日本/顔(2).png", "a b/#%&;'1.webp", "عربي/١.png", "no/🙂.png")


def pictures(root: Path, form: str) -> Path:
    for index, name in enumerate(NAMES * 2):
        path = root / unicodedata.normalize(form, name if index < len(NAMES) else f"x{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (index, 0, 0)).save(path)
    return root


def table(path: Path, form: str) -> Path:
    names = [unicodedata.normalize(form, name) for name in (*NAMES, *(f"x{name}" for name in NAMES))]
    rows = [f'"{name}",{"ab"[index % 2]},{"xy"[index // 2 % 2]}' for index, name in enumerate(names)]
    path.write_text("\n".join(["file_name,label,group", *rows]) + "\n", encoding="utf-8")
    return path


def paths(samples: Samples) -> list[bytes]:
    """The files of the rows, which exist; with the colours that say which picture each is."""
    return [(samples.root / path).read_bytes() for path in samples.frame["path"]]


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("written", ["NFC", "NFD"])
def test_a_table_may_compose_its_letters_otherwise_than_the_disk(tmp_path: Path, on_disk: str, written: str) -> None:
    root = pictures(tmp_path / "p", on_disk)
    found = read_table(table(tmp_path / "t.csv", written), root)
    expected = [(root / unicodedata.normalize(on_disk, name)).read_bytes() for name in NAMES]
    assert paths(found)[: len(NAMES)] == expected
    table(root / "metadata.csv", written)
    assert paths(read_folder(root, label=None, sensitive=None, seed=0))[: len(NAMES)] == expected


def test_one_picture_in_both_compositions_is_one(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    for name in ("é.png", "a.png", "b.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / "p" / name)
    rows = ["file_name,label", "\u00e9.png,a", "e\u0301.png,b", "a.png,a", "b.png,b"]
    (tmp_path / "p" / "metadata.csv").write_text("\n".join(rows), encoding="utf-8")
    with pytest.raises(InputError, match=r"lists 1 file\(s\) more than once"):
        read_folder(tmp_path / "p", label=None, sensitive=None, seed=0)
    with pytest.raises(InputError, match=r"lists 1 image\(s\) more than once"):
        read_table(tmp_path / "p" / "metadata.csv", tmp_path / "p")


def test_class_folders_of_any_language(tmp_path: Path) -> None:
    root = pictures(tmp_path / "p", "NFC")
    (root / "Zoë" / "circle").symlink_to(root)
    samples = read_imagefolder(root, picture_names(root))
    assert set(samples.classes) >= {"Zoë", "日本", "عربي", "no"}
    assert len(samples.frame) == 2 * len(NAMES)
    assert len(samples.digest) == 64


@pytest.mark.parametrize("name", [b"a/caf\xe9.jpg", b"caf\xe9/a.jpg"])
def test_a_name_that_is_no_text_is_named(tmp_path: Path, name: bytes) -> None:
    path = os.fsencode(tmp_path) + b"/" + name
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 - a Path is text
        with open(path, "wb") as file:  # noqa: PTH123
            file.write(b"\xff\xd8")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    for names in (picture_names, utkface_names):
        with pytest.raises(DataError, match=r"holds '.*caf.*', whose name is not UTF-8; rename it"):
            names(tmp_path)


def test_a_link_to_nowhere_is_counted(tmp_path: Path) -> None:
    root = pictures(tmp_path / "p", "NFC")
    (root / "no" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    problems = inspect(read_imagefolder(root, picture_names(root))).problems
    assert [one.first for one in problems if "links to nowhere" in one.what] == [("no/gone.jpg",)]
