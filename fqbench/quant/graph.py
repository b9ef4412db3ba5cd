"""The FP32 graph for calibration: cleaned, and augmented to output the statistics of its activations."""

from __future__ import annotations

import contextlib
import logging
import math
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.onnx_graph import consumers
from fqbench.quant.activations import FLOAT, Activation
from fqbench.quant.histogram import Seen
from fqbench.quant.pool_padding import fold_pool_padding

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto

BLOCK = 16  # channels that the runtime stores together in its blocked layout; 8 on some machines
# It moves a Transpose of queries, keys and values behind the Slices that part them: three passes over memory for one.
NOT_CLEANING = ["TransposeOptimizer"]
PREPARED = {"onnx.quant.pre_process": "onnxruntime.quant"}  # how onnxruntime's quantizer knows a cleaned graph


def clean(model: Path, out: Path) -> Path:
    """Fold constants and BatchNormalization, infer shapes, and write the result, which quantizers and observer read.

    Shapes are followed through the arithmetic on shapes, so that those of an attention's transposed keys are known.

    Parameters
    ----------
    model : Path
        The FP32 model.
    out : Path
        Where to write; the same bytes for the same model.
    """
    import onnx

    with tempfile.TemporaryDirectory(prefix="fqbench-clean-") as scratch:
        folded = _folded(model, Path(scratch))
        onnx.shape_inference.infer_shapes_path(str(folded), str(out), data_prop=True)
    _complete(out)
    return out


def _folded(model: Path, scratch: Path) -> Path:
    import onnx
    import onnxruntime

    graph = onnx.load(model, load_external_data=False).graph
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in graph.initializer):
        whole = scratch / "whole.onnx"  # the runtime would write the data next to the graph again
        onnx.save(onnx.load(model), whole)
        model = whole
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(scratch / "folded.onnx")
    providers = ["CPUExecutionProvider"]
    onnxruntime.InferenceSession(str(model), options, providers=providers, disabled_optimizers=NOT_CLEANING)
    return scratch / "folded.onnx"


def _complete(path: Path) -> None:
    """Complete a cleaned file: padding with minus infinity goes into MaxPools, nodes get names, and the file its mark.

    Settings, placements and onnxruntime's quantizer know an operator by its name. Those without one, as the parts that
    HardSwish is written out to, are named after their outputs.
    """
    import onnx

    model = onnx.load(path, load_external_data=False)
    fold_pool_padding(model.graph)
    for node in model.graph.node:
        node.name = node.name or f"{node.output[0]}/{node.op_type}"
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, {**PREPARED, **metadata})
    onnx.save(model, path)


def cleaned(model: Path) -> ModelProto:
    """Return the cleaned graph of a model, from a temporary file."""
    import onnx

    with tempfile.TemporaryDirectory(prefix="fqbench-clean-") as scratch:
        return onnx.load(clean(model, Path(scratch) / "model.onnx"))


@contextlib.contextmanager
def quiet_quantizer() -> Iterator[None]:
    """Silence onnxruntime's quantizer, which warns through the root logger about steps that are already done."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)


@dataclass(frozen=True)
class Outputs:
    """Names of the outputs that `augment` added: per activation, in order, and minima of the signed ones alone."""

    maxima: tuple[str, ...]
    negative_minima: tuple[str, ...]
    sample: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, in the order that `seen` takes their values in."""
        return (*self.maxima, *self.negative_minima, *self.sample)

    def seen(self, values: Iterable[NDArray[np.float32]]) -> Seen:
        """Return what the values of these outputs say; the negative minima are negated in place."""
        rest = iter(values)
        maxima, minima, sample = (
            tuple(islice(rest, len(kind))) for kind in (self.maxima, self.negative_minima, self.sample)
        )
        for array in minima:
            np.negative(array, out=array)
        return Seen(maxima, minima, sample)


def augment(model: ModelProto, observed: tuple[Activation, ...]) -> Outputs:
    """Add outputs to a cleaned graph, in place: maxima, minima and a sample of each activation, one row per image.

    The maxima of a map's sets of pixels are a dilated MaxPool, and its sample a MaxPool of one pixel with a stride:
    both stay in the runtime's blocked layout, where a ReduceMax or a Slice has the whole map copied first. Minima are
    the maxima of the negative, which a depthwise convolution by -1 gives without leaving that layout. Maps whose
    channels do not fill the blocks are not pooled there, and a dilated pooling elsewhere is slow: they are reduced.

    The runtime orders nodes by a search from the outputs, the last node first. So the nodes are added from the last
    activation to the first, each with outputs of its own: then an activation is looked at as soon as it is there, and
    freed, while a node that gathered them all, or another order, would keep every activation until the end.
    """
    from onnx import helper

    adder = _Adder(model.graph)
    adder.keep_sums_fused(observed)
    maxima, minima, samples = [], [], []
    for activation in reversed(observed):
        maxima.append(adder.maxima(activation))
        if not activation.non_negative:
            minima.append(adder.negative_minima(activation))
        samples.append(adder.sample(activation))
    names = Outputs(tuple(maxima[::-1]), tuple(minima[::-1]), tuple(samples[::-1]))
    model.graph.output.extend([helper.make_tensor_value_info(name, FLOAT, None) for name in names.names])
    return names


class _Adder:
    """Adds nodes to a graph, and the constants that they need once each."""

    def __init__(self, graph: GraphProto) -> None:
        self.graph = graph
        self.names: set[str] = set()

    def keep_sums_fused(self, observed: tuple[Activation, ...]) -> None:
        """Put a convolution by 1 between an observed one and a sum that only a Relu reads; the values are the same.

        The runtime computes such a sum and its Relu within a convolution, but in none whose output is read elsewhere.
        """
        convolved = {node.output[0] for node in self.graph.node if node.op_type == "Conv"}
        blocked = {a.name: a for a in observed if a.name in convolved and a.is_map and not a.shape[0] % BLOCK}
        readers = consumers(self.graph)
        for place, node in reversed(list(enumerate(self.graph.node))):
            following = [reader.op_type for reader in readers.get(node.output[0], [])]
            places = [number for number, name in enumerate(node.input) if name in blocked]
            if node.op_type == "Add" and following == ["Relu"] and places:
                source = node.input[places[0]]
                node.input[places[0]] = self._scaled(blocked[source], 1, f"{node.output[0]}.same")
                self.graph.node.insert(place, self.graph.node.pop())

    def maxima(self, activation: Activation) -> str:
        if not activation.is_map:
            return self._reduced("ReduceMax", activation)
        if activation.shape[0] % BLOCK:
            return self._reduced_sets("ReduceMax", activation)
        return self._pooled(activation.name, activation)

    def negative_minima(self, activation: Activation) -> str:
        if not activation.is_map:
            return self._node("Neg", [self._reduced("ReduceMin", activation)], f"{activation.name}.negative")
        name = f"{activation.name}.negative"
        if activation.shape[0] % BLOCK:
            return self._node("Neg", [self._reduced_sets("ReduceMin", activation)], name)
        return self._pooled(self._scaled(activation, -1, name), activation)

    def sample(self, activation: Activation) -> str:
        name = activation.name
        if activation.pixels > 1:
            strides = [activation.pixels, activation.pixels]
            name = self._node("MaxPool", [name], f"{name}.pixels", kernel_shape=[1, 1], strides=strides)
        name = self._node("Flatten", [name], f"{activation.name}.flat", axis=1)
        if activation.step > 1:
            start, end, axis, step = (self._constant([value]) for value in (0, 2**31 - 1, 1, activation.step))
            name = self._node("Slice", [name, start, end, axis, step], f"{activation.name}.sample")
        return name

    def _pooled(self, name: str, activation: Activation) -> str:
        """Largest value of each set of pixels: those whose rows and columns leave the same remainders."""
        kernel, spare = _windows(activation)
        if activation.lattice == (1, 1):
            pooled = self._node("GlobalMaxPool", [name], f"{name}.maxima")
        else:
            shape: dict[str, Any] = {"kernel_shape": kernel, "dilations": list(activation.lattice)}
            pooled = self._node("MaxPool", [name], f"{name}.maxima", pads=[0, 0, *spare], **shape)
        return self._node("Flatten", [pooled], f"{name}.maxima.flat", axis=1)

    def _reduced_sets(self, operator: str, activation: Activation) -> str:
        """Extreme of each set of pixels, over its rows first."""
        (height, width), spare = _windows(activation)
        rows, columns = activation.lattice
        source, name = activation.name, f"{activation.name}.{operator}"
        if any(spare):
            never = self._constant(-math.inf if operator == "ReduceMax" else math.inf, np.float32)
            source = self._node("Pad", [source, self._constant([0] * 6 + spare), never], f"{name}.padded")
        axis, channels = self._constant([2]), activation.shape[0]
        shapes = {
            "rows": [0, channels, height, rows * width * columns],
            "columns": [0, channels * rows, width, columns],
        }
        for step, shape in shapes.items():
            parted = self._node("Reshape", [source, self._constant(shape)], f"{name}.{step}.parted")
            source = self._node(operator, [parted, axis], f"{name}.{step}", keepdims=0)
        return self._node("Flatten", [source], f"{name}.flat", axis=1)

    def _reduced(self, operator: str, activation: Activation) -> str:
        dimensions = len(activation.shape)
        axes = self._constant([1] if dimensions == 2 else list(range(1, dimensions + 1)))
        name = f"{activation.name}.{operator}"
        reduced = self._node(operator, [activation.name, axes], name, keepdims=1)
        return self._node("Flatten", [reduced], f"{name}.flat", axis=1)

    def _scaled(self, activation: Activation, factor: float, output: str) -> str:
        """Multiply by a depthwise convolution, which computes in the blocked layout."""
        channels = activation.shape[0]
        weights = self._initializer(f"{channels}.times.{factor}", np.full((channels, 1, 1, 1), factor, np.float32))
        return self._node("Conv", [activation.name, weights], output, group=channels)

    def _node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        name = f"fqbench.{output}"
        self.graph.node.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def _constant(self, values: Any, kind: type[np.generic] = np.int64) -> str:
        array = np.asarray(values, dtype=kind)
        return self._initializer(".".join(map(str, array.reshape(-1))), array)

    def _initializer(self, key: str, values: NDArray[np.generic]) -> str:
        from onnx import numpy_helper

        name = f"fqbench.constant.{key}"
        if name not in self.names:
            self.names.add(name)
            self.graph.initializer.append(numpy_helper.from_array(values, name))
        return name


def _windows(activation: Activation) -> tuple[list[int], list[int]]:
    """Return how many rows and columns of a map a set has at most, and how many more of them would fill every set."""
    counts = list(zip(activation.shape[1:], activation.lattice, strict=True))
    lengths = [math.ceil(size / count) for size, count in counts]
    return lengths, [count * length - size for (size, count), length in zip(counts, lengths, strict=True)]
