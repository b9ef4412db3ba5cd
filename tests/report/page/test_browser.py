"""The page in a real Chromium: nothing fails, nothing is fetched, and everything that moves works."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("jinja2", reason="needs the extra report")


from fqbench.report.document import Document, Heading, warnings
from fqbench.report.renderers import page as renderer

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
AXE = os.environ.get("FQBENCH_AXE")  # path of axe.min.js, from the npm package axe-core
OUTSIDE = """[...document.querySelectorAll('.chart > div > svg')].flatMap((s) => {
    const { width, height } = s.viewBox.baseVal;
    return [...s.querySelectorAll('.interval, .mark')].map((e) => e.getBBox()).filter(
        (b) => b.x < 0 || b.y < 0 || b.x + b.width > width || b.y + b.height > height);
})"""
WIDTHS = (360, 768, 1440)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: install it (Debian: apt install chromium)")


@dataclass
class Opened:
    """A page in the browser, with what it said and what it asked for."""

    view: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def show(self, file: Path, width: int, scheme: str = "light") -> Opened:
        self.view.emulate_media(color_scheme=scheme)
        self.view.set_viewport_size({"width": width, "height": 900})
        self.view.goto(file.as_uri())
        return self

    def run(self, script: str, argument: object = None) -> Any:
        return self.view.evaluate(script, argument)


@pytest.fixture(scope="module")
def file(document: Document, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(renderer.render(document, title="faces: accuracy per group", lead=["4 groups"]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        context = started.chromium.launch_persistent_context(
            str(tmp_path_factory.mktemp("profile")), executable_path=CHROMIUM, headless=True, args=list(FLAGS)
        )
        yield context
        context.close()


@pytest.fixture
def opened(browser: Any) -> Iterator[Opened]:
    one = Opened(browser.new_page())
    one.view.on("console", lambda message: one.said.append(message.text))
    one.view.on("pageerror", lambda error: one.said.append(str(error)))
    one.view.on("request", lambda request: one.asked.append(request.url))
    yield one
    one.view.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_draws_everything_within_the_width(opened: Opened, file: Path, width: int, scheme: str) -> None:
    opened.show(file, width, scheme)
    assert opened.run("document.documentElement.scrollWidth") == width
    marks = opened.run("[...document.querySelectorAll('.chart')].map(c => c.querySelectorAll('.mark, .line').length)")
    assert len(marks) == 3
    assert min(marks) >= 3
    assert opened.run(
        "[...document.querySelectorAll('.chart svg text')].every(t => !/NaN|undefined|null/.test(t.textContent))"
    )
    assert opened.run(OUTSIDE) == []
    shapes = "[...document.querySelectorAll('.chart svg *')].flatMap(e => [...e.attributes].map(a => a.value))"
    assert not [value for value in opened.run(shapes) if "NaN" in value]
    assert opened.said == []
    assert opened.asked == [file.as_uri()]


def test_a_warning_with_names_from_right_to_left_stays_one_paragraph(opened: Opened, tmp_path: Path) -> None:
    names = ", ".join(["שלום עולם", "<script>alert(1)</script>", "100 % & more"] * 6)
    path = tmp_path / "index.html"
    document = Document((Heading("Names"), *warnings(f"few images: {names}")))
    path.write_text(renderer.render(document, title="names"), encoding="utf-8")
    opened.show(path, 360)
    assert opened.run("document.documentElement.scrollWidth") == 360
    edges = opened.run("[...document.querySelectorAll('.warning bdi')].map((e) => e.getBoundingClientRect().height)")
    assert len(edges) >= 6
    assert max(edges) < 60  # each in its line; as items of a flex container they were columns


def test_loads_in_two_seconds(opened: Opened, file: Path) -> None:
    opened.show(file, 1440)
    assert opened.run("performance.getEntriesByType('navigation')[0].duration") < 2000


def test_a_script_that_slipped_in_would_not_run(opened: Opened, file: Path) -> None:
    opened.show(file, 768)
    opened.run(
        "() => document.body.append(Object.assign(document.createElement('script'), { textContent: 'window.bad = 1' }))"
    )
    assert opened.run("window.bad === undefined")
    assert "Content Security Policy" in opened.said[0]


def test_sorts_by_figures_and_back(opened: Opened, file: Path) -> None:
    opened.show(file, 1440)
    table = opened.view.locator("#verdicts table").first
    size = table.locator("th button", has_text="MB")
    cells = "t => [...t.tBodies[0].rows].map(r => r.cells[7].textContent)"
    size.click()
    up = [float(text) for text in table.evaluate(cells)]
    assert up == sorted(up)
    size.press("Enter")
    assert [float(text) for text in table.evaluate(cells)] == sorted(up, reverse=True)
    assert table.evaluate("t => [...t.tHead.rows[0].cells].map(c => c.ariaSort)").count("descending") == 1
    # What has no figure is last in both directions.
    for _twice in range(2):
        table.locator("th button", has_text="largest loss").click()
        assert table.evaluate("t => t.tBodies[0].rows[2].cells[4].textContent") == "-"


def test_filters_rows_by_words(opened: Opened, file: Path) -> None:
    opened.show(file, 768)
    frame = opened.view.locator(".table", has=opened.view.locator("caption", has_text="entries")).first
    count = "t => [...t.querySelectorAll('tbody tr')].filter(r => !r.hidden).length"
    everything = frame.evaluate(count)
    frame.locator("input").fill("predictions INT8")
    assert frame.evaluate(count) == 1
    assert frame.locator(".count").text_content() == f"1 of {everything} rows"
    frame.locator("input").fill("")
    assert frame.evaluate(count) == everything


def test_pointer_and_arrow_keys_explain_a_mark(opened: Opened, file: Path) -> None:
    opened.show(file, 1440)
    chart = opened.view.locator("#figure-change-per-group .chart > div > svg")
    chart.locator(".mark").first.hover()
    tip = opened.view.locator("#tip")
    assert "int8/balanced" in tip.text_content()
    chart.focus()
    opened.view.keyboard.press("ArrowRight")
    first = tip.text_content()
    opened.view.keyboard.press("ArrowRight")
    assert tip.text_content() != first
    opened.view.keyboard.press("Escape")
    assert not tip.is_visible()


def test_the_legend_hides_and_the_axes_can_be_chosen(opened: Opened, file: Path) -> None:
    opened.show(file, 1440)
    count = "document.querySelectorAll('#figure-change-per-group svg .interval').length"
    before = opened.run(count)
    button = opened.view.locator("#figure-change-per-group .legend button").first
    button.click()
    assert opened.run(count) == before / 2
    assert button.get_attribute("aria-pressed") == "false"
    # A simulated artifact has a size, but no speed.
    marks = "document.querySelectorAll('#figure-trade-offs .chart > div > svg .mark').length"
    assert opened.run(marks) == 2
    opened.view.locator("#figure-trade-offs select").last.select_option(label="size of the artifact, MB")
    assert opened.run(marks) == 3
    assert opened.run("document.querySelectorAll('#figure-trade-offs .chart > div > svg .mark.hollow').length") == 1


def test_theme_is_switched_and_kept(opened: Opened, file: Path) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    light = opened.show(file, 768).run(colour)
    opened.view.locator("#theme").click()
    dark = opened.run(colour)
    assert dark != light
    opened.view.reload()
    assert opened.run(colour) == dark
    opened.view.locator("#theme").click()
    opened.view.emulate_media(media="print", color_scheme="dark")
    assert opened.run("getComputedStyle(document.documentElement).colorScheme") == "light"
    assert not opened.view.locator("nav").is_visible()


def test_a_link_opens_what_is_folded(opened: Opened, file: Path) -> None:
    opened.show(file, 768)
    link = opened.view.locator("#verdicts td.from a").first
    link.click()
    target = opened.view.locator(link.get_attribute("href"))
    assert target.is_visible()


def test_marks_of_an_axis_are_exact(opened: Opened, file: Path) -> None:
    opened.show(file, 768)
    for low, high, count in [(-18.2, 1.3, 8), (0.0004, 0.0021, 6), (0.62, 0.83, 5), (-3, 40000, 7), (0.1, 0.4, 3)]:
        marks = opened.run("([l, h, c]) => ticks(l, h, c)", [low, high, count])
        texts = opened.run("(all) => all.map((v) => number(v, {}, all))", marks)
        assert [float(text) for text in texts] == pytest.approx(marks, abs=1e-9)
        shares = opened.run("(all) => all.map((v) => number(v, { percent: true, signed: true }, all))", marks)
        assert [float(text.removesuffix("%")) / 100 for text in shares] == pytest.approx(marks, abs=1e-7)


CONTRAST = Path(__file__).with_name("contrast.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(opened: Opened, file: Path, scheme: str) -> None:
    opened.show(file, 1440, scheme)
    opened.run("for (const one of document.querySelectorAll('details')) one.open = true")
    assert opened.run(CONTRAST) == []


def test_everything_that_is_operated_has_a_name(opened: Opened, file: Path) -> None:
    opened.show(file, 768)
    nameless = """[...document.querySelectorAll('button, a, input, select, [role=region], .chart > div > svg')].filter(
        (e) => !(e.ariaLabel || e.labels?.[0]?.textContent.trim() || e.textContent.trim())).map((e) => e.outerHTML)"""
    assert opened.run(nameless) == []
    assert opened.run("document.documentElement.lang") == "en"
    assert opened.run("document.querySelectorAll('main').length") == 1


@pytest.mark.skipif(AXE is None, reason="axe-core is not at hand: set FQBENCH_AXE to axe.min.js of the npm package")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(browser: Any, opened: Opened, file: Path, scheme: str) -> None:
    opened.view.add_init_script(path=AXE)
    opened.show(file, 768, scheme)
    opened.run("for (const one of document.querySelectorAll('details')) one.open = true")
    found = opened.run("async () => (await axe.run()).violations.map((v) => [v.id, v.impact, v.nodes[0].html])")
    assert [one for one in found if one[1] in {"serious", "critical"}] == []


def test_three_dimensions_are_turned_with_sliders(opened: Opened, tmp_path: Path) -> None:
    from tests.report.page.test_clouds import drawn

    sections = (Heading("Trade-offs"), Heading("In three dimensions", level=3, folded=True), drawn())
    path = tmp_path / "index.html"
    path.write_text(renderer.render(Document(sections), title="three"), encoding="utf-8")
    for width in WIDTHS:
        opened.show(path, width)
        opened.view.locator("details > summary").first.click()
        assert opened.run("document.documentElement.scrollWidth") == width
        chart = opened.view.locator(".chart > div > svg")
        marks = "[...document.querySelectorAll('.chart > div > svg .mark')].map((m) => m.getBBox().x)"
        before = opened.run(marks)
        assert len(before) == 4
        assert opened.run("document.querySelectorAll('.interval').length") == 3
        for slider, key in ((0, "ArrowRight"), (1, "ArrowLeft"), (0, "End"), (1, "End")):
            opened.view.locator(".choices input").nth(slider).press(key)
            assert opened.run(OUTSIDE) == []
        assert opened.run(marks) != before
        chart.focus()
        opened.view.keyboard.press("ArrowRight")
        assert "beaten by" in opened.view.locator("#tip").text_content()
    assert opened.said == []
