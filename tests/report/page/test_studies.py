"""The report on a study: every cell once, under a name that no other has, with the figures of the table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("jinja2", reason="needs the extra report")
pytest.importorskip("huggingface_hub", reason="needs the extra report")


from huggingface_hub import ModelCard

from fqbench.errors import InputError
from fqbench.report.document import Note
from fqbench.report.figures import DotPlot, Heatmap, TradeOff
from fqbench.report.page import Material, page_of, table_page
from fqbench.report.page.studies import SECTIONS, StudyMaterial, gather_study, study_page
from fqbench.report.page.study_cards import study_cards
from fqbench.report.renderers import page
from fqbench.study.hypotheses.questions import answer_hypotheses
from fqbench.study.rows import rows_of_evaluation, rows_of_latency
from fqbench.study.table import frame_of, write_table
from fqbench.workspace import Derivation, Entry, Workspace
from fqbench.workspace.kinds import STUDIES, StudyFacts

SHARED = {"study": "s", "phase": "methods", "data": "faces", "backend": "ort", "sampler": "balanced", "policy": ""}


def study_of(workspace: Workspace, material: Material) -> Entry[StudyFacts]:
    """The artifacts of an evaluation as the cells of a study of two seeds that gave the same figures."""
    (view,) = material.views
    rows = []
    for seed in (0, 1):
        for one in view.subjects:
            assert one.latency is not None
            first = one is view.reference
            cell = {
                **SHARED, "cell": f"c{seed}-{one.name}", "model": "bright", "seed": seed,
                "method": "fp32" if first else "ptq",
                "bits": 32 if first else (2 if "int2" in one.name else 8), "act_bits": 8, "mitigation": "",
                "level": one.level.value, "by": "tone,age", "artifact": one.figures.id,
                "predictions": one.figures.predictions_id, "notice": "made up",
                "reference": "" if first else view.reference.figures.predictions_id,
            }  # fmt: skip
            rows += [cell | row | {"split": "test", "source": view.entry.id} for row in rows_of_evaluation(one.figures)]
            timed = rows_of_latency(one.latency, 0.95, is_reference=first)
            rows += [cell | row | {"split": "", "source": material.measured[0]} for row in timed]
    table = frame_of(rows)

    def build(out: Path) -> StudyFacts:
        write_table(table, out)
        return StudyFacts(study="s", cells=6, rows=len(table), failed={"<b>broken</b>": "no kernel"})

    return workspace.produce(Derivation(STUDIES, "s", {"made": "by hand"}, {"cell0": view.entry.id}), build, {})


@pytest.fixture(scope="module")
def study(hostile_workspace: Workspace, material: Material) -> StudyMaterial:
    return gather_study(hostile_workspace, study_of(hostile_workspace, material).id)


def test_a_configuration_is_named_by_what_varies(study: StudyMaterial) -> None:
    names = [one.name for one in study.configurations]
    assert names[:3] == ["seed 0: fp32", "seed 0: ptq int8", "seed 0: ptq int2 (simulated)"]
    assert len(set(names)) == 6
    assert study.constant == "data faces, model bright, backend ort, sampler balanced"


def test_figures_are_those_of_the_table(study: StudyMaterial, material: Material) -> None:
    (view,) = material.views
    document = study_page(study).document
    heatmap = document.figure("configurations-and-groups")
    assert isinstance(heatmap, Heatmap)
    _reference, (native, change) = view.subjects[0], view.compared[0]
    shown = dict(zip(heatmap.columns, heatmap.cells[0], strict=True))
    assert {group: dot.value for group, dot in shown.items()} == {
        row.group: pytest.approx(100 * row.accuracy.value) for row in change.groups
    }
    trade_off = document.figure("trade-offs")
    assert isinstance(trade_off, TradeOff)
    assert native.latency is not None
    assert trade_off.candidates[1].dots["latency"].value == native.latency.p50_ms.value
    assert "latency" not in trade_off.candidates[2].dots  # simulated
    assert trade_off.candidates[2].hollow
    parity = document.figure("change-of-parity")
    assert isinstance(parity, DotPlot)
    assert [series.name for series in parity.series] == ["seed 0", "seed 1"]
    assert parity.rows == ("ptq int8", "ptq int2 (simulated)")
    moved = change.gaps["demographic_parity_difference"]
    assert parity.series[0].dots[0].value == pytest.approx(100 * moved.value)


def test_the_page_says_what_failed_and_links_every_row(study: StudyMaterial) -> None:
    contents = study_page(study)
    text = page.render(contents.document, title=contents.title, lead=contents.lead)
    assert "&lt;b&gt;broken&lt;/b&gt;" in text
    assert "made up" in text
    (cells,) = [sheet for sheet in contents.document.sheets if sheet.name == "cells"]
    assert len(cells.rows) == len(cells.sources) == 6
    assert all(cells.sources)
    assert len(contents.tables["study"].records.rows) == len(study.table)  # type: ignore[union-attr]
    assert len(SECTIONS) == 5


def test_the_page_answers_the_hypotheses_and_names_the_cells_that_it_used(study: StudyMaterial) -> None:
    renamed = study.table.assign(
        method=study.table["method"].replace("ptq", "ptq_static"), bits=study.table["bits"].replace(2, 4)
    )
    document = study_page(replace(study, table=renamed)).document
    sheets = {sheet.name: sheet for sheet in document.sheets}
    answers = answer_hypotheses(renamed)
    assert [row[0][:3] for row in sheets["hypotheses"].rows] == ["H1:", "H2:", "H3:", "H4:", "H5:", "H6:"]
    assert [row[1] for row in sheets["hypotheses"].rows] == [one.answer for one in answers.hypotheses]
    found = [dict(zip(sheets["claims"].names, row, strict=True)) for row in sheets["claims"].rows]
    claims = {row["claim"].partition(":")[0]: row for row in found}
    assert list(claims) == ["H1", "H2a", "H2b", "H3", "H4", "H5a", "H5b", "H6"]
    (eight,) = [one for one in answers.hypotheses[4].claims if one.claim.says.startswith("static PTQ to INT8")]
    assert claims["H5a"]["effect"].startswith(f"{eight.effect.value:+.2f} [")
    assert claims["H5a"]["cells used"] == "2"
    assert claims["H2a"]["effect"] == "undefined"
    assert "Not tested: H2a, H2b, H3, H4: the table has no such cells." in [
        note.text for note in sheets["claims"].notes
    ]
    used = {row[0]: row[1] for row in sheets["cells-of-claims"].rows}
    assert used == {"seed 0: ptq_static int8": "H5a", "seed 1: ptq_static int8": "H5a"}  # that of int2 is undefined
    warned = [one.text for one in document.sections if isinstance(one, Note) and one.warning]
    assert any("evidence about the pipeline" in text for text in warned)
    records = study_page(study).tables["all-hypotheses"].records
    assert records is not None
    assert len(records.rows) == 8


def test_a_card_says_from_which_study_it_was_chosen(hostile_workspace: Workspace, study: StudyMaterial) -> None:
    native = study.configurations[1]
    timed = study.table["measure"] == "latency_p50_ms"
    faster = timed & (study.table["cell"] == native.row["cell"])
    table = study.table.assign(value=study.table["value"].mask(timed, 1.0).mask(faster, 0.5))
    ((identity, text),) = study_cards(hostile_workspace, replace(study, table=table)).items()
    assert identity == native.row["artifact"]
    card = ModelCard(text, ignore_metadata_errors=False)
    assert f"the configuration {native.name} of the study s: of 6, one of those that no other one beats" in card.content
    assert "accuracy of the worst group and latency at p50, ms" in card.content
    assert "| H5: INT8" in card.content
    assert "## Limits of use" in card.content


def test_a_study_is_named_alone(hostile_workspace: Workspace, study: StudyMaterial, material: Material) -> None:
    assert page_of(hostile_workspace, [study.sources[0]]).entries == (study.sources[0],)
    assert page_of(hostile_workspace, ()).entries == material.roots
    with pytest.raises(InputError, match="a page of its own; name it alone"):
        page_of(hostile_workspace, [study.sources[0], material.roots[0]])


def test_a_table_alone_has_a_page(study: StudyMaterial, tmp_path: Path) -> None:
    write_table(study.table, tmp_path)
    contents = table_page(tmp_path / "study.parquet")
    whole = study_page(study)
    assert [figure.name for figure in contents.document.figures] == [one.name for one in whole.document.figures]
    assert (contents.entries, contents.cards) == ((), {})
    text = page.render(contents.document, title=contents.title, lead=contents.lead)
    assert "A table that was made elsewhere" in text
    assert 'href="#entry-' not in text
    with pytest.raises(InputError, match="check --table"):
        table_page(Path("nowhere.parquet"))
