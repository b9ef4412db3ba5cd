"""One trained network, written in the many ways in which people write ONNX.

It tells red pictures from blue ones, so that swapped channels, a wrong scale or a wrong layout change its answers. Its
weights come from least squares on random features: numpy trains it, the same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIZE = 32
MEAN, STD = (0.45, 0.5, 0.55), (0.25, 0.2, 0.3)
ATTRIBUTES = ("wide", "bright", "young", "plain")
FEATURES = 16


def pictures(count: int, *, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw pictures, uint8 (count, 32, 32, 3), and four attributes of each: the second is whether red beats blue."""
    rng = np.random.default_rng(seed)
    attributes = rng.integers(0, 2, (count, len(ATTRIBUTES)))
    level = np.full((count, SIZE, SIZE, 3), 110.0)
    level[..., 0] += np.where(attributes[:, 1], 14, -14)[:, None, None]
    level[..., 2] -= np.where(attributes[:, 1], 14, -14)[:, None, None]
    level[:, :, ::4] += np.where(attributes[:, 0], 30, 0)[:, None, None, None]
    level[:, ::4] += np.where(attributes[:, 2], 30, 0)[:, None, None, None]
    level[..., 1] += np.where(attributes[:, 3], 22, -22)[:, None, None]
    noisy = level + rng.normal(0, 35, level.shape) + rng.normal(0, 12, (count, 1, 1, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8), attributes.astype(np.int64)


@dataclass(frozen=True)
class Written:
    """How the network is written.

    Attributes
    ----------
    opset : int
        Of the file.
    layout : str
        ``nchw`` or ``nhwc``.
    head : str
        ``logits``, ``softmax``, ``one-logit``, ``sigmoid``; or four attributes: ``attributes`` (sigmoids),
        ``attribute-logits``, or ``attribute-heads`` (a dense layer and a sigmoid for each, joined at the end).
    batch : int or None
        Fixed, or None for a free one.
    preprocessing : str
        ``outside``, ``bgr255`` (BGR from 0 to 255, normalized outside), or ``inside`` the graph.
    dtype : str
        ``float32``, ``float16`` or (with preprocessing inside) ``uint8`` input.
    """

    opset: int = 21
    layout: str = "nchw"
    head: str = "logits"
    batch: int | None = None
    preprocessing: str = "outside"
    dtype: str = "float32"
    side: int | None = SIZE

    @property
    def flags(self) -> dict[str, Any]:
        """Options that say what the file takes."""
        flags: dict[str, Any] = {"layout": self.layout}
        if self.preprocessing == "outside":
            flags |= {"mean": MEAN, "std": STD}
        elif self.preprocessing == "bgr255":
            scaled = {"mean": tuple(255 * m for m in MEAN[::-1]), "std": tuple(255 * s for s in STD[::-1])}
            flags |= {"channels": "bgr", "scale_pixels": 255, **scaled}
        else:
            flags |= {"mean": "none", "scale_pixels": None if self.dtype == "uint8" else 255}
        if self.side is None:
            flags["size"] = SIZE
        return flags


@cache
def trained() -> dict[str, NDArray[np.float32]]:
    """Return the weights; the four rows of the head answer the four attributes."""
    rng = np.random.default_rng(3)
    weights = {
        "stem": rng.normal(0, 0.35, (8, 3, 3, 3)).astype(np.float32),
        "scale": rng.uniform(0.6, 1.4, 8).astype(np.float32),
        "shift": rng.normal(0, 0.2, 8).astype(np.float32),
        "mean": rng.normal(0, 0.2, 8).astype(np.float32),
        "variance": rng.uniform(0.5, 1.5, 8).astype(np.float32),
        "middle": rng.normal(0, 0.2, (FEATURES, 8, 3, 3)).astype(np.float32),
    }
    seen, attributes = pictures(600, seed=1)
    images = (seen / 255.0 - MEAN) / STD
    features = _features(weights, images.transpose(0, 3, 1, 2).astype(np.float32))
    table = np.column_stack([features, np.ones(len(features))])
    target = attributes * 6.0 - 3.0
    solved = np.linalg.solve(table.T @ table + 1e-3 * np.eye(table.shape[1]), table.T @ target)
    weights["head"], weights["bias"] = solved[:-1].T.astype(np.float32), solved[-1].astype(np.float32)
    return weights


def reference(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the four logits of pictures, computed from the plain form of the network."""
    path_free = write_bytes(Written(head="attribute-logits"))
    import onnxruntime

    images = ((pixels / 255.0 - MEAN) / STD).transpose(0, 3, 1, 2).astype(np.float32)
    session = onnxruntime.InferenceSession(path_free, providers=["CPUExecutionProvider"])
    logits: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: images})[0]
    return logits


def _features(weights: dict[str, NDArray[np.float32]], images: NDArray[np.float32]) -> NDArray[np.float32]:
    import onnxruntime
    from onnx import helper

    graph = _graph(Written(), weights | {"head": np.zeros((4, FEATURES), np.float32), "bias": np.zeros(4, np.float32)})
    graph.output[0].name = "pooled.flat"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    features: NDArray[np.float32] = session.run(None, {"picture": images})[0]
    return features


def write(path: Path, how: Written) -> Path:
    """Write the network, and return the path."""
    path.write_bytes(write_bytes(how))
    return path


def write_bytes(how: Written) -> bytes:
    """Return the network as a file's content."""
    import onnx
    from onnx import helper

    graph = _graph(how, trained())
    ir = 4 if how.opset < 13 else (8 if how.opset < 19 else 10)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", how.opset)], ir_version=ir)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def _graph(how: Written, weights: dict[str, NDArray[np.float32]]) -> Any:
    from onnx import TensorProto, helper

    builder = _Builder(how)
    name = builder.start()
    for key in ("stem", "scale", "shift", "mean", "variance", "middle"):
        builder.weight(key, weights[key])
    name = builder.node("Conv", [name, "stem"], pads=[1, 1, 1, 1], kernel_shape=[3, 3])
    name = builder.node("BatchNormalization", [name, "scale", "shift", "mean", "variance"])
    name = builder.clip(name)
    name = builder.node("Conv", [name, "middle"], pads=[1, 1, 1, 1], strides=[2, 2], kernel_shape=[3, 3])
    name = builder.node("Relu", [name])
    name = builder.pool(name)
    name = builder.flatten(name)
    name = builder.head(name, weights)
    kinds = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}
    side = how.side or "side"
    batch = how.batch or "N"
    shape = [batch, 3, side, side] if how.layout == "nchw" else [batch, side, side, 3]
    given = [helper.make_tensor_value_info("picture", kinds[how.dtype], shape)]
    return helper.make_graph(
        builder.nodes,
        "written",
        given,
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, None])],
        builder.constants,
    )


class _Builder:
    """Writes nodes as the exporters of that opset did."""

    def __init__(self, how: Written) -> None:
        self.how = how
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def node(self, operator: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        from onnx import helper

        output = output or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def weight(self, name: str, values: NDArray[Any]) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.asarray(values, order="C"), name))
        return name

    def start(self) -> str:
        """Write what stands before the first convolution: casts, preprocessing, layout."""
        from onnx import TensorProto

        name = "picture"
        if self.how.dtype != "float32":
            name = self.node("Cast", [name], to=TensorProto.FLOAT)
        nhwc = self.how.layout == "nhwc"
        if self.how.preprocessing == "inside":
            shape = (1, 1, 1, 3) if nhwc else (1, 3, 1, 1)
            mean = self.weight("inside.mean", np.array([255 * m for m in MEAN], np.float32).reshape(shape))
            std = self.weight("inside.std", np.array([255 * s for s in STD], np.float32).reshape(shape))
            name = self.node("Div", [self.node("Sub", [name, mean]), std])
        if self.how.preprocessing == "bgr255":
            order = self.weight("order", np.array([2, 1, 0], np.int64))
            name = self.node("Gather", [name, order], axis=3 if nhwc else 1)
        return self.node("Transpose", [name], perm=[0, 3, 1, 2]) if nhwc else name

    def clip(self, name: str) -> str:
        if self.how.opset < 11:
            return self.node("Clip", [name], min=0.0, max=6.0)
        limits = [self.weight("low", np.array(0, np.float32)), self.weight("high", np.array(6, np.float32))]
        return self.node("Clip", [name, *limits])

    def pool(self, name: str) -> str:
        if self.how.opset < 18:
            return self.node("ReduceMean", [name], axes=[2, 3], keepdims=1)
        return self.node("ReduceMean", [name, self.weight("axes", np.array([2, 3], np.int64))], keepdims=1)

    def flatten(self, name: str) -> str:
        """Flatten as torch does where the batch is fixed, and through a Shape where it is free."""
        if self.how.batch:
            shape = self.weight("shape", np.array([self.how.batch, FEATURES], np.int64))
            return self.node("Reshape", [name, shape], "pooled.flat")
        first = self.weight("first", np.array(0, np.int64))
        size = self.node("Gather", [self.node("Shape", [name]), first], axis=0)
        if self.how.opset < 13:
            size = self.node("Unsqueeze", [size], axes=[0])
        else:
            size = self.node("Unsqueeze", [size, self.weight("zero", np.array([0], np.int64))])
        rest = self.weight("rest", np.array([-1], np.int64))
        shape = self.node("Concat", [size, rest], axis=0)
        return self.node("Reshape", [name, shape], "pooled.flat")

    def heads(self, name: str, weights: dict[str, NDArray[np.float32]]) -> str:
        """Write a dense layer and a sigmoid per attribute, as models with several outputs are merged."""
        ends = []
        for index in range(len(ATTRIBUTES)):
            head = self.weight(f"head{index}", weights["head"][index : index + 1].T)
            bias = self.weight(f"bias{index}", weights["bias"][index : index + 1])
            if self.how.opset < 13:
                logit = self.node("Add", [self.node("MatMul", [name, head]), bias])
            else:
                logit = self.node("Gemm", [name, head, bias])
            ends.append(self.node("Sigmoid", [logit]))
        return self.node("Concat", ends, axis=1)

    def head(self, name: str, weights: dict[str, NDArray[np.float32]]) -> str:
        if self.how.head == "attribute-heads":
            return self.heads(name, weights)
        head, bias = weights["head"], weights["bias"]
        rows = {
            "attributes": head,
            "attribute-logits": head,
            "one-logit": head[1:2],
            "sigmoid": head[1:2],
        }.get(self.how.head, np.stack([-head[1] / 2, head[1] / 2]))
        shifts = {
            "attributes": bias,
            "attribute-logits": bias,
            "one-logit": bias[1:2],
            "sigmoid": bias[1:2],
        }.get(self.how.head, np.stack([-bias[1] / 2, bias[1] / 2]))
        self.weight("head", rows.T)
        self.weight("bias", shifts)
        if self.how.opset < 13:  # keras2onnx and tf2onnx wrote dense layers as a MatMul and an Add
            name = self.node("Add", [self.node("MatMul", [name, "head"]), "bias"])
        else:
            name = self.node("Gemm", [name, "head", "bias"])
        if self.how.head == "softmax":
            return self.node("Softmax", [name], axis=1)
        return self.node("Sigmoid", [name]) if self.how.head in {"sigmoid", "attributes"} else name
