"""The HTML page: nothing of a name becomes markup, everything that is linked exists, nothing is loaded."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest

pytest.importorskip("jinja2", reason="needs the extra report")

from hypothesis import given
from hypothesis import strategies as st

from fqbench.report.document import Document, Heading, Note, Sheet, Tones
from fqbench.report.figures import Axis, Line, Lines
from fqbench.report.page import Material
from fqbench.report.renderers import page

VOID = {"meta", "link", "input", "br"}


class Elements(HTMLParser):
    """Elements with attributes, texts, and whether every element is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def attributes(self, name: str) -> list[str]:
        return [value for _tag, attributes in self.found if (value := attributes.get(name))]


@pytest.fixture(scope="module")
def text(document: Document) -> str:
    return page.render(document, title="<b>title</b>", lead=["<i>lead</i>"])


@pytest.fixture(scope="module")
def elements(text: str) -> Elements:
    return Elements(text)


def test_is_well_formed_and_ids_are_unique(elements: Elements) -> None:
    assert elements.open == []
    ids = elements.attributes("id")
    assert len(ids) == len(set(ids))


def test_names_stay_text(elements: Elements, text: str) -> None:
    scripts = [attributes for tag, attributes in elements.found if tag == "script"]
    assert [one for one in scripts if one.get("type") != "application/json"] == [{}]
    assert "<script>boom" not in text
    assert "<b>title" not in text
    assert "<i>lead" not in text
    assert any("<script>boom()</script>" in shown for tag, shown in elements.texts if tag == "th")


def test_data_of_a_figure_cannot_end_its_element() -> None:
    name = "</script ><!--<script \u2028&"
    figure = Lines("f", name, name, name, (), Axis(name), Axis("y"), (Line(name, (1.0, float("nan")), (2.0, 3.0)),))
    text = page.render(Document((Heading("h"), figure)), title="t")
    (raw,) = re.findall(r'id="data-f">(.*)</script>', text)
    assert not set("<>&\u2028") & set(raw)
    parsed = Elements(text)
    (data,) = [shown for tag, shown in parsed.texts if tag == "script" and shown.startswith("{")]
    assert json.loads(data)["lines"][0]["name"] == name
    assert json.loads(data)["lines"][0]["xs"] == [1.0, None]


def test_every_link_leads_somewhere_on_the_page(elements: Elements, material: Material) -> None:
    ids = set(elements.attributes("id"))
    links = elements.attributes("href")
    assert {link[1:] for link in links if link.startswith("#")} <= ids
    assert {f"entry-{entry.id}" for entry in material.lineage} <= ids
    # Nothing is fetched: an empty icon keeps a browser from asking for one.
    assert [link for link in links if not link.startswith("#")] == ["data:,"]
    assert not elements.attributes("src")


def test_every_figure_and_verdict_names_its_entries(document: Document, elements: Elements) -> None:
    for figure in document.figures:
        assert figure.sources
    (verdicts,) = [sheet for sheet in document.sheets if sheet.name == "verdicts"]
    assert len(verdicts.sources) == len(verdicts.rows) == 3
    assert set(elements.attributes("data-figure")) == {
        "change-per-group", "trade-offs", "latency-distributions",
    }  # fmt: skip


def test_simulated_is_said_wherever_an_artifact_is_named(text: str, document: Document) -> None:
    simulated = "int2a4/balanced"
    assert text.count(simulated) > 10
    assert not re.findall(rf"{re.escape(simulated)}(?! \(simulated\))(?!-)", re.sub(r"ort[ -]int2a4", "", text))


def test_headings_go_down_one_level_at_a_time(elements: Elements) -> None:
    levels = [int(tag[1]) for tag, _attributes in elements.found if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs"])))
def test_isolation_changes_no_letter(name: str) -> None:
    shown = str(page.isolated(name))
    assert re.sub("</?bdi>", "", shown) == str(page.isolated("").escape(name))
    assert "<" not in re.sub("</?bdi>", "", shown)


def test_right_to_left_is_isolated() -> None:
    assert str(page.isolated("כהה×young, light")) == "<bdi>כהה</bdi>×young, light"
    assert str(page.isolated("plain & simple")) == "plain &amp; simple"


def test_tones_totals_and_folded_parts() -> None:
    sheet = Sheet("s", ("a", ">b"), (("x", "1"), ("all", "2")), total=True, tones=Tones(1, ("good", "plain")))
    sections = (Heading("One"), Note("first", lead=True), Heading("Two", level=3, folded=True), sheet, Heading("One"))
    parsed = Elements(page.render(Document(sections), title="t"))
    tags = [tag for tag, _attributes in parsed.found]
    assert tags.count("tfoot") == 1
    assert tags.count("details") == 1
    assert {"one", "one-2", "two"} <= set(parsed.attributes("id"))
    assert "tone good" in parsed.attributes("class")
    assert "note lead" in parsed.attributes("class")
