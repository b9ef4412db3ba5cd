"""Tables fit any terminal without breaking a word, and lose no cell."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fqbench.report.document import Bars, Document, Heading, Note, Sheet
from fqbench.report.layout import GAP, Column, cell_width, paragraph, parts, rows, widest_word, wrapped
from fqbench.report.renderers.text import lines

words = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z", "M"]), min_size=1, max_size=14)
texts = st.lists(words, max_size=5).map(" ".join)
figures = st.floats(0, 1).map(lambda value: f"{value:.3f} [{value / 2:.3f}, {value:.3f}]")


@st.composite
def tables(draw: st.DrawFn) -> list[Column]:
    height = draw(st.integers(0, 4))
    columns = []
    for number in range(draw(st.integers(1, 7))):
        right = number > 0 and draw(st.booleans())
        cells = draw(st.lists(figures if right else texts, min_size=height, max_size=height))
        columns.append(Column(draw(texts), tuple(cells), right))
    return columns


def cells_of(part: list[tuple[Column, int]]) -> list[list[str]]:
    """Read a part back from its lines: the words of each cell, by the columns' positions."""
    found = []
    for row in rows(part):
        cells = []
        start = 0
        for _column, width in part:
            cut = [slice_of(line, start, width) for line in row]
            cells.append(" ".join(" ".join(cut).split()))
            start += width + GAP
        found.append(cells)
    return found


def slice_of(line: str, start: int, width: int) -> str:
    """Cut by the width on a terminal, where some characters take two columns and some none."""
    out, at = "", 0
    for character in line:
        if start <= at < start + width:
            out += character
        at += cell_width(character)
    return out


@given(tables(), st.integers(40, 140))
def test_no_word_breaks_no_cell_is_lost_and_the_width_is_kept(columns: list[Column], width: int) -> None:
    made = list(parts(columns, width))
    assert [column for part in made for column, _room in part[1:]] == columns[1:]
    for part in made:
        assert part[0][0] is columns[0]
        for column, room in part:
            assert room >= max(map(widest_word, (column.name, *column.cells)))
        total = sum(room for _column, room in part) + GAP * (len(part) - 1)
        assert total <= width or len(part) <= 2
        expected = [[" ".join(column.name.split()) for column, _room in part]]
        expected += [
            [" ".join(column.cells[row].split()) for column, _room in part] for row in range(len(columns[0].cells))
        ]
        assert cells_of(part) == expected


@given(tables(), st.integers(40, 140))
def test_figures_stay_on_one_line(columns: list[Column], width: int) -> None:
    for part in parts(columns, width):
        for column, room in part:
            assert not column.right or room >= column.full


def test_a_table_that_fits_is_one_part_and_text_wraps_before_columns_go_below() -> None:
    columns = [
        Column("limit", ("max_group_drop dark×old",), right=False),
        Column("value", ("0.001 [0.000, 0.010]",), right=True),
        Column("evidence", ("about twelve hundred images of this group would decide this check",), right=False),
    ]
    assert len(list(parts(columns, 140))) == 1
    ((*_others, (_evidence, room)),) = parts(columns, 80)
    assert room < columns[2].full
    first, second = parts(columns, 60)
    assert [column.name for column, _room in first] == ["limit", "value"]
    assert [column.name for column, _room in second] == ["limit", "evidence"]


def test_names_of_columns_are_wrapped_only_where_there_is_no_room() -> None:
    columns = [Column("group", ("a",), right=False), Column("Δ accuracy, points", ("+1.0",), right=True)]
    assert [width for _column, width in next(parts(columns, 80))] == [5, 18]
    assert [width for _column, width in next(parts(columns, 16))] == [5, 9]


def test_wide_characters_take_two_columns() -> None:
    assert cell_width("東京") == 4
    assert wrapped("東京 大阪", 5) == ["東京", "大阪"]


def test_a_paragraph_keeps_its_indentation_and_its_words() -> None:
    path = "/a/very/long/path/that/is/longer/than/the/line/and/is/copied/as/it/stands"
    assert paragraph(f"  path: {path}", 40) == ["  path:", f"    {path}"]
    assert paragraph("", 40) == [""]


@pytest.mark.parametrize("width", [80, 120, 140])
def test_lines_of_a_document(width: int) -> None:
    sheet = Sheet(
        "rates",
        ("group", ">n", ">accuracy, 95% interval", ">selection rate", ">TPR", ">FPR"),
        tuple((group, "100", *["0.912 [0.874, 0.941]"] * 4) for group in ("dark×old (small)", "all")),
        (Note("fewer than 30 images, " * 8, warning=True), Note("how it was computed")),
        total=True,
        bars=Bars(2, (0.912, float("nan"))),
    )
    shown = list(lines(Document((Heading("synthfaces, test split"), sheet)), width))
    assert shown[0] == ("synthfaces, test split", "bold")
    assert max(cell_width(line) for line, _style in shown) <= width
    assert [style for line, style in shown if line.startswith("all")] == ["bold"] * (2 if width == 80 else 1)
    text = "\n".join(line for line, _style in shown)
    assert len(re.findall(r"0\.912 \[0\.874, 0\.941\]", text)) == 8
    assert ("█" in text) == (width == 140)
    assert next(line for line, style in shown if style == "yellow").startswith("! fewer than 30 images")


def test_bars_are_drawn_where_they_fit() -> None:
    sheet = Sheet(
        "",
        ("group", ">accuracy"),
        (("a", "1.000"), ("b", "0.512"), ("c", "-")),
        bars=Bars(1, (1.0, 0.512, float("nan"))),
    )
    drawn = [line for line, _style in lines(Document((sheet,)), 80)]
    assert drawn[2].split() == ["a", "██████████", "1.000"]
    assert drawn[3].split() == ["b", "█████▏", "0.512"]
    assert drawn[4].split() == ["c", "-"]
    assert not any("█" in line for line, _style in lines(Document((sheet,)), 20))
