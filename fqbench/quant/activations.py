"""The activations of an FP32 graph that a runtime may quantize, and how many values of each are sampled."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fqbench.errors import InputError
from fqbench.onnx_graph import consumers, initializer_values, initializers

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto, NodeProto

FLOAT = 1  # onnx.TensorProto.FLOAT
SAMPLE = 6144
GRID = 16
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

    Of each image three things leave the graph: a sample of the values, thinned out by ``pixels`` and ``step``; and, of
    all values in ``lattice`` sets a channel, the largest and, where there are negative ones, the smallest. A set of a
    map holds the pixels whose row and column leave the same remainders, so that neighbours, which are alike, are in
    different sets. Nearly every value of the tails thus is the largest of its set and known exactly, where a sample
    would know one of many.

    Attributes
    ----------
    name : str
        In the cleaned graph.
    shape : tuple of int
        Of one image, without the batch.
    non_negative : bool
        Whether it cannot be negative, so that no minimum is needed.
    ceiling : float or None
        The upper bound of a Clip, at which many values may lie.
    channel_axis : int or None
        Axis of ``shape`` that the weights of a consumer run along; None where no consumer has constant weights.
    pixels : int
        Step between the rows and columns of a map that are kept; 1 for tensors that are not feature maps.
    step : int
        Step between the sampled values of the flattened rest. It shares no divisor with the number of
        positions of a channel, so that from channel to channel other positions are met.
    lattice : tuple of int
        Remainders by which rows and columns of a map are put into sets; (1, 1) for one set per channel. Of tokens, each
        channel is a set; of anything else, the whole.
    """

    name: str
    shape: tuple[int, ...]
    non_negative: bool
    ceiling: float | None
    channel_axis: int | None
    pixels: int = 1
    step: int = 1
    lattice: tuple[int, int] = (1, 1)

    @property
    def complete(self) -> bool:
        """Whether the sample contains every value."""
        return self.pixels == 1 and self.step == 1

    @property
    def is_map(self) -> bool:
        """Whether it is (channels, height, width), which the runtime stores in its own layout."""
        return len(self.shape) == 3

    @property
    def sets(self) -> int:
        """Number of sets per image for which extremes are recorded."""
        if self.is_map:
            return self.shape[0] * self.lattice[0] * self.lattice[1]
        return self.shape[1] if len(self.shape) == 2 else 1

    def sampled(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the sampled entries of an array of this shape."""
        kept = values[:, :: self.pixels, :: self.pixels] if self.is_map else values
        return kept.reshape(-1)[:: self.step]

    def set_of_each(self) -> NDArray[np.int64]:
        """Return the set of each value, in the shape of the tensor."""
        if self.is_map:
            rows, columns = self.lattice
            channel, row, column = np.ogrid[tuple(slice(size) for size in self.shape)]
            found = (channel * rows + row % rows) * columns + column % columns
        elif len(self.shape) == 2:
            found = np.arange(self.shape[1])
        else:
            found = np.zeros(1, dtype=np.int64)
        return np.broadcast_to(found.astype(np.int64), self.shape)


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
    constants, readers = set(initializers(graph)), consumers(graph)
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
            ceiling = _ceiling(producer, graph)
            axis = _channel_axis(sizes, _readers_through_views(name, readers), constants)
            extent = strides(sizes, sample, ceiling)
            observed.append(Activation(name, sizes, name in non_negative, ceiling, axis, *extent))

    visit(graph.input[0].name, None)
    for node in graph.node:
        for name in node.output:
            visit(name, node)
    if not observed:
        raise InputError("no activation of this model has a known shape; export it with only the batch dynamic.")
    return Activations(tuple(observed), _resolved(aliases, {activation.name for activation in observed}))


def strides(shape: tuple[int, ...], sample: int, ceiling: float | None = None) -> tuple[int, int, tuple[int, int]]:
    """Choose ``pixels``, ``step`` and ``lattice`` that give about ``sample`` values and as many extremes of an image.

    Pixels are thinned out to a grid of no more than `GRID` each way, in the runtime's own layout, where leaving them
    out costs nothing; what is left is flattened and thinned out further. What a Clip bounds has no long tail: one
    maximum a channel is enough there.
    """
    if not sample or math.prod(shape) <= sample:
        return 1, 1, (1, 1)
    pixels, left, positions, lattice = 1, shape, shape[-1], (1, 1)
    if len(shape) == 3:
        enough = math.ceil(math.sqrt(math.prod(shape) / sample))
        pixels = max(1, min(math.ceil(max(shape[1:]) / GRID), enough))
        left = (shape[0], *(math.ceil(size / pixels) for size in shape[1:]))
        positions = left[1] * left[2]
        wanted = 1 if ceiling is not None else max(1, round(math.sqrt(sample / shape[0])))
        lattice = (_remainders(shape[1], wanted), _remainders(shape[2], wanted))
    step = math.ceil(math.prod(left) / sample)
    while step > 1 and math.gcd(step, positions) > 1:
        step += 1
    return pixels, step, lattice


def _remainders(size: int, wanted: int) -> int:
    """Return the number of remainders nearest below ``wanted`` for which a pooling may pad the last, short set."""
    for count in range(min(wanted, size), 1, -1):
        length = math.ceil(size / count)
        if count * length - size < length:
            return count
    return 1


def _ceiling(producer: NodeProto | None, graph: GraphProto) -> float | None:
    """Return the upper bound of a Clip."""
    if producer is None or producer.op_type != "Clip" or len(producer.input) < 3:
        return None
    return _scalar(producer.input[2], graph)


def _scalar(name: str, graph: GraphProto) -> float | None:
    values = initializer_values(graph, name)
    return None if values is None else float(values.reshape(-1)[0])


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
    if producer.op_type == "Clip" and len(producer.input) > 1:
        least = _scalar(producer.input[1], graph)
        return least is not None and least >= 0
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


def _resolved(aliases: dict[str, str], observed: set[str]) -> dict[str, str]:
    """Resolve aliases to observed tensors; drop those without one."""
    found = {}
    for name in aliases:
        source, seen = name, set()
        while source in aliases and source not in seen:
            seen.add(source)
            source = aliases[source]
        if source in observed:
            found[name] = source
    return found
