"""Cross-layer equalization: move factors from one convolution to the next without changing the outputs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.onnx_graph import attribute, consumers, copied, initializers, values_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto, TensorProto

HOMOGENEOUS = frozenset({"Relu", "LeakyRelu", "Identity"})  # f(s x) = s f(x) for every s > 0
SWEEPS = 20  # a pair changes what its neighbours have: repeated until no factor is far from 1
SETTLED = 1e-3
LARGEST_FACTOR = 1e4  # a dead channel may not draw the other side out of float32's comfort


@dataclass(frozen=True)
class Rescaled:
    """A graph with factors moved between weights, and the list of them.

    Attributes
    ----------
    model : ModelProto
        The changed graph; equal to the original up to float rounding.
    pairs : tuple of (str, tuple of str)
        Names of the parameter whose channels were divided, and of the weights whose inputs were multiplied.
    """

    model: ModelProto
    pairs: tuple[tuple[str, tuple[str, ...]], ...]


class Constants:
    """The constant parameters of a graph's nodes: read as arrays, written back to a single node."""

    def __init__(self, model: ModelProto) -> None:
        self.graph = model.graph
        self.tensors = initializers(model.graph)
        self.uses = Counter(name for node in model.graph.node for name in node.input if name)

    def has(self, node: NodeProto, position: int) -> bool:
        """Whether a parameter of a node is there, constant and float32."""
        from onnx import TensorProto

        tensor = self.tensors.get(node.input[position]) if len(node.input) > position else None
        return tensor is not None and tensor.data_type == TensorProto.FLOAT

    def get(self, node: NodeProto, position: int) -> NDArray[np.float32]:
        """Return a parameter of a node that is there."""
        return values_of(self.tensors[node.input[position]])

    def put(self, node: NodeProto, position: int, values: NDArray[Any]) -> None:
        """Set a parameter of one node; other nodes that share it keep the old value."""
        from onnx import numpy_helper

        name = node.input[position]
        changed = values.astype(np.float32)
        if self.uses[name] == 1:
            self.tensors[name].CopyFrom(numpy_helper.from_array(changed, name))
            return
        self.uses[name] -= 1
        own = f"{node.output[0]}.{name}"
        node.input[position] = own
        self.uses[own] = 1
        self.graph.initializer.append(numpy_helper.from_array(changed, own))
        self.tensors[own] = self.graph.initializer[-1]

    def own(self, node: NodeProto, position: int) -> bool:
        """Whether no other node has this parameter."""
        return self.uses[node.input[position]] == 1


def equalize(model: ModelProto) -> Rescaled:
    r"""Equalize the channels of neighbouring convolutions of a cleaned graph.

    Where one convolution's output goes into another one alone, directly or through a positively homogeneous
    function, channel i of the first may be divided by :math:`s_i` and input i of the second multiplied by it. With
    :math:`s_i = \sqrt{r^{(1)}_i r^{(2)}_i} / r^{(2)}_i`, r the largest magnitudes of the channel's weights, both
    sides use their range equally well [1]_. Pairs are visited in the order of the graph until nothing changes.

    Clip with an upper end (Relu6), hard-swish, sigmoids and whatever else is not positively homogeneous is left
    alone, and so are branches, outputs of the graph and weights that several operators share.

    Parameters
    ----------
    model : ModelProto
        Cleaned (`fqbench.quant.graph.cleaned`); not changed.

    Returns
    -------
    Rescaled
        The changed copy, and the pairs of weights.

    References
    ----------
    .. [1] M. Nagel et al., "Data-free quantization through weight equalization and bias correction", ICCV 2019,
       section 4.1, eq. 11.
    """
    changed = copied(model)
    constants = Constants(changed)
    found = [(first, second) for first, second in _neighbours(changed) if _movable(first, second, constants)]
    for _ in range(SWEEPS):
        if sum([_moved(first, second, constants) for first, second in found]) == 0:
            break
    return Rescaled(changed, tuple((first.input[1], (second.input[1],)) for first, second in found))


def _neighbours(model: ModelProto) -> list[tuple[NodeProto, NodeProto]]:
    """List convolutions and the only convolution that reads each, perhaps through homogeneous functions."""
    outputs = {output.name for output in model.graph.output}
    read_by, constants = consumers(model.graph), initializers(model.graph)
    found = []
    for node in model.graph.node:
        if node.op_type != "Conv":
            continue
        name, reader = node.output[0], node
        while name not in outputs and len(read_by.get(name, [])) == 1:
            reader = read_by[name][0]
            if not _homogeneous(reader, constants):
                break
            name = reader.output[0]
        if reader.op_type == "Conv" and reader is not node and reader.input[0] == name and name not in outputs:
            found.append((node, reader))
    return found


def _homogeneous(node: NodeProto, constants: dict[str, TensorProto]) -> bool:
    if node.op_type != "Clip":
        return node.op_type in HOMOGENEOUS
    ends = []
    for position, default in ((1, -np.inf), (2, np.inf)):
        name = node.input[position] if len(node.input) > position else ""
        if name and name not in constants:
            return False
        ends.append(float(values_of(constants[name])) if name else default)
    return ends[0] in {0, -np.inf} and ends[1] >= float(np.finfo(np.float32).max)


def _movable(first: NodeProto, second: NodeProto, constants: Constants) -> bool:
    if not all(constants.has(node, 1) and constants.own(node, 1) for node in (first, second)):
        return False
    if len(first.input) > 2 and first.input[2] and not constants.has(first, 2):
        return False
    channels: int = _groups(second) * constants.get(second, 1).shape[1]
    return len(constants.get(first, 1)) == channels


def _moved(first: NodeProto, second: NodeProto, constants: Constants) -> bool:
    """Equalize one pair, and return whether a factor was far from 1."""
    before, after = constants.get(first, 1), constants.get(second, 1)
    groups = _groups(second)
    by_group = after.reshape(groups, len(after) // groups, after.shape[1], -1)
    mine = np.abs(before).reshape(len(before), -1).max(axis=1).astype(np.float64)
    theirs = np.abs(by_group).max(axis=(1, 3)).reshape(-1).astype(np.float64)
    factor = np.ones_like(mine)
    np.divide(mine, theirs, out=factor, where=(mine > 0) & (theirs > 0))
    factor = np.clip(np.sqrt(factor), 1 / LARGEST_FACTOR, LARGEST_FACTOR)
    constants.put(first, 1, before / factor.reshape(-1, *[1] * (before.ndim - 1)))
    if constants.has(first, 2):
        constants.put(first, 2, constants.get(first, 2) / factor)
    constants.put(second, 1, (by_group * factor.reshape(groups, 1, -1, 1)).reshape(after.shape))
    return bool(np.abs(factor - 1).max() > SETTLED)


def _groups(node: NodeProto) -> int:
    return int(attribute(node, "group", 1))
