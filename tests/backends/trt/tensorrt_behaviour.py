"""What the double of TensorRT does inside: calibration, the parser's refusals, the engine inspector's answer."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any

import numpy as np
import onnx

from tests.backends.trt.world import World


class Calibrator:
    """Base of calibrators: its constructor has to be called by hand, as pybind asks for."""

    def __init__(self) -> None:
        self._ready = True


HEADERS = {
    "IInt8EntropyCalibrator2": "EntropyCalibration2",
    "IInt8MinMaxCalibrator": "MinMaxCalibration",
    "IInt8LegacyCalibrator": "LegacyCalibration",
}


def calibrate(world: World, calibrator: Any, profile: Any) -> None:
    """Calibrate as the builder does: a cache with the right first line, else batch after batch until there is none."""
    assert calibrator._ready, "the calibrator's base was not initialised"
    base = next(kind.__name__ for kind in type(calibrator).__mro__ if kind.__name__ in HEADERS)
    major, minor, patch = (int(part) for part in world.version.split("."))
    header = f"TRT-{major * 10_000 + minor * 100 + patch}-{HEADERS[base]}"
    shape = next(iter(profile._shapes.values()))[1]
    assert calibrator.get_batch_size() == shape[0], "the batch size is not that of the calibration profile"
    if base == "IInt8LegacyCalibrator":
        assert 0 < calibrator.get_quantile() <= 1, "no quantile"
        assert 0 < calibrator.get_regression_cutoff() <= 1, "no cutoff"
        assert calibrator.read_histogram_cache(0) is None, "no histogram was ever written"
    cache = calibrator.read_calibration_cache()
    if cache is not None and cache.decode().startswith(header + "\n"):
        world.note("calibrated from a cache")
        return
    while True:
        try:
            pointers = calibrator.get_batch(["images"])
        except Exception as error:  # the bindings print and go on as if there were no more images
            sys.stderr.write(f"[ERROR] Exception caught in get_batch(): {error}\n")
            break
        if not pointers:
            break
        assert [type(pointer) for pointer in pointers] == [int], "get_batch returns a list of ints"
        data = bytes(allocation(pointers[0])._data)
        assert len(data) == int(np.prod(shape)) * 4, "a batch of another size or type than the profile's"
        world.calibrated.append(np.frombuffer(data, np.float32).reshape(shape).copy())
    if base == "IInt8LegacyCalibrator":
        assert calibrator.write_histogram_cache(b"counts", 6) is None
        assert calibrator.read_histogram_cache(6) is None, "a histogram of other images"
    with contextlib.suppress(Exception):
        calibrator.write_calibration_cache(memoryview(f"{header}\nimages: 3c010a14\n".encode()))


def allocation(pointer: int) -> Any:
    """The device buffer of an address: the double's addresses are ids of live objects."""
    import ctypes

    return ctypes.cast(pointer, ctypes.py_object).value


def parser_errors(model: Any, error: Any) -> list[Any]:
    """Refuse what onnx-tensorrt refuses (``docs/operators.md``, ``QuantDequantLinearHelper``)."""
    from onnx import TensorProto, numpy_helper

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    found = []
    for number, node in enumerate(model.graph.node):
        if node.op_type not in {"QuantizeLinear", "DequantizeLinear"}:
            continue
        zero = constants.get(node.input[2]) if len(node.input) > 2 else None
        if zero is not None and zero.data_type == TensorProto.UINT8:
            found.append(error(node.op_type, node.name, number, "UINT8 is not supported"))
        elif zero is not None and numpy_helper.to_array(zero).astype(np.int64).any():
            found.append(error(node.op_type, node.name, number, "only symmetric quantization is supported"))
        stored = constants.get(node.input[0])
        if stored is not None and stored.data_type == TensorProto.INT32:
            found.append(error(node.op_type, node.name, number, "INT32 is not supported"))
    return found


def layers(engine: Any, batch: int, *, old: bool) -> str:
    """Write the engine inspector's answer for the Conv layers of a graph, in the form of the version."""
    graph = onnx.shape_inference.infer_shapes(engine._model).graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    producers = {node.output[0]: node for node in graph.node}
    shapes = {value.name: value.type.tensor_type.shape.dim for value in [*graph.value_info, *graph.output]}
    found = []

    def tensor(name: str, kind: str, dims: list[int]) -> dict[str, Any]:
        if old:
            return {"Name": name, "Dimensions": dims, "Format/Datatype": f"Row major linear {kind} format"}
        return {"Name": name, "Dimensions": dims, "Format": "kLINEAR", "DataType": kind}

    for node in graph.node:
        if node.op_type != "Conv":
            continue
        pair = producers.get(node.input[1])
        weight = constants[pair.input[0] if pair is not None else node.input[1]]
        kind = "Int8" if pair is not None else "Float"
        dims = [batch, *(dim.dim_value for dim in list(shapes[node.output[0]])[1:])]
        found.append(
            {
                "Name": node.name,
                "LayerType": "CaskConvolution",
                "Inputs": [tensor(node.input[0], kind, [batch, *weight.dims[1:2], 1, 1])],
                "Outputs": [tensor(node.output[0], "Float", dims)],
                "ParameterType": "Convolution",
                "Weights": {"Type": kind, "Count": int(np.prod(weight.dims))},
            }
        )
    ends = {"Bindings": [engine._input, engine._output]} if old else {"I/O Tensors": [{"Name": engine._input}]}
    return json.dumps({"Layers": found, **ends})
