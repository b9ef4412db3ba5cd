"""An ONNX graph with the look-ups that Q/DQ placement and its rules need: pairs, origins, readers, residuals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fqbench.onnx_graph import constants, consumers, origin, producers, values_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import GraphProto, NodeProto, TensorProto

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
WEIGHTED = CONVOLUTIONS | {"Gemm", "MatMul"}
# They neither compute nor choose: what runtimes fold away between a weighted operator and what it is fused with.
TRANSPARENT = frozenset({"Identity", "Cast", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze"})


@dataclass(frozen=True)
class QdqGraph:
    """An ONNX graph with the look-ups that quantization rules need.

    Attributes
    ----------
    graph : GraphProto
        As loaded; not changed.
    """

    graph: GraphProto
    _values: dict[str, NDArray[Any]] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def producers(self) -> dict[str, NodeProto]:
        """The node that writes each tensor."""
        return producers(self.graph)

    @cached_property
    def consumers(self) -> dict[str, list[NodeProto]]:
        """The nodes that read each tensor, once for each input that they read it through."""
        return consumers(self.graph)

    @cached_property
    def outputs(self) -> frozenset[str]:
        """Names of the graph's outputs."""
        return frozenset(value.name for value in self.graph.output)

    @cached_property
    def _constants(self) -> dict[str, TensorProto]:
        return constants(self.graph)

    def nodes(self, *kinds: str) -> Iterator[NodeProto]:
        """Yield the nodes of these operator types, in the order of the graph."""
        return (node for node in self.graph.node if node.op_type in kinds)

    def is_constant(self, name: str) -> bool:
        """Whether a tensor is the same for every input, through operators that only rearrange it."""
        return origin(name, self.producers, TRANSPARENT) in self._constants

    def value(self, name: str) -> NDArray[Any] | None:
        """Return the values of an initializer or Constant; None for anything computed."""
        tensor = self._constants.get(name)
        if tensor is None:
            return None
        if name not in self._values:
            self._values[name] = values_of(tensor)
        return self._values[name]

    def element_type(self, name: str) -> int | None:
        """Return the ONNX element type of an initializer or Constant."""
        tensor = self._constants.get(name)
        return None if tensor is None else int(tensor.data_type)

    def dequantized_from(self, name: str) -> NodeProto | None:
        """Return the DequantizeLinear that gives a tensor, through operators that only rearrange it."""
        node = self.producers.get(origin(name, self.producers, TRANSPARENT))
        return node if node is not None and node.op_type == DEQUANTIZE else None

    def quantizer_of(self, dequantizer: NodeProto) -> NodeProto | None:
        """Return the QuantizeLinear before a DequantizeLinear; None where integers are stored."""
        node = self.producers.get(dequantizer.input[0])
        return node if node is not None and node.op_type == QUANTIZE else None

    def is_weight(self, node: NodeProto) -> bool:
        """Whether a Q or DQ node belongs to a constant: a stored weight, or one that is quantized at build time."""
        if node.op_type == DEQUANTIZE:
            quantizer = self.quantizer_of(node)
            return self.is_constant((quantizer or node).input[0])
        return self.is_constant(node.input[0])

    def source(self, name: str) -> str:
        """Return the float tensor behind a Q/DQ pair: the tensor itself where there is none."""
        dequantizer = self.producers.get(name)
        if dequantizer is None or dequantizer.op_type != DEQUANTIZE:
            return name
        quantizer = self.quantizer_of(dequantizer)
        return str((quantizer or dequantizer).input[0])

    def convolution_before(self, name: str) -> NodeProto | None:
        """Return the convolution that a tensor is the only result of, so that what follows can be fused into it.

        The way back may lead through operators that only rearrange, a BatchNormalization, the addition of a
        constant bias and a Q/DQ pair; every tensor on it has one reader.
        """
        node = self.producers.get(name)
        while node is not None and name not in self.outputs and len(self.consumers.get(name, ())) == 1:
            if node.op_type in CONVOLUTIONS:
                return node
            if node.op_type not in TRANSPARENT | {"BatchNormalization", QUANTIZE, DEQUANTIZE, "Add"}:
                return None
            dynamic = [given for given in node.input[:2] if not self.is_constant(given)]
            if node.op_type == "Add" and len(dynamic) != 1:
                return None
            name = dynamic[0] if node.op_type == "Add" and dynamic else node.input[0]
            node = self.producers.get(name)
        return None


def activation_products(graph: QdqGraph) -> Iterator[NodeProto]:
    """Yield the matrix products of two activations, as those of attention, in the order of the graph."""
    return (node for node in graph.nodes("MatMul") if not any(map(graph.is_constant, node.input)))


def residual_branch(graph: QdqGraph, node: NodeProto) -> str | None:
    """Return the input of an Add that is to be quantized; None where the Add is none of a residual connection.

    One branch is fused with the convolution that it is the only result of. Where both are such, the longer one is
    fused: it ends later, and the shorter one, a convolution of the shortcut, is what has to be kept until then.
    """
    if len(node.input) != 2 or any(graph.is_constant(name) or name not in graph.producers for name in node.input):
        return None
    convolutions = [graph.convolution_before(name) is not None for name in node.input]
    if not any(convolutions):
        return None
    if all(convolutions):
        lengths = [_weighted_upstream(graph, name) for name in node.input]
        return str(node.input[0] if lengths[0] < lengths[1] else node.input[1])
    return str(node.input[1] if convolutions[0] else node.input[0])


def _weighted_upstream(graph: QdqGraph, name: str, seen: dict[str, int] | None = None) -> int:
    """Most weighted operators on a way from the graph's input to a tensor."""
    depths = {} if seen is None else seen
    stack = [name]
    while stack:
        current = stack[-1]
        node = graph.producers.get(current)
        pending = [] if node is None else [given for given in node.input if given and given not in depths]
        if pending:
            stack.extend(pending)
            continue
        own = 0 if node is None else int(node.op_type in WEIGHTED)
        before = [] if node is None else [depths[given] for given in node.input if given]
        depths[current] = own + max(before, default=0)
        stack.pop()
    return depths[name]
