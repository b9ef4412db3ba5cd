"""One document in five formats."""

from __future__ import annotations

import csv
import json

import pytest

from fqbench.report.document import Document, Format, Heading, Note, Records, Sheet
from fqbench.report.figures import Axis, Line, Lines
from fqbench.report.renderers import render, show

SHEET = Sheet(
    "rates & gaps", ("group", ">accuracy"), (("a|b×c", "50%"), ("all", "0.5")), (Note("small", warning=True),)
)
DOCUMENT = Document(
    (Heading("title_1"), Note("a note"), SHEET),
    {"accuracy": 0.5},
    Records(("group", "value"), [("a", 0.25), ("b", float("nan"))]),
)


def test_json_is_the_value() -> None:
    assert json.loads(render(DOCUMENT, Format.JSON)) == {"accuracy": 0.5}
    with pytest.raises(ValueError, match="not JSON compliant"):
        render(Document((), {"accuracy": float("nan")}), Format.JSON)


def test_csv_is_the_records_and_an_undefined_figure_is_empty() -> None:
    assert render(DOCUMENT, Format.CSV) == "group,value\na,0.25\nb,\n"


def test_csv_without_records_is_the_one_table_or_the_cells_of_all() -> None:
    assert list(csv.reader(render(Document((SHEET,)), Format.CSV).splitlines())) == [
        ["group", "accuracy"],
        ["a|b×c", "50%"],
        ["all", "0.5"],
    ]
    cells = list(csv.DictReader(render(Document((SHEET, SHEET)), Format.CSV).splitlines()))
    assert len(cells) == 8
    assert cells[1] == {"table": "rates & gaps", "row": "a|b×c", "column": "accuracy", "value": "50%"}


def test_markdown() -> None:
    assert render(DOCUMENT, Format.MARKDOWN) == (
        "## title_1\n\na note\n\n### rates & gaps\n\n"
        "| group | accuracy |\n|---|---:|\n| a\\|b×c | 50% |\n| all | 0.5 |\n\n> small\n"
    )


def test_markdown_passes_no_html_on() -> None:
    sheet = Sheet("", ("group",), (("<b>&lt;",), ("R&D",)))
    assert "| &lt;b>&amp;lt; |\n| R&D |" in render(Document((sheet,)), Format.MARKDOWN)


def test_markdown_takes_no_name_for_a_link_or_markup() -> None:
    cells = ("[x](http://y)", "a *b* `c`", "back\\slash \\| ~", "+1.0 [0.5, 1.5]", "שלום & [x][y]")
    text = render(Document((Note(cells[0]), Sheet("", ("group",), tuple((one,) for one in cells)))), Format.MARKDOWN)
    note, _columns, _line, *rows = [line for line in text.splitlines() if line]
    assert note == "[x]\\(http://y)"
    assert [row.strip("| ") for row in rows] == [
        "[x]\\(http://y)", "a \\*b\\* \\`c\\`", "back\\slash \\\\\\| \\~", "+1.0 [0.5, 1.5]", "שלום & [x]\\[y]",
    ]  # fmt: skip


def test_a_row_that_begins_with_a_bracket_is_not_an_argument_of_the_line_break() -> None:
    text = render(Document((Sheet("", ("a", "b"), (("[x]", "1"), ("*", "2"))),)), Format.LATEX)
    assert "{}[x] & 1" in text
    assert "{}* & 2" in text


def test_a_figure_is_described_where_it_cannot_be_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    line = Line("a", (1.0,), (2.0,))
    figure = Lines("curve", "Loss_1", "It falls.", "Read it so.", ("run-1",), Axis("epoch"), Axis("loss"), (line,))
    document = Document((figure,))
    assert "*Loss_1*: It falls." in render(document, Format.MARKDOWN)
    assert "\\includegraphics[width=\\linewidth]{figures/curve.pdf}\n\\caption{Loss\\_1. Read it so.}" in render(
        document, Format.LATEX
    )
    show(document)
    assert "[figure curve] It falls." in capsys.readouterr().out


def test_latex_escapes_everything() -> None:
    text = render(DOCUMENT, Format.LATEX)
    assert "\\paragraph{title\\_1}" in text
    assert "\\caption{rates \\& gaps. small}" in text
    assert "a|b$\\times$c & 50\\% \\\\" in text
    assert text.count("\\begin{") == text.count("\\end{")


def test_text_goes_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="show"):
        render(DOCUMENT, Format.TEXT)
    show(DOCUMENT, Format.CSV)
    assert capsys.readouterr().out.startswith("group,value")
