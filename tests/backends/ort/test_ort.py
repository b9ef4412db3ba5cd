"""ONNX Runtime's backend beyond the conformance suite: external weights, and layers that stay in float."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from fqbench import plugins
from fqbench.contracts.scheme import Method, Override, Scheme
from fqbench.run import Run
from fqbench.stages.export import export
from fqbench.storage import file_digest
from fqbench.testing.planned import write_artifact
from fqbench.testing.tiny_model import calibration_set, tiny_model
from fqbench.testing.uneven_model import CHANNELS, SIDE, write_uneven


def test_external_data_come_along_and_dynamic_int8_reads_them(make_run: Callable[..., Run], tmp_path: Path) -> None:
    model = export(make_run())
    beside = tmp_path / "external" / "model.onnx"
    beside.parent.mkdir()
    onnx.save(
        onnx.load(model.path),
        beside,
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location="model.onnx.data",
        size_threshold=0,
    )
    external = replace(model, path=beside)
    backend = plugins.backend("ort")
    images = np.random.default_rng(0).standard_normal((3, *model.input_shape)).astype(np.float32)
    answers = {}
    for name, source in (("inline", model), ("beside", external)):
        out = tmp_path / name
        out.mkdir()
        artifact = backend.quantize(source, Scheme.float32(), None, out)
        answers[name] = backend.load(artifact, threads=1, device="cpu").run(images)
        assert artifact.size_on_disk == sum(path.stat().st_size for path in out.iterdir())
    np.testing.assert_array_equal(answers["inline"], answers["beside"])
    out = tmp_path / "dynamic"
    out.mkdir()
    artifact = write_artifact(backend, external, Scheme(method=Method.PTQ_DYNAMIC, range_rule="none"), out)
    assert backend.load(artifact, threads=1, device="cpu").run(images).shape == (3, 2)


def test_a_layer_between_quantized_ones_stays_in_float(tmp_path: Path) -> None:
    """onnxruntime would quantize its weight when the model is loaded, by a scale of its own."""
    path = write_uneven(tmp_path / "uneven.onnx")
    (tmp_path / "tiny").mkdir()
    model = replace(tiny_model(tmp_path / "tiny"), path=path, digest=file_digest(path), classes=("no", "yes"))
    backend, counts = plugins.backend("ort"), []
    for number, overrides in enumerate(((), (Override(name="wide", quantize=False),))):
        out = tmp_path / str(number)
        out.mkdir()
        artifact = write_artifact(backend, model, Scheme(overrides=overrides), out, calibration_set())
        counts.append(backend.load(artifact, threads=1, device="cpu").arithmetic)
    assert counts[0].integer_macs == counts[0].total_macs
    assert counts[1].total_macs - counts[1].integer_macs == CHANNELS * CHANNELS * SIDE * SIDE
