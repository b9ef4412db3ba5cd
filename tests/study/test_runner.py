"""A study that runs: one table, nothing made twice; neither a failed cell nor a full disk loses anything."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fqbench.cli import main
from fqbench.errors import DataError, InputError, WorkspaceError
from fqbench.run import Run
from fqbench.stages.evaluate import open_evaluations
from fqbench.study import tasks
from fqbench.study.executors.serial import Serial
from fqbench.study.opening import open_study, open_table
from fqbench.study.runner import StudyResult, run_study, study_status
from fqbench.study.table import COLUMNS, CSV, KEY, PARQUET, VERSION, read_table, write_parquet, write_table
from fqbench.workspace import Workspace
from fqbench.workspace.kinds import EVALUATIONS

Write = Callable[..., Path]


def ran(run: Run, file: Path) -> StudyResult:
    study, cells = open_study(run, file)
    return run_study(run, study, cells, Serial())


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(workspace=Workspace(tmp_path / "runs"))


def created(run: Run) -> dict[str, str]:
    return {entry.id: entry.manifest.created for entry in run.workspace.entries()}


def test_the_table_has_a_row_per_cell_group_and_measure(run: Run, write_study: Write) -> None:
    result = ran(run, write_study(latency=True))
    table = read_table(result.table.file(PARQUET))
    assert list(table.columns) == list(COLUMNS)
    assert not table.duplicated(list(KEY)).any()
    assert result.failed == {}
    assert set(table["cell"]) == {cell.id for cell in result.cells}
    assert set(table.loc[table["measure"] == "accuracy", "group"]) == {"light", "dark", "all"}
    static = table[(table["method"] == "ptq_static") & (table["bits"] == 4)]
    entry = run.workspace.get(static.loc[static["measure"] == "accuracy", "source"].iloc[0], EVALUATIONS)
    expected = open_evaluations(entry)[0].artifacts[-1]
    dark = static[(static["measure"] == "accuracy") & (static["group"] == "dark")].iloc[0]
    accuracy = expected.report.row("dark").accuracy
    assert (dark["value"], dark["low"], dark["high"], dark["n"]) == (
        accuracy.value,
        accuracy.low,
        accuracy.high,
        accuracy.n,
    )
    assert (dark["artifact"], dark["predictions"]) == (expected.id, expected.predictions_id)
    change = static[static["measure"] == "demographic_parity_difference_change"].iloc[0]
    assert expected.change is not None
    assert change["value"] == expected.change.gaps["demographic_parity_difference"].value
    assert change["verdict"] in {"equivalent", "different", "undecided"}
    timed = set(table.loc[table["timed"], "measure"])
    assert timed >= {"latency_p50_ms", "speedup", "making_seconds"}
    assert not timed & {"accuracy", "size_bytes", "integer_share"}


def test_a_second_run_makes_nothing_and_gives_the_same_table(run: Run, write_study: Write) -> None:
    file = write_study()
    first = ran(run, file)
    before = created(run)
    second = ran(Run(workspace=run.workspace), file)
    assert created(run) == before
    assert second.table.id == first.table.id


def test_a_failed_cell_is_recorded_and_the_others_go_on(run: Run, write_study: Write) -> None:
    broken = {"name": "broken", "quantize": {"keep_float": ["no_such_layer"]}}
    file = write_study(grid={"methods": ["ptq_static", broken], "bits": [8]}, exclude=[])
    result = ran(run, file)
    (reason,) = result.failed.values()
    assert result.exit_code == InputError.exit_code
    assert "no_such_layer" in reason.reason
    study, cells = open_study(run, file)
    states = {one.cell.coordinates.method: one.state for one in study_status(run, study, cells).cells}
    assert states == {"fp32": "done", "ptq_static": "done", "broken": "failed"}
    entry, table = open_table(run, study, cells)
    assert set(table["method"]) == {"fp32", "ptq_static"}
    assert "no_such_layer" in next(iter(entry.facts.failed.values()))


def test_a_study_without_a_finished_cell_ends_with_the_code_of_its_reason(run: Run, write_study: Write) -> None:
    file = write_study(config={"eval": {"by": ["tones"]}})
    with pytest.raises(DataError, match=r"has no finished cell: .* no sensitive feature 'tones'") as caught:
        ran(run, file)
    assert caught.value.exit_code == InputError.exit_code


def test_a_bug_in_one_cell_is_recorded_and_tried_again(
    run: Run, write_study: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, make = write_study(), tasks.make_answers

    def fails(run: Run, cell: object, **threads: object) -> object:
        if "int4" in cell.name:  # type: ignore[attr-defined]
            raise ZeroDivisionError("in the middle")
        return make(run, cell, **threads)  # type: ignore[arg-type]

    monkeypatch.setattr(tasks, "make_answers", fails)
    result = ran(run, file)
    assert [one.reason for one in result.failed.values()] == ["ZeroDivisionError: in the middle"]
    assert result.exit_code == tasks.BUG
    monkeypatch.setattr(tasks, "make_answers", make)
    assert ran(run, file).failed == {}
    study, cells = open_study(run, file)
    assert {one.state for one in study_status(run, study, cells).cells} == {"done"}


def test_a_full_disk_stops_the_study_and_loses_nothing(
    run: Run, write_study: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, make = write_study(), tasks.make_answers

    def full(run: Run, cell: object, **threads: object) -> object:
        if "int4" in cell.name:  # type: ignore[attr-defined]
            raise WorkspaceError("the workspace cannot be written (No space left on device)")
        return make(run, cell, **threads)  # type: ignore[arg-type]

    monkeypatch.setattr(tasks, "make_answers", full)
    with pytest.raises(WorkspaceError, match="No space left"):
        ran(run, file)
    kept = created(run)
    monkeypatch.setattr(tasks, "make_answers", make)
    ran(run, file)
    now = created(run)
    assert {name: now[name] for name in kept} == kept


def test_nothing_done_is_said(run: Run, write_study: Write) -> None:
    study, cells = open_study(run, write_study())
    assert {one.state for one in study_status(run, study, cells).cells} == {"waiting"}
    with pytest.raises(DataError, match="has no finished cell: none has been made yet"):
        open_table(run, study, cells)


def test_a_table_of_another_version_is_refused(
    run: Run, write_study: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = read_table(ran(run, write_study()).table.file(PARQUET))
    write_table(table, tmp_path)
    assert read_table(tmp_path / PARQUET).equals(table)
    assert (tmp_path / CSV).read_text(encoding="utf-8").startswith("study,cell,phase")
    monkeypatch.setattr("fqbench.study.table.VERSION", VERSION + 1)
    with pytest.raises(DataError, match="of another version of fqbench"):
        read_table(tmp_path / PARQUET)
    table[["cell", "value"]].to_parquet(tmp_path / "other.parquet")
    with pytest.raises(DataError, match="is not the table of a study"):
        read_table(tmp_path / "other.parquet")
    (tmp_path / "text.parquet").write_text("no", encoding="utf-8")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read_table(tmp_path / "text.parquet")


def test_the_command_line(write_study: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, workspace = write_study(), ["--workspace", str(tmp_path / "cli")]

    def call(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as caught:
            main(["study", *arguments, *workspace])
        return int(caught.value.code or 0), capsys.readouterr().out

    code, text = call("run", str(file), "--dry-run", "--json")
    planned = json.loads(text)
    assert code == 0
    assert not list((tmp_path / "cli").glob("*/*/manifest.json"))
    code, text = call("run", str(file), "--json")
    assert code == 0
    assert {row["cell"] for row in json.loads(text)["rows"]} == {cell["id"] for cell in planned["cells"]}
    code, text = call("status", str(file))
    assert code == 0
    assert "4 done." in text
    code, text = call("report", str(file), "--out", str(tmp_path / "out"))
    assert code == 0
    assert (tmp_path / "out" / PARQUET).is_file()
    assert "photos bright seed 0 ort ptq_static int4" in " ".join(text.split())
    code, text = call("report", "--table", str(tmp_path / "out" / PARQUET), "--hypotheses", "--json")
    assert code == 0
    assert [one["answer"] for one in json.loads(text)["hypotheses"]] == ["undecided"] * 6  # one seed, one model
    assert call("report")[0] == 2
    assert call("report", "--table", "nowhere.parquet")[0] == 2
    (tmp_path / "other.parquet").write_bytes((tmp_path / "out" / CSV).read_bytes())
    assert call("report", "--table", str(tmp_path / "other.parquet"))[0] == 4
    table = read_table(tmp_path / "out" / PARQUET)
    write_parquet(table, tmp_path / "renamed.parquet")
    assert f"{len(table)} rows in {tmp_path / 'renamed.parquet'}; docs" in " ".join(
        call("report", "--table", str(tmp_path / "renamed.parquet"))[1].split()
    )
    write_parquet(table.iloc[:0], tmp_path / "nothing.parquet")
    assert call("report", "--table", str(tmp_path / "nothing.parquet"), "--hypotheses")[0] == 4
