"""A tiny convolutional classifier as ONNX, pictures for it, and a calibration set: drawn from a seed, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.config import Preprocessing
from fqbench.contracts.artifacts import ExportedModel
from fqbench.quant.calibration import CalibrationSet
from fqbench.storage import text_digest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fqbench.contracts.qat_parameters import QatParameters
    from fqbench.contracts.scheme import Scheme

SIZE = 32
CLASSES = ("red", "green", "blue", "grey")
OPSET = 21
WIDTHS = (16, 32)
# Of one image: two 3x3 convolutions at 16x16 and 8x8, and the classifier.
MACS = 3 * WIDTHS[0] * 9 * 16 * 16 + WIDTHS[0] * WIDTHS[1] * 9 * 8 * 8 + WIDTHS[1] * len(CLASSES)


def tiny_model(folder: Path) -> ExportedModel:
    """Write ``model.onnx`` into ``folder``: input "images" (N, 3, 32, 32), output "logits" (N, 4), opset 21."""
    path = folder / "model.onnx"
    path.write_bytes(_model_bytes())
    return ExportedModel(
        id="tiny",
        name="tiny",
        path=path,
        digest=text_digest(_model_bytes()),
        classes=CLASSES,
        preprocessing=Preprocessing(size=SIZE),
    )


def pictures(n: int, seed: int) -> NDArray[np.float32]:
    """Draw ``n`` normalized pictures (n, 3, 32, 32): a tinted ground, a brighter patch and some noise."""
    generator = np.random.default_rng(seed)
    ground = generator.normal(0, 1.0, size=(n, 3, 1, 1))
    images = ground + generator.normal(0, 0.2, size=(n, 3, SIZE, SIZE))
    for image, (top, left) in zip(images, generator.integers(0, SIZE // 2, size=(n, 2)), strict=True):
        image[:, top : top + SIZE // 2, left : left + SIZE // 2] += generator.normal(0, 1.0, size=(3, 1, 1))
    return images.astype(np.float32)


def calibration_set(n: int = 32, seed: int = 1, images: Any = None) -> CalibrationSet:
    """Return ``n`` pictures of two groups as a calibration set; ``images`` replaces where they come from."""
    import pandas as pd

    frame = pd.DataFrame(
        {
            "sample_id": [f"{number:04d}" for number in range(n)],
            "group": ["dark" if i % 4 else "light" for i in range(n)],
        }
    )
    source = Pictures(pictures(n, seed)) if images is None else images
    return CalibrationSet(sampler="random", frame=frame, images=source, rows=np.arange(n, dtype=np.int64))


def learned_scales(model: ExportedModel, scheme: Scheme, *, symmetric: bool = False) -> QatParameters:
    """Return scales for the suite's model as quantization-aware training would leave them: here, observed ones."""
    from fqbench.contracts.qat_parameters import QatParameters
    from fqbench.contracts.qparams import QParams
    from fqbench.contracts.scheme import Scheme
    from fqbench.quant.graph import cleaned
    from fqbench.quant.ranges import tensor_ranges
    from fqbench.quant.weights import scales, weights_of

    ranges = tensor_ranges(model, Scheme(), calibration_set()).by_name
    grids = {name: QParams.of(*ends, scheme.act_bits, symmetric=symmetric) for name, ends in ranges.items()}
    weights = {weight.path: scales(weight.rows, scheme.bits, "mse") for weight in weights_of(cleaned(model.path))}
    return QatParameters(scheme.bits, scheme.act_bits, symmetric, grids, weights)


class Pictures:
    """Pictures in memory, as an image source."""

    def __init__(self, images: NDArray[np.float32]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return float32 (len(rows), 3, H, W)."""
        return np.ascontiguousarray(self.images[rows])


def onnxruntime_logits(path: Path, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run onnxruntime directly, bypassing every backend: a backend must not be its own reference."""
    return _run(path.read_bytes(), images)


@cache
def _model_bytes() -> bytes:
    """The model, with the classifier's bias chosen so that its pictures fall into all classes."""
    generator = np.random.default_rng(20261123)
    weights = {
        "conv1.weight": _he(generator, (WIDTHS[0], 3, 3, 3)),
        "conv1.bias": np.full(WIDTHS[0], 0.1, np.float32),
        "conv2.weight": _he(generator, (WIDTHS[1], WIDTHS[0], 3, 3)),
        "conv2.bias": np.full(WIDTHS[1], 0.1, np.float32),
        "classifier.weight": generator.normal(0, 1, (len(CLASSES), WIDTHS[1])).astype(np.float32),
        "classifier.bias": np.zeros(len(CLASSES), np.float32),
    }
    logits = _run(_serialize(weights), pictures(256, seed=0))
    weights["classifier.weight"] = weights["classifier.weight"] / logits.std(axis=0)[:, None]
    weights["classifier.bias"] = -logits.mean(axis=0) / logits.std(axis=0)
    return _serialize(weights)


def _serialize(weights: dict[str, NDArray[np.float32]]) -> bytes:
    from onnx import TensorProto, checker, helper, numpy_helper

    convolution: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}
    nodes = [
        helper.make_node("Conv", ["images", "conv1.weight", "conv1.bias"], ["conv1"], "conv1", **convolution),
        helper.make_node("Relu", ["conv1"], ["relu1"], "relu1"),
        helper.make_node("Conv", ["relu1", "conv2.weight", "conv2.bias"], ["conv2"], "conv2", **convolution),
        helper.make_node("Relu", ["conv2"], ["relu2"], "relu2"),
        helper.make_node("GlobalAveragePool", ["relu2"], ["pooled"], "pool"),
        helper.make_node("Flatten", ["pooled"], ["features"], "flatten"),
        helper.make_node(
            "Gemm", ["features", "classifier.weight", "classifier.bias"], ["logits"], "classifier", transB=1
        ),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(CLASSES)])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    checker.check_model(model, full_check=True)
    serialized: bytes = model.SerializeToString()
    return serialized


def _he(generator: np.random.Generator, shape: Sequence[int]) -> NDArray[np.float32]:
    fan_in = int(np.prod(shape[1:]))
    return generator.normal(0, np.sqrt(2 / fan_in), shape).astype(np.float32)


def _run(model: bytes, images: NDArray[np.float32]) -> NDArray[np.float32]:
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    logits: NDArray[np.float32] = session.run(None, {"images": images})[0]
    return logits
