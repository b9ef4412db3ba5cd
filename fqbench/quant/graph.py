"""The FP32 graph that ranges are found on: cleaned, its activations listed, and augmented to give their statistics."""

from __future__ import annotations

import contextlib
import logging
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.errors import InputError

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

FLOAT = 1  # onnx.TensorProto.FLOAT
SAMPLE = 8192
GRID = 16
MAXIMA_OUTPUT, MINIMA_OUTPUT, SAMPLE_OUTPUT = "fqbench.maxima", "fqbench.minima", "fqbench.sample"
# Their output holds values of their first input and no others, so its range is the input's.
VIEWS = frozenset(
    {"Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Slice", "Split", "Gather", "MaxPool"}
)
FUSED = frozenset({"Relu", "Clip"})  # every runtime computes these inside the operator before them
NON_NEGATIVE = frozenset({"Relu", "Sigmoid", "HardSigmoid", "Softmax", "Abs", "Softplus", "Exp"})
KEEP_SIGN = VIEWS | {"GlobalAveragePool", "AveragePool", "GlobalMaxPool", "ReduceMean", "Dropout"}
WEIGHTED = frozenset({"Conv", "Gemm", "MatMul"})


@dataclass(frozen=True)
class Activation:
    """One activation tensor to observe.

    Attributes
    ----------
    name : str
        In the cleaned graph.
    shape : tuple of int
        Of one image, without the batch.
    non_negative : bool
        Whether it cannot be below zero, so that its minimum need not be looked for.
    pixels : int
        Every how many-th row and column of a map is kept first; 1 for tensors that are no maps.
    step : int
        Every how many-th value of what is then left, flattened, is sampled. It shares no divisor with the number of
        positions of a channel, so that from channel to channel other positions are met.
    channel_axis : int or None
        Axis of ``shape`` that the weights of a consumer run along; None where no consumer has constant weights.
    """

    name: str
    shape: tuple[int, ...]
    non_negative: bool
    pixels: int
    step: int
    channel_axis: int | None

    @property
    def thinned(self) -> tuple[int, ...]:
        """Shape of what is left of one image after whole rows and columns were left out."""
        if not self.is_map:
            return self.shape
        return (self.shape[0], *(math.ceil(size / self.pixels) for size in self.shape[1:]))

    @property
    def is_map(self) -> bool:
        """Whether it is (channels, height, width), which the runtime keeps in a layout of its own."""
        return len(self.shape) == 3

    @property
    def maxima(self) -> int:
        """How many maxima of one image leave the graph: one a channel of a map, else one."""
        return self.shape[0] if self.is_map else 1


@dataclass(frozen=True)
class Activations:
    """All activations of a graph that a runtime may quantize.

    Attributes
    ----------
    observed : tuple of Activation
        In the order of the graph.
    aliases : dict
        Tensors whose range is another one's: views, and what goes into a fused activation.
    """

    observed: tuple[Activation, ...]
    aliases: dict[str, str]


def clean(model: Path, out: Path) -> Path:
    """Fold constants and BatchNormalization, infer shapes, and write the result: quantizers and observer read this.

    Parameters
    ----------
    model : Path
        The FP32 model.
    out : Path
        Where to write; the same bytes for the same model.
    """
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory(prefix="fqbench-clean-") as scratch, quiet_quantizer():
        graph = onnx.load(model, load_external_data=False).graph
        if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in graph.initializer):
            # The quantizer copies the file alone into a folder of its own, and would miss the data beside it.
            whole = Path(scratch) / "whole.onnx"
            onnx.save(onnx.load(model), whole)
            model = whole
        quant_pre_process(str(model), str(out), skip_symbolic_shape=True)
    return out


def cleaned(model: Path) -> ModelProto:
    """Return the cleaned graph of a model, from a temporary file."""
    import onnx

    with tempfile.TemporaryDirectory(prefix="fqbench-clean-") as scratch:
        return onnx.load(clean(model, Path(scratch) / "model.onnx"))


@contextlib.contextmanager
def quiet_quantizer() -> Iterator[None]:
    """Silence onnxruntime's quantizer, which warns through the root logger about steps that are taken here already."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)


def activations(model: ModelProto, *, sample: int = SAMPLE) -> Activations:
    """List the activations of a cleaned graph.

    A tensor that only a Relu or Clip reads is left out (no runtime quantizes between the two), and so are views,
    which share their source's range.

    Parameters
    ----------
    model : ModelProto
        With inferred shapes.
    sample : int
        About how many values of each tensor to sample from an image; 0 takes all of them.

    Raises
    ------
    InputError
        The graph has no activation of a known shape.
    """
    graph = model.graph
    shapes, batch = _shapes(graph), _batch(graph)
    constants = {tensor.name for tensor in graph.initializer}
    readers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    observed: list[Activation] = []
    aliases: dict[str, str] = {}
    non_negative: set[str] = set()

    def visit(name: str, producer: NodeProto | None) -> None:
        if producer is not None and _cannot_be_negative(producer, non_negative, graph):
            non_negative.add(name)
        following = readers.get(name, [])
        if producer is not None and producer.op_type in VIEWS and producer.input[0] not in constants:
            aliases[name] = producer.input[0]
        elif len(following) == 1 and following[0].op_type in FUSED:
            aliases[name] = following[0].output[0]
        elif (sizes := _sizes(shapes.get(name), batch)) and name not in constants:
            axis = _channel_axis(sizes, _readers_through_views(name, readers), constants)
            observed.append(Activation(name, sizes, name in non_negative, *_steps(sizes, sample), axis))

    visit(graph.input[0].name, None)
    for node in graph.node:
        for name in node.output:
            visit(name, node)
    if not observed:
        raise InputError("no activation of this model has a known shape; export it with a dynamic batch alone.")
    return Activations(tuple(observed), _resolved(aliases, {activation.name for activation in observed}))


def augment(model: ModelProto, observed: tuple[Activation, ...]) -> bytes:
    """Add three outputs to a cleaned graph: maxima, minima and samples of all its activations, one row an image.

    Channel maxima of a map are a GlobalMaxPool and its sample is a MaxPool of one pixel with a stride: both stay in
    the runtime's blocked layout, where a ReduceMax or a Slice has the whole map copied first.

    Returns
    -------
    bytes
        The serialized model; its own output comes first.
    """
    import onnx
    from onnx import helper

    augmented = onnx.ModelProto()
    augmented.CopyFrom(model)
    graph = augmented.graph
    adder = _Adder(graph)
    maxima, minima, samples = [], [], []
    for activation in observed:
        maxima.append(adder.maxima(activation))
        if not activation.non_negative:
            minima.append(adder.minimum(activation))
        samples.append(adder.sample(activation))
    for output, parts in ((MAXIMA_OUTPUT, maxima), (MINIMA_OUTPUT, minima), (SAMPLE_OUTPUT, samples)):
        if parts:
            graph.node.append(helper.make_node("Concat", parts, [output], output, axis=1))
            graph.output.append(helper.make_tensor_value_info(output, FLOAT, None))
    serialized: bytes = augmented.SerializeToString()
    return serialized


class _Adder:
    """Adds nodes to a graph, and the constants that they need once each."""

    def __init__(self, graph: GraphProto) -> None:
        self.graph = graph
        self.names: set[str] = set()

    def maxima(self, activation: Activation) -> str:
        if not activation.is_map:
            return self._reduce("ReduceMax", activation)
        pooled = self._node("GlobalMaxPool", [activation.name], f"{activation.name}.maxima")
        return self._node("Flatten", [pooled], f"{activation.name}.maxima.flat", axis=1)

    def minimum(self, activation: Activation) -> str:
        return self._reduce("ReduceMin", activation)

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

    def _reduce(self, operator: str, activation: Activation) -> str:
        axes = self._constant(range(1, len(activation.shape) + 1))
        name = f"{activation.name}.{operator}"
        reduced = self._node(operator, [activation.name, axes], name, keepdims=1)
        return self._node("Flatten", [reduced], f"{name}.flat", axis=1)

    def _node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        name = f"fqbench.{output}"
        self.graph.node.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def _constant(self, values: Any) -> str:
        from onnx import numpy_helper

        array = np.asarray(list(values), dtype=np.int64)
        name = "fqbench.constant." + ".".join(map(str, array))
        if name not in self.names:
            self.names.add(name)
            self.graph.initializer.append(numpy_helper.from_array(array, name))
        return name


def _shapes(graph: GraphProto) -> dict[str, list[int | str]]:
    found: dict[str, list[int | str]] = {}
    for value in (*graph.value_info, *graph.output, *graph.input):
        kind = value.type.tensor_type
        if kind.elem_type == FLOAT and kind.HasField("shape"):
            found[value.name] = [dim.dim_param or dim.dim_value for dim in kind.shape.dim]
    return found


def _batch(graph: GraphProto) -> int | str:
    dim = graph.input[0].type.tensor_type.shape.dim[0]
    return dim.dim_param or int(dim.dim_value)


def _sizes(shape: list[int | str] | None, batch: int | str) -> tuple[int, ...]:
    """Return the shape of one image where it is known and the batch comes first; else nothing."""
    if not shape or len(shape) < 2 or shape[0] != batch:
        return ()
    known = all(isinstance(size, int) and size > 0 for size in shape[1:])
    return tuple(int(size) for size in shape[1:]) if known else ()


def _cannot_be_negative(producer: NodeProto, known: set[str], graph: GraphProto) -> bool:
    if producer.op_type in NON_NEGATIVE:
        return True
    if producer.op_type in KEEP_SIGN:
        return producer.input[0] in known
    if producer.op_type == "Clip" and len(producer.input) > 1 and producer.input[1]:
        from onnx import numpy_helper

        bound = next((tensor for tensor in graph.initializer if tensor.name == producer.input[1]), None)
        return bound is not None and float(numpy_helper.to_array(bound)) >= 0
    if producer.op_type in {"Add", "Concat", "Mul"}:
        return all(name in known for name in producer.input)
    return False


def _readers_through_views(name: str, readers: dict[str, list[NodeProto]]) -> list[NodeProto]:
    """Return the nodes that read a tensor, or the same values in the same order of channels flattened."""
    found = list(readers.get(name, []))
    for node in list(found):
        if node.op_type == "Flatten" or (node.op_type in {"Reshape", "Squeeze"} and node.input[0] == name):
            found += readers.get(node.output[0], [])
    return found


def _channel_axis(shape: tuple[int, ...], readers: list[NodeProto], constants: set[str]) -> int | None:
    for node in readers:
        if node.op_type in WEIGHTED and len(node.input) > 1 and node.input[1] in constants:
            if node.op_type == "Conv":
                return 0
            return 0 if math.prod(shape[1:]) == 1 else len(shape) - 1
    return None


def _steps(shape: tuple[int, ...], sample: int) -> tuple[int, int]:
    """Choose a stride of pixels and one of values that leave about ``sample`` values of an image.

    Pixels are thinned out to a grid of no more than `GRID` each way, in the runtime's own layout, where leaving them
    out costs nothing; what is left is flattened and thinned out further.
    """
    if not sample or math.prod(shape) <= sample:
        return 1, 1
    pixels, left, positions = 1, shape, shape[-1]
    if len(shape) == 3:
        enough = math.ceil(math.sqrt(math.prod(shape) / sample))
        pixels = max(1, min(math.ceil(max(shape[1:]) / GRID), enough))
        left = (shape[0], *(math.ceil(size / pixels) for size in shape[1:]))
        positions = left[1] * left[2]
    step = math.ceil(math.prod(left) / sample)
    while step > 1 and math.gcd(step, positions) > 1:
        step += 1
    return pixels, step


def _resolved(aliases: dict[str, str], observed: set[str]) -> dict[str, str]:
    """Follow aliases of aliases to observed tensors; leave out those that lead nowhere."""
    found = {}
    for name in aliases:
        source, seen = name, set()
        while source in aliases and source not in seen:
            seen.add(source)
            source = aliases[source]
        if source in observed:
            found[name] = source
    return found
