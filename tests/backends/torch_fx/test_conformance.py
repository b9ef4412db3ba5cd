from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fqbench.backends.ort.arithmetic import measure_arithmetic

from fqbench import plugins
from fqbench.contracts.artifacts import ExportedModel
from fqbench.contracts.scheme import Method, Scheme
from fqbench.plugins import Backend
from fqbench.testing.backend_suite import SCHEMES, BackendSuite
from fqbench.testing.sampling import sampled
from fqbench.testing.tiny_model import SIZE
from tests.backends.torch_fx.trained import network_folder, trained

NAME = "test_resnet"


class OnTorch(BackendSuite):
    """The suite on a network that torch knows."""

    @pytest.fixture
    def model(self, tmp_path: Path) -> ExportedModel:
        folder = tmp_path / "model"
        folder.mkdir()
        return trained(NAME, folder)

    @property
    def macs(self) -> int:  # type: ignore[override]
        path = network_folder(NAME) / "model.onnx"
        return measure_arithmetic(path, "CPUExecutionProvider", (3, SIZE, SIZE)).total_macs


class TestTorchFx(OnTorch):
    schemes = (*SCHEMES, Scheme(method=Method.QAT, bits=4), Scheme(method=Method.QAT, bits=2, act_bits=4))

    def backend(self) -> Backend:
        return plugins.backend("torch_fx")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="no C++ compiler is here")
class TestTorchCompile(OnTorch):
    schemes = tuple(
        sampled([Scheme.float32(), Scheme.cast("fp16"), Scheme(), Scheme.cast("bf16"), Scheme(bits=4)], 0.6)
    )

    def backend(self) -> Backend:
        return plugins.backend("torch_compile")
