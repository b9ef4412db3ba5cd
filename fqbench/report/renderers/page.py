"""A document as one HTML page that loads nothing: its style, script and data are in it."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from fqbench.optional import require
from fqbench.report.document import Document, Heading, Note, Section, Sheet
from fqbench.report.figures import Cloud, DotPlot, Figure, Heatmap, Lines, TradeOff, figure_data
from fqbench.storage import finite_or_none

if TYPE_CHECKING:
    from markupsafe import Markup

EXTRA = "report"
SCRIPTS = ("theme.js", "tables.js", "axes.js", "cloud.js", "charts.js")
FEW_ROWS = 6  # a table of fewer has no field to filter it
MOST_DATA_ROWS = 600  # of a figure's data that are also shown as a table
RIGHT_TO_LEFT = frozenset({"R", "AL", "RLE", "RLO", "RLI", "AN"})
KINDS: dict[type[Any], str] = {
    DotPlot: "dots",
    TradeOff: "trade-off",
    Cloud: "cloud",
    Heatmap: "heatmap",
    Lines: "lines",
}
SHAPES = {"equivalent": "●", "different": "◆", "undecided": "○"}


@dataclass
class PagePart:
    """A heading of level 2 or 3 and what stands below it."""

    heading: Heading
    anchor: str
    blocks: list[tuple[str, Any]] = field(default_factory=list)


def render(document: Document, *, title: str, lead: Sequence[str] = ()) -> str:
    """Return a document as an HTML page.

    Parameters
    ----------
    document : Document
        Its headings of level 2 are the sections of the page.
    title : str
        Of the page.
    lead : sequence of str
        Facts below the title.

    Raises
    ------
    UnavailableError
        jinja2 is not installed.
    """
    jinja2 = require("jinja2", extra=EXTRA)
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["bidi"] = isolated
    environment.filters["short"] = lambda identity: identity.rpartition("-")[2]
    style, script = _template("page.css"), "\n".join(map(_template, SCRIPTS))
    known = {row[sheet.anchors] for sheet in document.sheets if sheet.anchors is not None for row in sheet.rows}
    page: str = environment.get_template("page.html.j2").render(
        title=title,
        lead=lead,
        parts=_parts(document.sections),
        style=style,
        script=script,
        policy=_policy(style, script),
        known=known,
        data=[(figure.name, _json(figure)) for figure in document.figures if not isinstance(figure, Heatmap)],
        kind_of=lambda figure: KINDS[type(figure)],
        table_of=_data_sheet,
        shapes=SHAPES,
        few_rows=FEW_ROWS,
    )
    return page


def isolated(text: str) -> Markup:
    """Return escaped text whose right-to-left parts are isolated, so that they do not reorder what is around them."""
    from markupsafe import Markup, escape

    parts: list[Markup] = []
    for right_to_left, words in _runs(text):
        parts.append(Markup("<bdi>{}</bdi>").format(words) if right_to_left else escape(words))
    return Markup("").join(parts)


def _runs(text: str) -> Iterator[tuple[bool, str]]:
    """Split into maximal runs of right-to-left words, with the spaces and digits between them, and everything else."""
    if text.isascii():
        yield False, text
        return
    start = 0
    for found in re.finditer(r"\S+(?:\s+\S+)*?", text):
        word = found.group()
        pieces = re.split(r"([×,;:()\[\]]+)", word)
        if not any(map(_is_right_to_left, pieces)):
            continue
        yield False, text[start : found.start()]
        for piece in pieces:
            yield _is_right_to_left(piece), piece
        start = found.end()
    yield False, text[start:]


def _is_right_to_left(text: str) -> bool:
    return any(unicodedata.bidirectional(character) in RIGHT_TO_LEFT for character in text)


def _template(name: str) -> str:
    return files("fqbench.report").joinpath("templates", name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """A content security policy: nothing is fetched, and no script runs but the page's own."""

    def digest(text: str) -> str:
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest(style)}'; script-src 'sha256-{digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _parts(sections: Sequence[Section]) -> list[PagePart]:
    """Nest sections: parts of level 2 hold blocks, some of which are parts of level 3."""
    parts: list[PagePart] = []
    anchors: dict[str, int] = {}
    inner: PagePart | None = None
    for section in sections:
        if isinstance(section, Heading):
            part = PagePart(section, _anchor(section.text, anchors))
            if section.level == 2 or not parts:
                parts.append(part)
                inner = None
            else:
                parts[-1].blocks.append(("part", part))
                inner = part
            continue
        if not parts:
            parts.append(PagePart(Heading(""), _anchor("", anchors)))
        blocks = (inner or parts[-1]).blocks
        kind = "note" if isinstance(section, Note) else "sheet" if isinstance(section, Sheet) else "figure"
        blocks.append((kind, section))
    return parts


def _anchor(text: str, used: dict[str, int]) -> str:
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "part"
    used[plain] = used.get(plain, 0) + 1
    return plain if used[plain] == 1 else f"{plain}-{used[plain]}"


def _json(figure: Figure) -> Markup:
    """Return a figure's data for the script; no character in it can end the element that holds it."""
    from markupsafe import Markup

    values = finite_or_none(asdict(figure)) | {"kind": KINDS[type(figure)]}
    text = json.dumps(values, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - escaped above


def _data_sheet(figure: Figure) -> Sheet | None:
    """Return a figure's values as a table for readers who do not see it."""
    if isinstance(figure, Heatmap):
        return None
    data = figure_data(figure)
    if len(data.rows) > MOST_DATA_ROWS:
        return None
    columns = tuple(name if _is_text(data.rows, index) else f">{name}" for index, name in enumerate(data.columns))
    rows = tuple(tuple(map(_cell, row)) for row in data.rows)
    return Sheet(f"data: {figure.title}", columns, rows)


def _is_text(rows: Sequence[Sequence[object]], index: int) -> bool:
    return any(isinstance(row[index], str) for row in rows)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else "-"
    return str(value)
