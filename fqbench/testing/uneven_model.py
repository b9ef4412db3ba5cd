"""A small depthwise network whose channels differ in size by factors, as ONNX: in float they do not matter."""

from __future__ import annotations

from pathlib import Path

import numpy as np

CHANNELS = 16
SIDE = 32


def write_uneven(path: Path, *, spread: float = 1.2) -> Path:
    """Write a classifier of bright and dark pictures: Conv, depthwise Conv and Conv, all with Relu.

    What the label depends on is in small channels, next to large ones: one range for all of them loses it.

    Parameters
    ----------
    path : Path
        File to write.
    spread : float
        Standard deviation of the logarithm of a channel's size.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(11)
    first, deep = (np.exp(np.sort(rng.normal(0, spread, CHANNELS))) for _ in range(2))
    stem = rng.normal(0, 0.2, (CHANNELS, 3, 3, 3))
    stem[:2] = np.array([1, -1]).reshape(2, 1, 1, 1) / 27  # the mean of the neighbourhood, above and below zero
    depthwise = np.abs(rng.normal(0.1, 0.05, (CHANNELS, 1, 3, 3)))
    mixed = rng.normal(0, 0.05, (CHANNELS, CHANNELS, 1, 1))
    mixed[:2] = 0
    mixed[0, 0] = mixed[1, 1] = 1
    head = np.zeros((CHANNELS, 2))
    head[:2] = [[-3, 3], [3, -3]]
    weights = {
        "stem.weight": stem * first.reshape(-1, 1, 1, 1),
        "deep.weight": depthwise / first.reshape(-1, 1, 1, 1) * deep.reshape(-1, 1, 1, 1),
        "wide.weight": mixed / deep.reshape(1, -1, 1, 1),
        "head.weight": head,
    }
    nodes = [
        helper.make_node("Conv", ["images", "stem.weight"], ["a"], "stem", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], "relu_1"),
        helper.make_node("Conv", ["b", "deep.weight"], ["c"], "deep", pads=[1, 1, 1, 1], group=CHANNELS),
        helper.make_node("Relu", ["c"], ["d"], "relu_2"),
        helper.make_node("Conv", ["d", "wide.weight"], ["e"], "wide"),
        helper.make_node("Relu", ["e"], ["f"], "relu_3"),
        helper.make_node("GlobalAveragePool", ["f"], ["g"], "pool"),
        helper.make_node("Flatten", ["g"], ["h"], "flatten"),
        helper.make_node("Gemm", ["h", "head.weight"], ["logits"], "classifier"),
    ]
    graph = helper.make_graph(
        nodes,
        "uneven",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path
