"""The doubles in place of the libraries, and an INT8 artifact of the tiny model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from fqbench.contracts.artifacts import Artifact, ExportedModel
from fqbench.contracts.scheme import Scheme
from fqbench.testing.planned import write_artifact
from fqbench.testing.tiny_model import calibration_set, tiny_model
from tests.backends.trt.cuda_double import make_pycuda
from tests.backends.trt.tensorrt_double import make_tensorrt
from tests.backends.trt.world import World

Make = Callable[..., Artifact]


@pytest.fixture
def backend() -> object:
    from fqbench.plugins import backend as find

    return find("trt")


@pytest.fixture
def model(tmp_path: Path) -> ExportedModel:
    folder = tmp_path / "model"
    folder.mkdir()
    return tiny_model(folder)


@pytest.fixture
def make(tmp_path: Path, model: ExportedModel, backend: object) -> Make:
    """Quantize the tiny model into a new folder."""

    def quantize(scheme: Scheme | None = None, **fields: object) -> Artifact:
        wanted = scheme or Scheme(**fields)
        out = tmp_path / f"artifact{len(list(tmp_path.iterdir()))}"
        out.mkdir()
        chosen = calibration_set() if wanted.needs_calibration else None
        return write_artifact(backend, model, wanted, out, chosen)

    return quantize


@pytest.fixture(params=["10.16.1", "11.1.0"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def world(version: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """TensorRT and pycuda as doubles; afterwards nothing may be left on the device."""
    world = World(version=version)
    install(world, monkeypatch)
    yield world
    import gc

    gc.collect()  # a session that nobody holds any more frees its memory
    world.assert_clean()


def install(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    package = ModuleType("pycuda")
    package.driver = make_pycuda(world)
    for name, module in (("tensorrt", make_tensorrt(world)), ("pycuda", package), ("pycuda.driver", package.driver)):
        monkeypatch.setitem(sys.modules, name, module)
