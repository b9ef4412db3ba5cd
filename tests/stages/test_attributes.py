"""Several attributes from one prediction run: adopted, quantized, evaluated, timed and gated."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from fqbench.config import configure
from fqbench.contracts.artifacts import Artifact
from fqbench.contracts.task import PredictionTask
from fqbench.errors import InputError
from fqbench.fairness.attributes import attribute_rows
from fqbench.fairness.hypothesis_tests import adjust
from fqbench.report.attributes import attributes_document
from fqbench.run import Run
from fqbench.stages.bench import bench
from fqbench.stages.evaluate import evaluate, evaluate_views
from fqbench.stages.export import export
from fqbench.stages.gate import gate
from fqbench.stages.quantize import quantize, reference
from fqbench.stages.read import read
from fqbench.stages.replicate import replicate
from fqbench.stages.threshold import calibrate_threshold
from fqbench.workspace import Workspace
from fqbench.workspace.kinds import ARTIFACTS, MODELS, PREDICTIONS
from tests.models.adopt.network import ATTRIBUTES, Written, pictures, write

FLAGS = Written().flags
Make = Callable[..., Run]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures with four attributes and a side, and the network that answers all four."""
    root = tmp_path_factory.mktemp("attributes")
    pixels, attributes = pictures(280, seed=11)
    (root / "images").mkdir()
    with (root / "metadata.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file_name", "split", *ATTRIBUTES, "side"])
        for index, (picture, row) in enumerate(zip(pixels, attributes, strict=True)):
            Image.fromarray(picture).save(root / f"images/{index:04d}.png")
            split = "train" if index < 40 else ("val" if index < 100 else "test")
            yes = [("no", "yes")[value] for value in row]
            table.writerow([f"images/{index:04d}.png", split, *yes, ("left", "right")[index % 2]])
    write(root / "network.onnx", Written(head="attributes"))
    return root


@pytest.fixture(scope="module")
def make(root: Path) -> Make:
    def made(**flags: Any) -> Run:
        asked = {"onnx": root / "network.onnx", "sensitive": "side", "calib_n": 16, "replicates": 100} | FLAGS | flags
        return Run(configure(data="folder", root=root, **asked), Workspace(root / "workspace"))

    return made


def artifacts(run: Run) -> list[Artifact]:
    return [reference(run), quantize(run)]


def test_each_attribute_is_evaluated_as_if_it_were_alone(make: Make) -> None:
    """The same figures as one label and its one output give, but for p-values, which are corrected over all."""
    run = make(column="bright=1,young=2", range_rule="mse", bias_correction="off")
    found = evaluate_views(run, artifacts(run))
    assert [one.attribute for one in found] == ["bright", "young"]
    for one, column in zip(found, ("bright=1", "young=2"), strict=True):
        alone = make(column=column, range_rule="mse", bias_correction="off")
        assert read(alone).task is PredictionTask.CLASSES
        (expected,) = evaluate_views(alone, artifacts(alone))
        assert expected.attribute == ""
        fp32, other = one.artifacts[0], expected.artifacts[0]
        assert fp32.report.to_json() == other.report.to_json()
        np.testing.assert_allclose(
            [row.auc.value for row in fp32.scores], [row.auc.value for row in other.scores], atol=1e-6
        )


def test_the_images_are_run_once_for_all_attributes(make: Make) -> None:
    run = make(column="wide=0,bright=1,young=2,plain=3")
    made = artifacts(run)
    before = {entry.id for entry in run.workspace.entries(PREDICTIONS)}
    evaluate_views(run, made)
    entries = [entry for entry in run.workspace.entries(PREDICTIONS) if entry.id not in before]
    assert len(entries) == len(made)


def test_p_values_are_corrected_over_all_attributes(make: Make) -> None:
    run = make(column="wide=0,bright=1,young=2,plain=3", bits=4, act_bits=8, rounding="nearest")
    for correction in ("holm", "benjamini-hochberg"):
        found = evaluate_views(run.with_options("eval", correction=correction), artifacts(run))
        changes = [one.artifacts[1].change for one in found]
        rows = [row for change in changes if change for row in change.groups]
        expected = adjust([row.mcnemar_p for row in rows], correction)  # type: ignore[arg-type]
        np.testing.assert_allclose([row.mcnemar_p_adjusted for row in rows], expected)
        table = attribute_rows(found)
        np.testing.assert_allclose([row.p_adjusted for row in table], adjust([row.p for row in table], correction))  # type: ignore[arg-type]
        for row, change in zip(table, changes, strict=True):
            assert change is not None
            assert row.worst_accuracy is not None
            assert row.worst_accuracy.value == min(one.accuracy.value for one in change.groups)


def test_a_names_file_leaves_the_sensitive_features_out(make: Make, root: Path) -> None:
    names = root / "names.txt"
    names.write_text("\n".join(ATTRIBUTES))
    run = make(column=names, sensitive="side,plain")
    assert read(run).classes == ("wide", "bright", "young")
    model = run.workspace.get(export(run).id, MODELS).facts
    assert model.classes == ("wide", "bright", "young")
    assert model.task is PredictionTask.ATTRIBUTES
    with pytest.raises(InputError, match="plain is both an attribute to predict and a sensitive feature"):
        read(make(column="wide=0,plain=3", sensitive="side,plain"))


def test_the_choice_looks_at_all_attributes(make: Make) -> None:
    artifact = quantize(make(column="bright=1,young=2"))
    assert artifact.task is PredictionTask.ATTRIBUTES
    tried = make().workspace.get(artifact.id, ARTIFACTS).facts.choice["tried"]
    assert len(tried) > 1
    assert all(0 <= one["kl_divergence"] < 1 and 0.5 < one["agreement"] <= 1 for one in tried)


def test_gate_and_latency_take_every_attribute(make: Make, root: Path) -> None:
    run = make(column="bright=1,young=2", rounds=20, seconds=0.0)
    limits = root / "limits.yaml"
    limits.write_text("limits: {min_accuracy: 0.5, max_group_drop: 0.5}\n")
    report = gate(run, limits)
    assert {check.limit for check in report.checks} >= {"bright: min_accuracy", "young: max_group_drop left"}
    assert report.passed
    for subject in bench(run, artifacts(run)).subjects:
        assert subject.answers is not None
        assert subject.answers.disagreements == 0


def test_the_document_has_a_row_per_attribute(make: Make) -> None:
    run = make(column="bright=1,young=2")
    found = evaluate_views(run, artifacts(run))
    document = attributes_document(found, ["young"])
    table = next(sheet for sheet in document.sheets if "all attributes" in sheet.title)
    assert [row[0] for row in table.rows] == ["bright", "young", "mean of 2"]
    assert any("rates per group" in sheet.title for sheet in document.sheets)
    assert [row["attribute"] for row in document.value["attributes"][0]["rows"]] == ["bright", "young"]
    assert document.records is not None
    assert {row[0] for row in document.records.rows} == {"bright", "young"}
    with pytest.raises(InputError, match="no attribute 'yung' for --attribute: did you mean 'young'"):
        attributes_document(found, ["yung"])


def test_predictions_of_other_programs(make: Make, tmp_path: Path) -> None:
    run = make(column="bright=1,young=2")
    frame = read(run).split("test")
    targets = read(run).targets(frame)
    lines = ["sample_id,bright,young"]
    lines += [f"{name},{bright},{young}" for name, (bright, young) in zip(frame["sample_id"], targets, strict=True)]
    (tmp_path / "right.csv").write_text("\n".join(lines))
    found = evaluate_views(run, [reference(run)], files=[tmp_path / "right.csv"])
    assert [one.artifacts[1].report.overall.accuracy.value for one in found] == [1.0, 1.0]
    (tmp_path / "half.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines))
    with pytest.raises(InputError, match="needs the columns sample_id and young"):
        evaluate_views(run, [reference(run)], files=[tmp_path / "half.csv"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"label": "wide,bright"}, r"has 4 output\(s\), but the data have 2 attributes .*; add --column wide=N"),
        ({"column": "bright=1,young=4"}, r"young=4: .*network\.onnx has the outputs 0 to 3 only"),
        ({"column": "bright=1", "label": "bright,young"}, "does not say which output of .* is 'young'"),
        ({"column": "bright=1,young=1"}, "gives output 1 to bright and young"),
        ({"column": "bright=1,young=-1"}, "greater than or equal to 0"),
        ({"column": "bright=1,young=2", "positive": "yes"}, "--positive is for one label"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(make: Make, flags: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate_views(run := make(**flags), [reference(run)])


def test_what_needs_one_label_says_so(make: Make) -> None:
    run = make(column="bright=1,young=2")
    for verb in (
        lambda: replicate(run, (), (0, 1)),
        lambda: calibrate_threshold(run, None, None),
        lambda: evaluate(run, [reference(run)]),
    ):
        with pytest.raises(InputError, match=r"needs one label per image.*choose one of them with --label"):
            verb()


def test_a_softmax_has_no_attributes(make: Make, root: Path) -> None:
    write(root / "softmax.onnx", Written(head="softmax"))
    run = make(onnx=root / "softmax.onnx", label="bright,young")
    with pytest.raises(InputError, match="ends in a softmax over its 2 outputs"):
        export(run)


def test_hidden_probabilities_are_seen(make: Make, root: Path) -> None:
    """A sigmoid that is spelt with other operators still gives probabilities, whose logits are taken."""
    model = onnx.load(root / "network.onnx")
    node = model.graph.node[-1]
    assert node.op_type == "Sigmoid"
    half = helper.make_tensor("half", TensorProto.FLOAT, [], [0.5])
    model.graph.initializer.append(half)
    (logits,), (output,) = node.input, node.output
    spelt = [
        helper.make_node("Mul", [logits, "half"], ["scaled"]),
        helper.make_node("Tanh", ["scaled"], ["bent"]),
        helper.make_node("Mul", ["bent", "half"], ["small"]),
        helper.make_node("Add", ["small", "half"], [output]),
    ]
    del model.graph.node[-1]
    model.graph.node.extend(spelt)
    onnx.save(model, root / "spelt.onnx")
    run, plain = make(onnx=root / "spelt.onnx", column="bright=1,young=2"), make(column="bright=1,young=2")
    found, expected = (evaluate_views(one, [reference(one)]) for one in (run, plain))
    for one, other in zip(found, expected, strict=True):
        assert one.artifacts[0].report.to_json() == other.artifacts[0].report.to_json()
    assert "probabilities" in re.sub(r"\s+", " ", run.workspace.get(export(run).id, MODELS).facts.adoption.head)  # type: ignore[union-attr]
