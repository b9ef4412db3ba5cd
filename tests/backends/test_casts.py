"""Casts: loaded only where kernels compute in the type, and refused in one sentence where none does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fqbench import plugins
from fqbench.contracts.artifacts import Artifact
from fqbench.contracts.scheme import Scheme
from fqbench.errors import SchemeNotSupported, UnavailableError
from fqbench.machine import this_machine
from fqbench.testing.planned import write_artifact
from fqbench.testing.tiny_model import MACS, onnxruntime_logits, pictures, tiny_model

HAS_BF16 = any(name in this_machine().features for name in ("avx512_bf16", "amx_bf16"))


def cast(backend: str, precision: Any, folder: Path) -> Artifact:
    for name in ("model", "out"):
        (folder / name).mkdir()
    return write_artifact(
        plugins.backend(backend), tiny_model(folder / "model"), Scheme.cast(precision), folder / "out"
    )


@pytest.mark.skipif(not HAS_BF16, reason="this CPU has no bf16 instructions")
def test_openvino_computes_in_bf16(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    session = plugins.backend("openvino").load(cast("openvino", "bf16", tmp_path), threads=1, device="cpu")
    assert session.arithmetic.half_macs == session.arithmetic.total_macs == MACS
    images = pictures(64, seed=2)
    expected = onnxruntime_logits(tmp_path / "model" / "model.onnx", images)
    difference = float(np.abs(session.run(images) - expected).max())
    assert 1e-3 < difference / float(np.abs(expected).max()) < 0.05, "FP32 would be closer, and an error farther off"


@pytest.mark.skipif("avx512_fp16" in this_machine().features, reason="this CPU has fp16 instructions")
def test_openvino_without_fp16_kernels_is_refused_and_not_run_in_another_type(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    with pytest.raises(
        UnavailableError, match=r"no fp16 kernels for this CPU: its executed graph computes in (bf16|fp32)"
    ):
        plugins.backend("openvino").load(cast("openvino", "fp16", tmp_path), threads=1, device="cpu")


def test_openvino_without_bf16_instructions_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without them it executes float32, and its graph says so."""
    pytest.importorskip("openvino", reason="openvino is not installed")
    from fqbench.backends.openvino import session

    monkeypatch.setattr(session, "float_precisions", lambda _compiled: frozenset({"fp32"}))
    with pytest.raises(UnavailableError, match=r"no bf16 kernels for this CPU.*computes in fp32 instead") as said:
        plugins.backend("openvino").load(cast("openvino", "bf16", tmp_path), threads=1, device="cpu")
    assert said.value.exit_code == 3


@pytest.mark.parametrize(("precision", "named"), [("bf16", "avx512_bf16, amx_bf16"), ("fp16", "avx512_fp16, amx_fp16")])
def test_torch_on_a_cpu_without_the_instructions_is_refused(
    precision: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from fqbench.backends.torch_fx import casting

    monkeypatch.setattr(casting, "this_machine", lambda: replace(this_machine(), features=("avx2", "avx512f")))
    with pytest.raises(UnavailableError, match=rf"no {precision} instructions \({named}.*compute in float32") as said:
        casting.cast(torch.nn.Linear(2, 2), precision)
    assert said.value.exit_code == 3


def test_onnx_runtimes_cpu_provider_widens_fp16_and_is_refused(tmp_path: Path) -> None:
    artifact = cast("ort", "fp16", tmp_path)
    if this_machine().system.endswith(("aarch64", "arm64")):
        pytest.skip("its kernels for ARM compute in fp16")
    with pytest.raises(
        UnavailableError, match=r"CPUExecutionProvider has no fp16 kernels here.*float32 instead"
    ) as said:
        plugins.backend("ort").load(artifact, threads=1, device="cpu")
    assert said.value.exit_code == 3


def test_bf16_in_onnx_is_refused_with_the_nearest(tmp_path: Path) -> None:
    for name in ("ort", "trt"):
        with pytest.raises(SchemeNotSupported, match="cast to fp16, not to bf16; try --precision fp16"):
            write_artifact(plugins.backend(name), tiny_model(tmp_path), Scheme.cast("bf16"), tmp_path)


def test_tensorrts_cast_is_emulated_by_rounding_and_its_size_is_that_of_fp16(tmp_path: Path) -> None:
    artifact = cast("trt", "fp16", tmp_path)
    emulator = plugins.backend("trt").abilities.emulator
    assert emulator is not None
    images = pictures(16, seed=4)
    expected = onnxruntime_logits(tmp_path / "model" / "model.onnx", images)
    difference = float(np.abs(emulator.emulate(artifact, threads=1).run(images) - expected).max())
    assert 0 < difference < 0.01 * float(np.abs(expected).max())
    assert artifact.size_on_disk < 0.75 * (tmp_path / "model" / "model.onnx").stat().st_size


def test_a_gpu_that_is_not_here_is_refused(tmp_path: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    (tmp_path / "model").mkdir()
    artifact = write_artifact(plugins.backend("ort"), tiny_model(tmp_path / "model"), Scheme.float32(), tmp_path)
    with pytest.raises(UnavailableError, match=r"no CUDAExecutionProvider.*fqbench\[ort-gpu\]") as said:
        plugins.backend("ort").load(artifact, threads=1, device="cuda")
    assert said.value.exit_code == 3


def test_a_provider_that_falls_back_as_a_whole_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build for CUDA without a driver opens a session all the same, on the CPU."""
    import onnxruntime

    (tmp_path / "model").mkdir()
    artifact = write_artifact(plugins.backend("ort"), tiny_model(tmp_path / "model"), Scheme.float32(), tmp_path)
    cpu_only = SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_given, **_options: cpu_only)
    with pytest.raises(UnavailableError, match="would fall back to the CPU"):
        plugins.backend("ort").load(artifact, threads=1, device="cuda")
