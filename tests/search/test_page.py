"""The report on a search: what was chosen, every trial with its reason, and the verdict of the test split."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("jinja2", reason="needs the extra report")
pytest.importorskip("huggingface_hub", reason="needs the extra report")

from huggingface_hub import ModelCard

from fqbench.errors import InputError
from fqbench.report.document import Note
from fqbench.report.figures import Cloud, DotPlot, TradeOff
from fqbench.report.page import page_of
from fqbench.report.page.contents import PageContents
from fqbench.report.renderers import page
from fqbench.report.search import summary
from fqbench.run import Run
from fqbench.search.results import SearchReport
from fqbench.search.search import search
from fqbench.workspace.kinds import EVALUATIONS
from tests.search.test_search import asked

PlantedRun = Callable[..., Run]


@pytest.fixture(scope="module")
def run(planted_run: PlantedRun) -> Run:
    return planted_run()


@pytest.fixture(scope="module")
def found(run: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[SearchReport, str]:
    return search(run, asked(tmp_path_factory.mktemp("limits")))


@pytest.fixture(scope="module")
def contents(run: Run, found: tuple[SearchReport, str]) -> PageContents:
    return page_of(run.workspace, [found[1]])


def test_it_says_what_was_chosen_and_how_it_was_judged(contents: PageContents, found: tuple[SearchReport, str]) -> None:
    report, identity = found
    told = [one.text for one in contents.document.sections if isinstance(one, Note)]
    assert told[: len(summary(report))] == list(summary(report))
    (limits,) = [sheet for sheet in contents.document.sheets if sheet.name == "limits"]
    assert [row[1] for row in limits.rows] == [check.limit for check in report.gate.checks]
    assert limits.tones is not None
    assert set(limits.tones.tones) == {"good"}
    (changes,) = [figure for figure in contents.document.figures if isinstance(figure, DotPlot)]
    assert set(changes.rows) == {"red", "blue", "all"}
    assert contents.entries == (identity,)
    assert contents.files == {"recipe.yaml": report.recipe}


def test_every_trial_has_its_reason_and_its_place(contents: PageContents, found: tuple[SearchReport, str]) -> None:
    report, identity = found
    sheets = {sheet.name: sheet for sheet in contents.document.sheets}
    assert [row[2] for row in sheets["trials"].rows] == [one.why for one in report.trials]
    assert [row[1] for row in sheets["decisions"].rows] == list(report.steps)
    trade_off = contents.document.figure("trials-trade-offs")
    assert isinstance(trade_off, TradeOff)
    made = [one for one in report.trials if not one.failed]
    assert [one.dots["size"].value for one in trade_off.candidates] == [one.bytes / 1e6 for one in made]
    cloud = contents.document.figure("trials-in-3d")
    assert isinstance(cloud, Cloud)
    assert {made[number].artifact_id for number in cloud.front} >= set(report.front)
    assert trade_off.sources == (identity,)
    records = contents.tables["all-trials"].records
    assert records is not None
    assert len(records.rows) == len(report.trials)


def test_its_card_and_page_can_be_read(contents: PageContents, found: tuple[SearchReport, str]) -> None:
    report, _identity = found
    (card,) = contents.cards.values()
    text = ModelCard(card, ignore_metadata_errors=False).content
    assert "## The search that found it" in text
    assert report.chosen in text
    html = page.render(contents.document, title=contents.title, lead=contents.lead)
    assert html.count("<h2") == len({"summary", "verdict", "groups", "trade-offs", "tried", "recipe", "from"})
    assert f'href="#entry-{report.gate_id}"' in html


def test_a_search_is_named_alone(run: Run, found: tuple[SearchReport, str]) -> None:
    evaluation = run.workspace.entries(EVALUATIONS)[0].id
    with pytest.raises(InputError, match="is a search, which has a page of its own; name it alone"):
        page_of(run.workspace, [found[1], evaluation])
