"""On a real machine: ``pytest -m gpu``. Skipped elsewhere, with the reason; CI has never run them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from fqbench.backends.trt.options import TensorRtOptions

from fqbench.contracts.scheme import Scheme
from fqbench.errors import UnavailableError
from fqbench.testing.tiny_model import pictures
from tests.backends.trt.conftest import Make


def missing() -> str:
    """Why this machine cannot run these tests; empty where it can."""
    for name in ("tensorrt", "pycuda"):
        if importlib.util.find_spec(name) is None:
            return f"{name} is not installed"
    from fqbench.backends.trt.cuda import gpu

    try:
        gpu()
    except UnavailableError as error:
        return str(error)
    return ""


def only_pycuda() -> str:
    """Why the memory part cannot run: it needs a GPU and pycuda, and no TensorRT."""
    return "" if not missing() else ("" if missing().startswith("tensorrt") and _has_gpu() else missing())


def _has_gpu() -> bool:
    if importlib.util.find_spec("pycuda") is None:
        return False
    from fqbench.backends.trt.cuda import gpu

    try:
        gpu()
    except UnavailableError:
        return False
    return True


@pytest.mark.gpu
@pytest.mark.skipif(bool(only_pycuda()), reason=only_pycuda() or "ready")
def test_pinned_memory_goes_to_the_device_and_back() -> None:
    from fqbench.backends.trt.cuda import DeviceMemory, current

    memory = DeviceMemory()
    try:
        with current(memory.context):
            there, back = memory.host((4, 1024)), memory.host((4, 1024))
            buffer, stream = memory.device(there.nbytes), memory.cuda.Stream()
            there[:] = np.random.default_rng(0).normal(size=there.shape)
            begun, done = memory.cuda.Event(), memory.cuda.Event()
            begun.record(stream)
            memory.cuda.memcpy_htod_async(buffer, there, stream)
            memory.cuda.memcpy_dtoh_async(back, buffer, stream)
            done.record(stream)
            stream.synchronize()
            assert begun.time_till(done) > 0
            np.testing.assert_array_equal(back, there)
    finally:
        memory.close()


@pytest.mark.gpu
@pytest.mark.skipif(bool(missing()), reason=missing() or "ready")
@pytest.mark.parametrize("scheme", [Scheme.float32(), Scheme()], ids=["fp32", "int8"])
def test_an_engine_is_built_and_agrees_with_emulation(
    make: Make, backend: object, tmp_path: Path, scheme: Scheme
) -> None:
    artifact, out = make(scheme), tmp_path / "built"
    out.mkdir()
    backend.options = TensorRtOptions(max_batch=8)
    built = backend.build(artifact, out, device="cuda", source=None, timing_cache=None)
    session, images = backend.load(built, threads=1, device="cuda"), pictures(64, seed=3)
    answers, emulated = session.run(images), backend.emulate(artifact, threads=1).run(images)
    agreement = (answers.argmax(axis=1) == emulated.argmax(axis=1)).mean()
    assert agreement > 0.9
    assert set(session.phases()) == {"H2D", "compute", "D2H"}
    if scheme.bits == 8:
        assert session.arithmetic.integer_share > 0.5
    session.close()
