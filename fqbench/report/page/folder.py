"""The folder of a report: the page, figures, tables and model cards, written whole or not at all."""

from __future__ import annotations

import json
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from fqbench.errors import InputError, WorkspaceError
from fqbench.optional import require
from fqbench.report.document import Document, Records
from fqbench.report.figures import Figure, figure_data
from fqbench.report.page.contents import PageContents
from fqbench.report.renderers import latex, page, plots, tables
from fqbench.reporter import Reporter
from fqbench.storage import file_digest, sync, text_digest

PAGE = "index.html"
MARKER = "report.json"
MADE_BY = "fqbench report"
LIBRARIES = ("jinja2", "matplotlib", "huggingface_hub")


def require_libraries() -> None:
    """Raise `UnavailableError` where a library of the extra ``report`` is not installed."""
    for library in LIBRARIES:
        require(library, extra=page.EXTRA)


def write_report(contents: PageContents, out: Path, reporter: Reporter) -> Path:
    """Write a report into a folder, in place of an earlier report, and return the path of its page.

    Parameters
    ----------
    contents : PageContents
        What to write.
    out : Path
        A new or empty folder, or one that holds a report and nothing else.
    reporter : Reporter
        Told how many figures are drawn.

    Raises
    ------
    InputError
        The folder holds something else, or a file of the report that was changed by hand.
    UnavailableError
        A library of the extra ``report`` is not installed.
    WorkspaceError
        The folder cannot be written.
    """
    require_libraries()
    check_folder(out)
    document = contents.document
    files: dict[str, bytes] = {PAGE: page.render(document, title=contents.title, lead=contents.lead).encode()}
    files |= {name: text.encode() for name, text in _tables(contents)}
    files |= {f"cards/{one}/README.md": text.encode() for one, text in contents.cards.items()}
    files |= {name: text.encode() for name, text in contents.files.items()}
    with reporter.track("drawing figures", len(document.figures), "figures") as advance:
        for figure in document.figures:
            files |= {f"figures/{figure.name}.{form}": data for form, data in plots.plot(figure).items()}
            advance(1)
    marker = {
        "made_by": MADE_BY,
        "entries": list(contents.entries),
        "files": {name: text_digest(data) for name, data in sorted(files.items())},
    }
    files[MARKER] = (json.dumps(marker, indent=1) + "\n").encode()
    try:
        replace_folder(out, files)
    except OSError as error:
        raise WorkspaceError(f"{out} cannot be written ({error.strerror or error}); choose another --out.") from error
    return out / PAGE


def check_folder(out: Path) -> None:
    """Refuse a folder whose contents would be lost.

    Raises
    ------
    InputError
        It is a file, or holds files that fqbench did not write or that were changed since.
    """
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise InputError(f"{out} is not a folder; choose another --out.")
    if not out.exists() or not any(out.iterdir()):
        return
    written = _written(out / MARKER)
    if written is None:
        raise InputError(f"{out} holds files, but no report of fqbench; choose another --out, or an empty folder.")
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if path.is_dir() and not path.is_symlink():
            continue
        if name != MARKER and (name not in written or file_digest(path) != written[name]):
            did = "was changed" if name in written else "was added"
            raise InputError(f"{path} {did} after the report was written; move it away, or choose another --out.")


def replace_folder(out: Path, files: Mapping[str, bytes]) -> None:
    """Write files into a folder next to ``out``, and rename it to ``out`` when all are there."""
    out = out.absolute()
    out.parent.mkdir(parents=True, exist_ok=True)
    token = secrets.token_hex(4)
    partial, earlier = (out.with_name(f".{out.name}.{token}.{state}") for state in ("partial", "earlier"))
    try:
        for name, data in files.items():
            path = partial / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            sync(path)
        if out.exists():
            out.rename(earlier)
        try:
            partial.rename(out)
        except BaseException:
            if earlier.exists():
                earlier.rename(out)
            raise
        sync(out.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if out.exists():
            shutil.rmtree(earlier, ignore_errors=True)


def _written(marker: Path) -> dict[str, str] | None:
    """Return the files that a report lists, with their hashes; None where there is no report."""
    try:
        found = json.loads(marker.read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict) or found.get("made_by") != MADE_BY or not isinstance(found.get("files"), dict):
        return None
    return {str(name): str(digest) for name, digest in found["files"].items()}


def _tables(contents: PageContents) -> Iterator[tuple[str, str]]:
    """Each table of the page as CSV and LaTeX, each figure's values as CSV, and all figures unrounded."""
    used: dict[str, int] = {}
    for sheet in contents.document.sheets:
        name = _file_name(sheet.name or sheet.title or "table", used)
        one = Document((sheet,))
        yield f"tables/{name}.csv", tables.render(one)
        yield f"tables/{name}.tex", latex.render(one)
    for figure in contents.document.figures:
        yield f"figures/{figure.name}.csv", _values(figure)
    for name, document in contents.tables.items():
        yield f"tables/{name}.csv", tables.render(document)


def _values(figure: Figure) -> str:
    data = figure_data(figure)
    return tables.render(Document((), records=Records(data.columns, data.rows)))


def _file_name(text: str, used: dict[str, int]) -> str:
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60] or "table"
    used[plain] = used.get(plain, 0) + 1
    return plain if used[plain] == 1 else f"{plain}-{used[plain]}"
