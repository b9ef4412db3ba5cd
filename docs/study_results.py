"""Write docs/study/ from a study that has run: its page, tables, figures, a model card, and pictures of its report.

Usage: python docs/study_results.py studies/small.yaml --workspace runs [--out docs/study] [--debug] [--note TEXT]
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from fqbench.report.document import Document, Heading, Section, Sheet, notes, warnings
from fqbench.report.hypotheses import DRAWN
from fqbench.report.page.folder import write_report
from fqbench.report.page.hypotheses import counted
from fqbench.report.page.origins import machines_of
from fqbench.report.page.studies import StudyMaterial, gather_study, study_page
from fqbench.report.page.study_cards import study_cards
from fqbench.report.renderers import markdown
from fqbench.reporter import Silent
from fqbench.run import Run
from fqbench.study.opening import open_study, open_table
from fqbench.study.progress import told
from fqbench.study.runner import tasks_of
from fqbench.study.tasks import read_journal
from fqbench.workspace import Workspace

if TYPE_CHECKING:
    from fqbench.study.cells import Cell
    from fqbench.study.file import Study

WIDTHS = {360: 800, 768: 1000, 1440: 1000}  # of a picture, with its height
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FIGURES = ("change-of-parity", "trade-offs-in-3d")
TABLES = ("cells.csv", "hypotheses.csv", "claims.csv", "failed.csv")
LIBRARIES = ("fqbench", "numpy", "onnxruntime", "torch", "timm")
MOST_BYTES = 1_000_000


def main() -> int:
    """Write the folder, and return 1 if it became too large for a repository."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("docs/study"))
    parser.add_argument("--debug", action="store_true")
    parser.add_argument("--note", default="", help="what else has to be said of the run")
    asked = parser.parse_args()
    run = Run(workspace=Workspace(asked.workspace))
    study, cells = open_study(run, asked.file, debug=asked.debug, check=False)
    entry, _table = open_table(run, study, cells, debug=asked.debug)
    material = gather_study(run.workspace, entry.id)
    cards = study_cards(run.workspace, material)
    asked.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        page = write_report(study_page(material, cards), Path(folder) / "report", Silent())
        copied = copy(page.parent, asked.out)
        pictures = take_pictures(page, asked.out)
    if cards:
        (asked.out / "card.md").write_text(next(iter(cards.values())), encoding="utf-8")
    sections = (*how(asked.file, run, study, cells, material), *notes(asked.note), *results(material))
    text = markdown.render(Document(sections)) + "\n" + "\n\n".join(files(copied, pictures, cards)) + "\n"
    (asked.out / "README.md").write_text(text, encoding="utf-8")
    size = sum(path.stat().st_size for path in asked.out.iterdir())
    sys.stdout.write(f"{asked.out}: {size / 1e3:.0f} kB in {len(list(asked.out.iterdir()))} files\n")
    return int(size > MOST_BYTES)


def copy(report: Path, out: Path) -> list[str]:
    """Copy the tables and figures that the page names; return their names."""
    wanted = [report / "tables" / name for name in TABLES] + [report / "figures" / f"{name}.svg" for name in FIGURES]
    for path in (one for one in wanted if one.is_file()):
        shutil.copyfile(path, out / path.name)
    return [path.name for path in wanted if path.is_file()]


def take_pictures(page: Path, out: Path) -> list[str]:
    """Photograph the report at three widths in the system's Chromium, if there is one; return their names."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.stdout.write("no Chromium here: the folder has no pictures of the report\n")
        return []
    from playwright.sync_api import sync_playwright

    names = []
    with sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        for width, height in WIDTHS.items():
            view = chromium.new_page(viewport={"width": width, "height": height})
            view.goto(page.absolute().as_uri())
            names.append(f"report-{width}.png")
            view.screenshot(path=out / names[-1])
        chromium.close()
    return names


def how(file: Path, run: Run, study: Study, cells: Sequence[Cell], material: StudyMaterial) -> Iterator[Section]:
    """Say which study it is, what it took, and on what it ran."""
    facts = material.facts
    yield Heading(f"The study {facts.study}, as it ran", level=1)
    yield from warnings(
        DRAWN[:1].upper() + DRAWN[1:] if material.answers.drawn else "",
        "Tiny data and short training (--debug): these figures mean nothing." if facts.study.endswith("-debug") else "",
    )
    tasks = [task for step in tasks_of(study, cells) for task in step]
    spent = [one.seconds for task in tasks if (one := read_journal(run.workspace.root, task)) is not None]
    machines = machines_of(material.lineage)
    on = "; ".join(
        f"{one.cpu}, {one.cores} usable core{'' if one.cores == 1 else 's'}, {one.system}, Python {one.python}"
        for one in machines
    )
    command = f"{file.as_posix()}{' --debug' if facts.study.endswith('-debug') else ''}"
    yield from notes(
        f"`fqbench study run {command}` made {facts.cells} configurations and {facts.rows:,} figures in "
        f"{told(wall_seconds(material))} of wall time; the tasks took {told(sum(spent))} together. It ran on {on}.",
        f"Versions: {', '.join(versions(material))}.",
        f"This folder is written by `python docs/study_results.py {command} --workspace WORKSPACE`.",
    )


def wall_seconds(material: StudyMaterial) -> float:
    """Return the time from the beginning of the first entry to the end of the table, pauses included."""
    ends = [(datetime.fromisoformat(one.manifest.created), one.manifest.seconds) for one in material.lineage]
    begun = min(end.timestamp() - seconds for end, seconds in ends)
    return max(end.timestamp() for end, _seconds in ends) - begun


def versions(material: StudyMaterial) -> Iterator[str]:
    """Yield the versions of the libraries that matter, all of those that made an entry."""
    found: dict[str, dict[str, None]] = {}
    for entry in material.lineage:
        for name, version in entry.manifest.versions.items():
            found.setdefault(name, {})[version] = None
    for name in LIBRARIES:
        if name in found:
            yield f"{name} {' and '.join(found[name])}"


def results(material: StudyMaterial) -> Iterator[Section]:
    """Yield the summary, the hypotheses, and the configurations, as on the report's page."""
    document = study_page(material).document
    sheets = {sheet.name: sheet for sheet in document.sheets}
    summary = [one for one in document.sections[1:] if not isinstance(one, Sheet)]
    yield Heading("What was found")
    yield from summary[: next(number for number, one in enumerate(summary) if isinstance(one, Heading))]
    yield Heading("Hypotheses")
    yield from notes(counted(material.answers))
    yield sheets["hypotheses"]
    yield sheets["claims"]
    yield Heading("Configurations")
    yield sheets["cells"]
    if "failed" in sheets:
        yield sheets["failed"]


def files(copied: Sequence[str], pictures: Sequence[str], cards: Mapping[str, str]) -> Iterator[str]:
    """Yield links to the other files, as Markdown."""
    yield "## Files"
    for name in copied:
        yield f"![{name.removesuffix('.svg')}]({name})" if name.endswith(".svg") else f"[{name}]({name})"
    if cards:
        yield "[Model card](card.md) of a configuration that no other beats in cost and accuracy of the worst group."
    for name in pictures:
        width = name.removeprefix("report-").removesuffix(".png")
        yield f"The report, {width} pixels wide:\n\n![the report]({name})"


if __name__ == "__main__":
    sys.exit(main())
