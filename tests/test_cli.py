"""The command line as a user meets it: what goes to stdout, what to stderr, and the exit code of every mistake."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import Invoke, write_classifier, write_photos

MEAN_STD = ("--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25")


def left_behind(root: Path) -> list[str]:
    """Half-written directories anywhere below the workspace."""
    return [str(path) for path in root.rglob("*.partial")]


@pytest.fixture
def own(photos: Path, classifier: Path) -> tuple[str, ...]:
    return ("--data", "folder", "--root", str(photos), "--onnx", str(classifier), *MEAN_STD, "--calib-n", "16")


def test_the_main_job_on_ones_own_data(invoke: Invoke, own: tuple[str, ...]) -> None:
    code, out, err = invoke("quantize", "--backend", "ort", "--bits", 8, "--calib", "balanced", *own)
    assert code == 0, err
    assert out.startswith("artifacts/bright-ort-int8-balanced-")
    code, out, err = invoke("eval", *own, "--replicates", 200)
    assert code == 0, err
    assert "dark×old" in out
    code, out, err = invoke("bench", *own, "--rounds", 20, "--seconds", 0)
    assert code == 0, err
    assert "int8 MACs" in out


def test_json_is_all_that_stdout_holds(invoke: Invoke, own: tuple[str, ...]) -> None:
    _code, out, _err = invoke("quantize", *own, "--json")
    made = json.loads(out)
    assert made["kind"] == "artifacts"
    _code, out, _err = invoke("list", "--json")
    assert made["id"] in {entry["id"] for entry in json.loads(out)}
    _code, out, _err = invoke("show", made["id"], "--json")
    assert json.loads(out)["facts"]["support"] == "native"
    _code, out, _err = invoke("eval", *own, "--replicates", 200, "--json")
    assert {artifact["label"] for artifact in json.loads(out)["artifacts"]} == {"ort fp32", "ort int8/balanced"}
    _code, out, _err = invoke("doctor", "--json")
    assert {plugin["name"] for plugin in json.loads(out)["plugins"]} >= {"ort", "balanced", "random"}


TORCH = pytest.mark.skipif(find_spec("torch") is None, reason="the names of models are torch's libraries'")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("quantize", "--backend", "trtt"), 2, "unknown backend 'trtt'"),
        (("quantize", "--backend", "onnxrt"), 2, "unknown backend 'onnxrt'"),
        (("quantize", "--calib", "balancd"), 2, "unknown sampler 'balancd': did you mean 'balanced'?"),
        pytest.param(("train", "--model", "resnet5O"), 2, "'resnet5O': did you mean 'resnet5", marks=TORCH),
        (("quantize", "--data", "celebb"), 2, "unknown data set 'celebb'"),
        (("quantize", "--data", "folder"), 2, "add --root DIR"),
        (("quantize", "--root", "/nowhere"), 2, "--root does not apply to synthfaces"),
        (("quantize", "--bits", "3"), 2, "--bits"),
        (("quantize", "--bits", "eight"), 2, "--bits"),
        (("quantize", "--bitz", "8"), 2, "--bitz"),
        (("quantize", "--config", "missing.yaml"), 2, "missing.yaml cannot be read"),
        (("show", "nothing"), 2, "no entry 'nothing' in the workspace"),
        (("quantize", "--onnx", "missing.onnx"), 2, "no ONNX file missing.onnx"),
    ],
)
def test_a_mistake_is_one_sentence_and_an_exit_code(
    invoke: Invoke, tmp_path: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    got, out, err = invoke(*arguments, *(() if arguments[0] == "show" else ("--images", "40")))
    assert got == code, err
    assert message in err
    assert "Traceback" not in err
    assert not out
    assert not left_behind(tmp_path)


def test_a_traceback_only_where_asked_for(invoke: Invoke) -> None:
    _code, _out, err = invoke("show", "nothing", "--traceback")
    assert "Traceback" in err


def test_an_onnx_of_another_input_shape(invoke: Invoke, photos: Path, tmp_path: Path) -> None:
    other = write_classifier(tmp_path / "other.onnx")
    asked = ("quantize", "--data", "folder", "--root", photos, "--onnx", other, *MEAN_STD)
    code, _out, err = invoke(*asked, "--layout", "nhwc")
    assert (code, "takes (N, 3, 32, 32): add --layout nchw" in " ".join(err.split())) == (2, True), err
    assert not left_behind(tmp_path)


def test_a_missing_column_and_a_missing_file(invoke: Invoke, classifier: Path, tmp_path: Path) -> None:
    root = write_photos(tmp_path / "photos", 40)
    common = ("quantize", "--data", "folder", "--root", root, "--onnx", classifier, *MEAN_STD)
    code, _out, err = invoke(*common, "--label", "lable")
    assert (code, "lable" in err, "did you mean 'label'" in err) == (2, True, True), err
    (root / "images" / "0003.jpg").unlink()
    code, _out, err = invoke(*common)
    assert (code, "0003.jpg" in err) == (4, True), err
    assert not left_behind(tmp_path)


def test_truncated_jpegs_are_counted_or_refused(invoke: Invoke, classifier: Path, tmp_path: Path) -> None:
    root = write_photos(tmp_path / "photos", 120)
    common = ("quantize", "--data", "folder", "--root", root, "--onnx", classifier, *MEAN_STD, "--calib-n", 16)
    first = root / "images" / "0000.jpg"
    first.write_bytes(first.read_bytes()[:-300])
    code, _out, err = invoke(*common)
    assert code == 0, err
    assert "1 picture(s) cannot be decoded and are left out: images/0000.jpg" in " ".join(err.split())
    second = root / "images" / "0001.jpg"
    second.write_bytes(b"")
    code, _out, err = invoke(*common)
    assert (code, "2 of 120 pictures cannot be decoded, more than 1%" in err) == (4, True), err
    assert not left_behind(tmp_path)


def test_a_link_to_nowhere_is_left_out(invoke: Invoke, classifier: Path, tmp_path: Path) -> None:
    root = write_photos(tmp_path / "photos", 240)
    with (root / "metadata.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            folder = tmp_path / "classes" / row["split"] / row["label"]
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / row["file_name"], folder)
    link = tmp_path / "classes" / "test" / "no" / "gone.jpg"
    link.symlink_to(tmp_path / "nowhere.jpg")
    own = ("--data", "imagefolder", "--root", tmp_path / "classes", "--onnx", classifier, *MEAN_STD, "--calib-n", 16)
    code, _out, err = invoke("eval", *own, "--replicates", 200)
    assert code == 0, err
    assert "1 picture(s) cannot be decoded and are left out: test/no/gone.jpg" in " ".join(err.split())
    link.unlink()
    shutil.copy(root / "images" / "0000.jpg", link)
    code, _out, err = invoke("eval", *own, "--replicates", 200)
    assert (code, "left out" in err) == (0, False), err


def test_a_group_without_images_in_the_split(invoke: Invoke, classifier: Path, tmp_path: Path) -> None:
    root = write_photos(tmp_path / "photos", 120)
    table = (root / "metadata.csv").read_text().splitlines()
    kept = [row for row in table if not ("test" in row and row.endswith("dark,old"))]
    (root / "metadata.csv").write_text("\n".join(kept) + "\n")
    own = ("--data", "folder", "--root", root, "--onnx", classifier, *MEAN_STD, "--calib-n", 16)
    code, out, err = invoke("eval", *own, "--replicates", 200)
    assert code == 0, err
    assert "no images of dark×old: n = 0" in " ".join(out.split())
    code, out, err = invoke("eval", *own, "--by", "tone", "--replicates", 200)
    assert code == 0, err
    assert "dark" in out


def test_a_workspace_below_a_file(invoke: Invoke, own: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, _out, err = invoke("quantize", *own, "--workspace", tmp_path / "file" / "runs")
    assert (code, "cannot be written" in err, "--workspace" in err) == (2, True, True), err


def test_a_read_only_disk(
    invoke: Invoke, own: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(self: Path, *_args: object, **_options: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    code, _out, err = invoke("quantize", *own)
    assert (code, "Read-only file system" in err, "--workspace" in err) == (2, True, True), err
    assert not (tmp_path / "workspace").exists()


def test_without_torch_the_base_install_quantizes_and_measures(own: tuple[str, ...], tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    for name in ("torch", "torchvision", "timm", "accelerate", "safetensors", "onnxscript"):
        (blocked / name).mkdir(parents=True)
        (blocked / name / "__init__.py").write_text(
            f"raise ModuleNotFoundError('No module named {name}', name={name!r})\n"
        )
    environment = os.environ | {"PYTHONPATH": str(blocked), "FQBENCH_WORKSPACE": str(tmp_path / "runs")}

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "fqbench.cli", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, cwd=tmp_path)

    for arguments in (
        ("quantize", *own),
        ("eval", *own, "--replicates", "200"),
        ("bench", *own, "--rounds", "20", "--seconds", "0"),
    ):
        done = call(*arguments)
        assert done.returncode == 0, done.stderr
    for verb in ("list", "doctor"):
        assert call(verb).returncode == 0
    done = call("train", "--data", "folder", "--root", own[3])
    assert done.returncode == 3
    assert "pip install 'fqbench[train]'" in done.stderr


def test_no_color_is_honoured(own: tuple[str, ...], tmp_path: Path) -> None:
    script = shutil.which("fqbench", path=str(Path(sys.executable).parent))
    assert script is not None
    environment = os.environ | {"NO_COLOR": "1", "FORCE_COLOR": "1", "FQBENCH_WORKSPACE": str(tmp_path)}
    done = subprocess.run([script, "doctor"], capture_output=True, text=True, env=environment, check=True)
    assert "\x1b[3" not in done.stdout


def test_eval_writes_every_format(invoke: Invoke, own: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")  # bars are drawn where a table has room for them
    common = ("eval", *own, "--replicates", 200, "--by", "tone")
    _code, text, err = invoke(*common)
    assert "int8/balanced is equivalent to fp32 for" in " ".join(text.split()), err
    assert "█" in text
    _code, text, _err = invoke(*common, "--markdown")
    assert "| group | n |" in text
    assert text.count("|---") >= 3
    _code, text, _err = invoke(*common, "--latex")
    assert text.count("\\begin{tabular}") == text.count("\\end{tabular}") >= 3
    assert "×" not in text
    _code, text, _err = invoke(*common, "--csv")
    rows = list(csv.DictReader(text.splitlines()))
    assert {row["figure"] for row in rows} >= {
        "accuracy",
        "demographic_parity_difference",
        "change_of_accuracy",
        "flips",
    }
    assert all(row["artifact_id"] and row["predictions_id"] for row in rows)


def test_eval_by_feature_and_within_a_control_feature(invoke: Invoke, own: tuple[str, ...]) -> None:
    _code, out, _err = invoke("eval", *own, "--replicates", 200, "--no-intersect", "--json")
    assert [view["by"] for view in json.loads(out)] == [["tone"], ["age"]]
    _code, out, _err = invoke("eval", *own, "--replicates", 200, "--control", "age", "--json")
    views = json.loads(out)
    assert [(view["by"], view["subset"]) for view in views] == [(["tone"], "age=old"), (["tone"], "age=young")]
    assert sum(view["artifacts"][0]["report"]["overall"]["n"] for view in views) == 30


def test_predictions_made_elsewhere(invoke: Invoke, own: tuple[str, ...], tmp_path: Path) -> None:
    common = ("eval", *own, "--replicates", 200, "--by", "tone")
    invoke(*common)
    (parquet, *_others) = (tmp_path / "workspace" / "predictions").glob("*fp32*/predictions.parquet")
    table = pd.read_parquet(parquet)
    phone = tmp_path / "phone.csv"
    table.assign(prediction=["yes" if p else "no" for p in table["prediction"]])[["sample_id", "prediction"]].to_csv(
        phone, index=False
    )
    code, out, err = invoke(*common, "--predictions", phone, "--json")
    assert code == 0, err
    assert "largest logit" not in err
    artifacts = {one["label"]: one for one in json.loads(out)["artifacts"]}
    assert artifacts["phone"]["change"]["overall"]["flips"] == 0
    assert artifacts["phone"]["report"]["groups"] == artifacts["ort fp32"]["report"]["groups"]
    for spoilt, message in (
        (table.iloc[1:], "lacks 1 image(s)"),
        (pd.concat([table, table.iloc[:1]]), "two predictions for"),
        (table.assign(sample_id=table["sample_id"] + "x"), "lacks 30 image(s)"),
        (table.assign(prediction="maybe").drop(columns="logits"), "predicts 'maybe', which is not a class"),
    ):
        path = tmp_path / "spoilt.parquet"
        spoilt.to_parquet(path)
        code, _out, err = invoke(*common, "--predictions", path)
        assert (code, message in err) == (4, True), err
    table.drop(columns=["prediction", "logits"]).to_parquet(path)
    code, _out, err = invoke(*common, "--predictions", path)
    assert (code, "needs the columns sample_id and prediction (or logits)" in err) == (2, True), err


def test_logits_in_another_order_than_the_predictions(
    invoke: Invoke, own: tuple[str, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    common = ("eval", *own, "--replicates", 200, "--by", "tone")
    invoke(*common)
    (parquet, *_others) = (tmp_path / "workspace" / "predictions").glob("*fp32*/predictions.parquet")
    table = pd.read_parquet(parquet)
    table.assign(logits=[row[::-1] for row in table["logits"]]).to_parquet(tmp_path / "phone.parquet")
    code, _out, _err = invoke(*common, "--predictions", tmp_path / "phone.parquet")
    assert code == 0
    assert "not the class of the largest logit for 30 of 30 images; logits must be in the order no, yes" in caplog.text


def test_the_gate_passes_fails_and_writes_junit(invoke: Invoke, own: tuple[str, ...], tmp_path: Path) -> None:
    limits = tmp_path / "limits.yaml"
    common = ("gate", "--limits", limits, *own, "--replicates", 200, "--by", "tone", "--rounds", 20, "--seconds", 0)
    limits.write_text("limits: {max_mb: 100, min_accuracy: 0.5}")
    code, out, err = invoke(*common, "--junit", tmp_path / "gate.xml")
    assert (code, "the gate is passed" in out) == (0, True), out + err
    assert "<testsuite" in (tmp_path / "gate.xml").read_text()
    limits.write_text("limits: {max_mb: 0.0001}")
    code, out, err = invoke(*common)
    assert (code, "FAILED" in out) == (1, True), out + err
    limits.write_text("limits: {max_group_drop: 0.001}\nundecided: warn")
    code, out, err = invoke(*common)
    assert (code, "undecided" in out) == (0, True), out + err
    limits.write_text("limits: {max_group_drop: 0.001}")
    code, out, err = invoke(*common, "--json")
    assert (code, json.loads(out)["passed"]) == (1, False), out + err


def test_a_threshold_is_fitted_and_kept(invoke: Invoke, own: tuple[str, ...]) -> None:
    code, out, err = invoke("calibrate-threshold", *own, "--replicates", 200, "--by", "tone", "--json")
    assert code == 0, err
    labels = [one["label"] for one in json.loads(out)["artifacts"]]
    assert labels == ["ort fp32", "ort int8/balanced", "ort int8/balanced +threshold"]
    code, out, err = invoke(
        "calibrate-threshold", *own, "--replicates", 200, "--by", "tone", "--constraint", "demographic_parity"
    )
    assert code == 0, err
    code, _out, err = invoke("calibrate-threshold", *own, "--constraint", "parity")
    assert (code, "unknown constraint 'parity'" in err) == (2, True), err
    code, out, err = invoke("eval", *own, "--replicates", 200, "--by", "tone", "--threshold", 0.9, "--json")
    assert code == 0, err


def test_replicates_over_calibration_draws(invoke: Invoke, own: tuple[str, ...]) -> None:
    common = ("replicate", *own, "--draws", "0,1,2", "--calib", "random", "--by", "tone", "--replicates", 100)
    code, out, err = invoke(*common, "--json")
    assert code == 0, err
    result = json.loads(out)
    assert len(result["predictions"]) == 4
    assert [row["group"] for row in result["groups"]] == ["dark", "light", "all"]
    assert result["groups"][-1]["accuracy"]["draws"] == 3
    assert result["groups"][-1]["accuracy"]["sd_seeds"] is None
    code, out, err = invoke(*common)
    assert "fewer than three training seeds" in out, err
    code, _out, err = invoke("replicate", *own, "--seeds", "0,1")
    assert (code, "--onnx brings one that is trained" in err) == (2, True), err
    code, _out, err = invoke("replicate", *own, "--seeds", "0,0")
    assert (code, "--seeds takes different whole numbers" in err) == (2, True), err
