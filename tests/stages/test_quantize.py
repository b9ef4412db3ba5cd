"""The way from a folder and an ONNX file to artifacts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from fqbench.catalogue import artifacts
from fqbench.errors import DataError, PluginError, SchemeNotSupported
from fqbench.run import Run
from fqbench.stages.quantize import quantize, reference

MakeRun = Callable[..., Run]


def test_a_fresh_workspace_gets_all_earlier_stages(make_run: MakeRun) -> None:
    run = make_run()
    artifact = quantize(run)
    assert artifact.label == "ort int8/balanced"
    kinds = {entry.manifest.kind for entry in run.workspace.entries()}
    assert kinds == {"samples", "prepared", "models", "calibrations", "records", "artifacts"}


def test_a_used_workspace_makes_nothing_again(make_run: MakeRun) -> None:
    first = quantize(make_run())
    before = make_run().workspace.entries()
    assert quantize(make_run()).digest == first.digest
    assert [entry.id for entry in make_run().workspace.entries()] == [entry.id for entry in before]


def test_the_same_inputs_give_the_same_bytes(make_run: MakeRun, tmp_path_factory: pytest.TempPathFactory) -> None:
    from fqbench.workspace import Workspace

    one = make_run()
    other = Run(one.config, Workspace(tmp_path_factory.mktemp("other")))
    assert quantize(one).main_file.read_bytes() == quantize(other).main_file.read_bytes()


@pytest.mark.parametrize(
    ("flag", "value"), [("calib", "random"), ("calib_seed", 1), ("calib_n", 12), ("method", "ptq_dynamic")]
)
def test_what_determines_an_artifact_changes_its_id(make_run: MakeRun, flag: str, value: object) -> None:
    assert quantize(make_run()).id != quantize(make_run(**{flag: value})).id


def test_fp32_is_an_artifact_and_comes_first(make_run: MakeRun) -> None:
    run = make_run()
    quantize(run)
    baseline = reference(run)
    assert baseline.label == "ort fp32"
    assert [artifact.scheme.label for artifact in artifacts(run.workspace)] == ["fp32", "int8"]


def test_static_quantization_is_signed_per_channel_and_unsigned_activations(make_run: MakeRun) -> None:
    model = onnx.load(quantize(make_run()).main_file)
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    weights = [tensor for name, tensor in initializers.items() if name.endswith("_quantized") and len(tensor.dims) == 4]
    assert len(weights) == 2
    assert {tensor.data_type for tensor in weights} == {onnx.TensorProto.INT8}
    scales = [initializers[tensor.name.replace("_quantized", "_scale")] for tensor in weights]
    assert {tuple(scale.dims) for scale in scales} == {(8,)}
    activations = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    zero_points = {initializers[node.input[2]].data_type for node in activations}
    assert zero_points == {onnx.TensorProto.UINT8}


def test_the_manifest_holds_what_the_artifact_came_from(make_run: MakeRun) -> None:
    run = make_run()
    manifest = run.workspace.get(quantize(run).id).manifest
    assert manifest.inputs.keys() == {"model", "calibration", "record"}
    assert manifest.facts["groups"] == {"dark×old": 4, "dark×young": 4, "light×old": 4, "light×young": 4}
    assert manifest.config["quantize"]["calib"] == "balanced"
    assert "onnxruntime" in manifest.versions


@pytest.mark.parametrize(
    ("flags", "error", "message"),
    [
        ({"backend": "ortt"}, PluginError, "unknown backend 'ortt': did you mean 'ort'"),
        ({"backend": "tensorflow"}, PluginError, "unknown backend 'tensorflow'"),
        ({"calib": "ballanced"}, PluginError, "unknown sampler 'ballanced': did you mean 'balanced'"),
        ({"act_bits": 32}, SchemeNotSupported, "ort cannot run int8a32"),
        ({"calib": "random", "calib_n": 61}, DataError, "61 calibration images were asked for and there are 60"),
    ],
)
def test_a_wrong_wish_is_one_sentence(make_run: MakeRun, flags: dict, error: type[Exception], message: str) -> None:
    run = make_run(**flags)
    with pytest.raises(error, match=message):
        quantize(run)
    assert not run.workspace.entries("artifacts")


def test_balanced_repeats_images_only_in_groups_that_are_too_small(make_run: MakeRun) -> None:
    from fqbench.stages.export import export
    from fqbench.stages.sample import sample

    run = make_run(calib_n=80)
    chosen, _entry = sample(run, export(run))
    assert set(chosen.group_counts.values()) == {20}
    assert sum(chosen.repeats.values()) == 80 - 60
    assert np.concatenate(list(chosen.batches(32))).shape == (80, 3, 32, 32)


def test_another_version_of_the_plugin_makes_another_artifact(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backend whose author mended it does not serve what it wrote before."""
    run = make_run(range_rule="minmax", bias_correction="off")
    before = quantize(run)
    monkeypatch.setattr("fqbench.plugins.distribution", lambda _group, name: f"{name} 2.0")
    assert quantize(run).id != before.id
