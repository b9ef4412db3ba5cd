"""The integer share, against multiply-accumulates counted by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from fqbench.backends.ort.arithmetic import Profiled, count_macs, measure_arithmetic
from onnx import TensorProto, helper, numpy_helper

from fqbench.run import Run
from fqbench.stages.quantize import quantize, reference

CPU = "CPUExecutionProvider"
# The tiny classifier at 32x32: two 3x3 convolutions and a linear layer.
CONV_1, CONV_2, LINEAR = 8 * 32 * 32 * 3 * 9, 8 * 32 * 32 * 8 * 9, 8 * 2


def test_fp32_has_no_integer_macs(make_run: Callable[..., Run]) -> None:
    artifact = reference(make_run())
    arithmetic = measure_arithmetic(artifact.main_file, CPU, (3, 32, 32))
    assert arithmetic.integer_macs == 0
    assert arithmetic.total_macs >= CONV_1 + CONV_2 + LINEAR  # blocked layouts pad channels


def test_static_int8_is_all_integer_and_counted_exactly(make_run: Callable[..., Run]) -> None:
    artifact = quantize(make_run())
    arithmetic = measure_arithmetic(artifact.main_file, CPU, (3, 32, 32))
    assert (arithmetic.integer_macs, arithmetic.total_macs) == (CONV_1 + CONV_2 + LINEAR,) * 2
    assert arithmetic.integer_share == 1.0


def test_a_convolution_left_in_float_lowers_the_share(make_run: Callable[..., Run], tmp_path: Path) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = iter([np.zeros((1, 3, 32, 32), np.float32), np.ones((1, 3, 32, 32), np.float32)])

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.batches, None)
            return None if batch is None else {"images": batch}

    source = reference(make_run()).main_file
    mixed = tmp_path / "mixed.onnx"
    quantize_static(str(source), str(mixed), Reader(), quant_format=QuantFormat.QDQ, nodes_to_exclude=["stem"])
    arithmetic = measure_arithmetic(mixed, CPU, (3, 32, 32))
    assert arithmetic.integer_macs == CONV_2 + LINEAR
    assert 0 < arithmetic.integer_share < (CONV_2 + LINEAR) / (CONV_1 + CONV_2 + LINEAR) + 1e-9


def test_a_batched_matmul_without_weights(tmp_path: Path) -> None:
    """Attention scores: the inner size comes from the profiled shape, not from an initializer."""
    nodes = [
        helper.make_node("Reshape", ["images", "shape"], ["tokens"], name="reshape"),
        helper.make_node("Transpose", ["tokens"], ["turned"], perm=[0, 2, 1], name="turn"),
        helper.make_node("MatMul", ["tokens", "turned"], ["logits"], name="scores"),
    ]
    graph = helper.make_graph(
        nodes,
        "scores",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3, 3])],
        [numpy_helper.from_array(np.array([0, 3, 64]), "shape")],
    )
    path = tmp_path / "scores.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    assert measure_arithmetic(path, CPU, (3, 8, 8)).total_macs == 3 * 3 * 64


@pytest.mark.parametrize("operator", ["Attention", "LSTM", "Einsum"])
def test_what_cannot_be_counted_is_named(operator: str) -> None:
    node = helper.make_node(operator, ["x"], ["y"], name="opaque")
    graph = helper.make_graph([node], "opaque", [], [], [])
    assert count_macs(graph, {}).uncounted == (operator,)


def test_a_kernel_that_was_not_profiled_is_named() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="missing")
    graph = helper.make_graph([node], "g", [], [], [numpy_helper.from_array(np.ones((1, 1, 3, 3), np.float32), "w")])
    assert count_macs(graph, {}).uncounted == ("Conv",)


def test_what_falls_back_to_the_cpu_and_what_runs_in_half_is_counted() -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], [name], name=name) for name in ("here", "back")]
    graph = helper.make_graph(nodes, "g", [], [], [numpy_helper.from_array(np.ones((1, 1, 3, 3), np.float16), "w")])
    profiled = {
        "here": Profiled([1, 1, 4, 4], [1, 1, 2, 2], "float16", "CUDAExecutionProvider"),
        "back": Profiled([1, 1, 3, 3], [1, 1, 1, 1], "float", CPU),
    }
    found = count_macs(graph, profiled, "CUDAExecutionProvider")
    assert (found.total_macs, found.half_macs, found.fallback_macs) == (45, 36, 9)
    assert found.fallback_share == pytest.approx(0.2)
