"""What belongs to what: other classes are refused, other data are said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fqbench.errors import InputError
from fqbench.provenance import preprocessing_differences, require_same_classes
from fqbench.report.evaluation import evaluation_document
from fqbench.report.renderers.text import lines
from fqbench.run import Run
from fqbench.stages.evaluate import evaluate
from fqbench.stages.export import export
from fqbench.stages.predict import predict_split
from fqbench.stages.quantize import quantize, reference
from fqbench.stages.read import read, read_entry
from fqbench.workspace import MANIFEST
from tests.conftest import write_photos

MakeRun = Callable[..., Run]


def test_data_of_other_classes_are_refused_with_both_lists(make_run: MakeRun) -> None:
    run = make_run()
    artifact = reference(run)
    with pytest.raises(InputError, match=r"predicts \[no, yes\], .*synthfaces has the classes \[.*smiling\]; choose"):
        predict_split(run.with_options("data", name="synthfaces", root=None, images=60, size=32), artifact)


def test_the_order_of_the_classes_counts(make_run: MakeRun) -> None:
    run = make_run()
    samples = read(run)
    require_same_classes(export(run), samples)
    turned = type(samples)(**{**vars(samples), "classes": samples.classes[::-1]})
    with pytest.raises(InputError, match=r"\[no, yes\].*\[yes, no\]"):
        require_same_classes(export(run), turned)


def test_other_data_of_the_same_classes_are_said_in_the_report(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    artifacts = [reference(run), quantize(run)]
    assert evaluate(run, artifacts).notes == ()
    other = write_photos(tmp_path / "others", 160, seed=5)
    evaluation = evaluate(run.with_options("data", root=other), artifacts)
    (note,) = evaluation.notes
    assert note.startswith(f"{artifacts[1].id} was made with: folder ")
    assert str(other) in note
    shown = " ".join(line for line, _style in lines(evaluation_document(evaluation), 400))
    assert note in shown


def test_data_that_another_version_wrote_are_said_and_do_not_stop_an_evaluation(
    make_run: MakeRun, tmp_path: Path
) -> None:
    run = make_run()
    artifacts = [reference(run), quantize(run)]
    entry = read_entry(run)
    older = entry.manifest.model_copy(update={"stage_version": entry.manifest.stage_version - 1})
    (entry.path / MANIFEST).write_bytes(older.sealed())
    fresh = Run(run.config, run.workspace).with_options("data", root=write_photos(tmp_path / "others", 160, seed=5))
    (note,) = evaluate(fresh, artifacts).notes
    assert f"was made with {entry.id} of another version of fqbench" in note


def test_preprocessing_that_is_asked_for_and_not_used_is_said(make_run: MakeRun) -> None:
    run = make_run()
    model = export(run)
    assert preprocessing_differences(model, run.config.preprocessing) == ()
    asked = run.with_options("preprocessing", crop=0.5).config.preprocessing
    (note,) = preprocessing_differences(model, asked)
    assert "crop 1.0, which is used instead of 0.5" in note
