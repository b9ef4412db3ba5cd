"""The folder of a report: complete, the same for the same entries, whole or untouched."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("jinja2", reason="needs the extra report")
pytest.importorskip("matplotlib", reason="needs the extra report")
pytest.importorskip("huggingface_hub", reason="needs the extra report")


from fqbench.errors import InputError, UnavailableError
from fqbench.report.page import Material, evaluation_page, folder
from fqbench.report.page.contents import PageContents
from fqbench.report.page.folder import check_folder, replace_folder, write_report
from fqbench.reporter import Silent
from fqbench.storage import file_digest

LARGEST = 6_000_000


@pytest.fixture(scope="module")
def contents(material: Material) -> PageContents:
    return evaluation_page(material)


@pytest.fixture(scope="module")
def written(contents: PageContents, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "out"
    assert write_report(contents, out, Silent()) == out / "index.html"
    return out


def files_of(out: Path) -> dict[str, str]:
    return {path.relative_to(out).as_posix(): file_digest(path) for path in out.rglob("*") if path.is_file()}


def test_everything_is_there(written: Path, contents: PageContents) -> None:
    names = set(files_of(written))
    for figure in contents.document.figures:
        assert {f"figures/{figure.name}.{form}" for form in ("svg", "pdf", "csv")} <= names
    assert {
        "index.html",
        "report.json",
        "tables/verdicts.tex",
        "tables/verdicts.csv",
        "tables/all-latencies.csv",
    } <= names
    assert (written / "index.html").stat().st_size < LARGEST
    with (written / "tables" / "all-evaluations.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["group"] for row in rows} >= {"<script>boom()</script>×a|b_$1", "כהה & 50%×[x] {y}"}
    latex = (written / "tables" / "verdicts.tex").read_text(encoding="utf-8")
    assert latex.count("\\begin{") == latex.count("\\end{")
    assert not list(written.parent.glob(".*"))


def test_again_gives_the_same_bytes(written: Path, contents: PageContents, tmp_path: Path) -> None:
    out = tmp_path / "out"
    document = contents.document
    sections = tuple(one for one in document.sections if one not in document.figures[1:])
    few = replace(contents, document=replace(document, sections=sections))
    write_report(few, out, Silent())
    before = files_of(out)
    assert {name: digest for name, digest in files_of(written).items() if name in before} | {
        name: before[name] for name in ("index.html", "report.json")
    } == before
    write_report(few, out, Silent())
    assert files_of(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("damage", ["added", "changed", "foreign", "file"])
def test_what_others_wrote_is_never_lost(tmp_path: Path, damage: str) -> None:
    out = tmp_path / "out"
    if damage == "file":
        out.write_text("mine")
    else:
        out.mkdir()
        page = out / "index.html"
        page.write_text("page")
        if damage != "foreign":
            listed = {"index.html": file_digest(page)}
            (out / "report.json").write_text(f'{{"made_by": "fqbench report", "files": {listed}}}'.replace("'", '"'))
            check_folder(out)
            (out / "notes.txt" if damage == "added" else page).write_text("mine")
    message = {
        "added": "was added",
        "changed": "was changed",
        "foreign": "no report of fqbench",
        "file": "not a folder",
    }
    with pytest.raises(InputError, match=message[damage]):
        check_folder(out)


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    check_folder(tmp_path / "out")
    replace_folder(tmp_path / "out", {"a/b.txt": b"new"})
    assert files_of(tmp_path / "out").keys() == {"a/b.txt"}


def test_a_failure_leaves_the_earlier_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    replace_folder(out, {"a.txt": b"old"})
    monkeypatch.setattr(folder, "sync", lambda _path: (_ for _ in ()).throw(OSError("no space")))
    with pytest.raises(OSError, match="no space"):
        replace_folder(out, {"a.txt": b"new", "b.txt": b"new"})
    assert (out / "a.txt").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failed_rename_brings_the_earlier_report_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, rename = tmp_path / "out", Path.rename
    replace_folder(out, {"a.txt": b"old"})

    def refuse(path: Path, target: Path) -> Path:
        if path.suffix == ".partial":
            raise OSError("no")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="no"):
        replace_folder(out, {"a.txt": b"new"})
    assert (out / "a.txt").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_missing_library_is_said_before_anything_is_done(
    contents: PageContents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(UnavailableError, match=r"pip install 'fqbench\[report\]'"):
        write_report(contents, tmp_path / "out", Silent())
    assert not list(tmp_path.iterdir())
