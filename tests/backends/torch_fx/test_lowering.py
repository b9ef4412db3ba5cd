"""Quantization written out in operators: the same answers as fake quantization, and no rounding that nobody reads."""

from __future__ import annotations

import platform
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from fqbench.backends.torch_fx import storage
from fqbench.backends.torch_fx.fake_quantize import ActivationFakeQuantize
from fqbench.backends.torch_fx.lowering import (
    INTEGER,
    ClippedActivation,
    IntegerLayer,
    RoundedActivation,
    need_patterns,
    written_out,
)
from torch import nn

from fqbench import plugins
from fqbench.contracts.artifacts import Artifact, ExportedModel
from fqbench.contracts.qparams import QParams
from fqbench.contracts.scheme import Method, Scheme
from fqbench.errors import SchemeNotSupported, UnavailableError
from fqbench.testing.planned import write_artifact
from fqbench.testing.tiny_model import calibration_set, pictures
from tests.backends.torch_fx.trained import trained


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    (tmp_path / "model").mkdir()
    (tmp_path / "out").mkdir()
    model = trained("test_resnet", tmp_path / "model")
    return write_artifact(plugins.backend("torch_compile"), model, Scheme(), tmp_path / "out", calibration_set())


def test_artifacts_are_those_of_torch_fx(artifact: Artifact, tmp_path: Path) -> None:
    (tmp_path / "fx").mkdir()
    model = trained("test_resnet", tmp_path / "model")
    theirs = write_artifact(plugins.backend("torch_fx"), model, Scheme(), tmp_path / "fx", calibration_set())
    assert artifact.label == "torch_compile int8"
    assert theirs.files == artifact.files
    for file in artifact.files:
        assert (artifact.root / file).read_bytes() == (theirs.root / file).read_bytes()


def test_written_out_it_answers_nearly_as_with_fake_quantization(artifact: Artifact) -> None:
    stored = storage.read_stored(artifact.root)
    images = torch.from_numpy(pictures(64, seed=3))
    fake, _scales = storage.read(stored, artifact.root)
    fake.observe(False)
    fake.round(True)
    network = written_out(*storage.read(stored, artifact.root), learned=True)
    with torch.inference_mode():
        expected, found = fake.module(images).numpy(), network(images).numpy()
    assert (expected.argmax(axis=1) == found.argmax(axis=1)).mean() >= 0.95
    assert np.abs(expected - found).max() < 0.1 * np.abs(expected).max()


@pytest.mark.parametrize("learned", [True, False])
def test_only_what_a_layer_reads_is_rounded(artifact: Artifact, learned: bool) -> None:
    prepared, scales = storage.read(storage.read_stored(artifact.root), artifact.root)
    before, layers = len(prepared.sites), len(prepared.weighted)
    network = written_out(prepared, scales, learned=learned)
    parts = list(network.modules())
    rounded = sum(isinstance(part, RoundedActivation) for part in parts)
    clipped = sum(isinstance(part, ClippedActivation) for part in parts)
    assert 0 < rounded < before
    assert rounded + clipped == (before if learned else rounded)
    assert sum(isinstance(part, IntegerLayer) for part in parts) == layers
    assert not any(isinstance(part, ActivationFakeQuantize) for part in parts)
    readers = {str(node.target): node.args[0] for node in network.graph.nodes if node.op == "call_module"}
    for path, given in readers.items():
        if isinstance(network.get_submodule(path), (IntegerLayer, nn.Sequential)):
            assert isinstance(network.get_submodule(str(given.target)), (RoundedActivation, nn.Flatten)), path


@pytest.mark.parametrize("layer", [nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), nn.Linear(5, 3, bias=False)])
def test_an_integer_layer_is_the_layer(layer: nn.Module) -> None:
    scale = torch.full((len(layer.weight),), 0.01)  # type: ignore[arg-type]
    with torch.no_grad():
        layer.weight.copy_(torch.round(layer.weight * 100) / 100)  # type: ignore[union-attr, operator]
        given = torch.randn(2, 4, 9, 9) if isinstance(layer, nn.Conv2d) else torch.randn(2, 5)
        torch.testing.assert_close(IntegerLayer(layer, scale)(given), layer(given), rtol=1e-5, atol=1e-6)


def test_a_rounded_activation_is_on_the_levels() -> None:
    grid = QParams(0.1, 30, 8)
    values = RoundedActivation(grid)(torch.linspace(-10, 30, 100))
    torch.testing.assert_close(values, torch.clamp(torch.round(torch.linspace(-10, 30, 100) / 0.1), -30, 225) * 0.1)


def test_a_clipped_activation_keeps_its_values_and_its_ends() -> None:
    grid = QParams(0.1, 30, 8)
    values = ClippedActivation(grid)(torch.linspace(-10, 30, 100))
    torch.testing.assert_close(values, torch.clamp(torch.linspace(-10, 30, 100), -3.0, 22.5))


def test_without_the_patterns_it_says_what_to_install(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao", None)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    with pytest.raises(UnavailableError, match=r"torchao is not installed.*fqbench\[inductor\]"):
        plugins.backend("torch_compile").load(artifact, threads=1, device="cpu")


def test_another_cpu_is_told_what_runs_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(UnavailableError, match=r"aarch64.*--backend torch_fx"):
        need_patterns()


@pytest.mark.parametrize("scheme", [Scheme(bits=4, act_bits=4), Scheme(method=Method.PTQ_DYNAMIC)])
def test_what_it_cannot_run_is_refused_with_a_way_on(scheme: Scheme, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    model: ExportedModel = trained("test_resnet", tmp_path / "model")
    with pytest.raises(SchemeNotSupported, match="torch_compile cannot run"):
        write_artifact(plugins.backend("torch_compile"), model, scheme, tmp_path, calibration_set())


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="no C++ compiler is here")
def test_every_call_runs_in_integer_kernels(artifact: Artifact) -> None:
    session = plugins.backend("torch_compile").load(artifact, threads=1, device="cpu")
    layers = len(storage.read(storage.read_stored(artifact.root), artifact.root)[1])
    for images in (pictures(1, seed=0), pictures(3, seed=1), pictures(1, seed=2)):
        session.run(images)
        with torch.autograd.profiler.profile() as profile:
            session.run(images)
        names = [str(event.name) for event in profile.function_events or ()]
        assert sum(name.startswith(INTEGER) for name in names) == layers
    assert session.arithmetic.integer_share == 1.0


def test_what_torch_deprecates_is_imported_in_one_module() -> None:
    from fqbench.backends import torch_fx

    folder = Path(str(torch_fx.__file__)).parent
    lines = [(path.name, line) for path in folder.glob("*.py") for line in path.read_text().splitlines()]
    importing = {name for name, line in lines if line.lstrip().startswith(("from torch.ao", "import torch.ao"))}
    assert importing == {"deprecated.py"}
