"""Rescaling: move factors from one operator's channels into the weights that read them, without changing the answers.

Convolutions whose output other convolutions read (cross-layer equalization) and LayerNormalization that matrix products
read (SmoothQuant) are one case here: the channels of a tensor become more alike, so that one range fits them all.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.contracts.scheme import LOW
from fqbench.errors import DataError
from fqbench.onnx_graph import attribute, consumers, copied, initializers, values_of, with_outputs
from fqbench.quant.observe import BATCH, observe
from fqbench.reference_executor import reference_logits, reference_session

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto, TensorProto

    from fqbench.contracts.artifacts import ExportedModel
    from fqbench.quant.calibration import CalibrationSet
    from fqbench.quant.record import CalibrationRecord

ALPHA = 0.5
HOMOGENEOUS = frozenset({"Relu", "LeakyRelu", "Identity"})  # f(s x) = s f(x) for every s > 0
SMALLEST = 1e-4  # of the largest channel: smaller ones may be larger on other images, so they count as this large
SMALLEST_SHARE = 1e-6  # of the largest weight of an output channel: smaller ones count as this large
LARGEST_FACTOR = 1e5
CHECKED = 16  # images on which the answers before and after are compared
CLOSE = 1e-4  # of the largest logit: what another order of float sums may change


@dataclass(frozen=True)
class Move:
    """One place where factors can move.

    Attributes
    ----------
    source : NodeProto
        Conv or LayerNormalization: its channels are divided.
    readers : tuple of NodeProto
        Conv, MatMul and Gemm, all that read it, directly or through homogeneous functions: their inputs are multiplied.
    """

    source: NodeProto
    readers: tuple[NodeProto, ...]

    @property
    def tensors(self) -> tuple[str, ...]:
        """What the readers read; the channels of these become more alike."""
        return tuple(dict.fromkeys(reader.input[0] for reader in self.readers))

    @property
    def weights(self) -> tuple[str, tuple[str, ...]]:
        """Name of the parameter whose channels are divided, and of the weights whose inputs are multiplied."""
        return self.source.input[1], tuple(reader.input[1] for reader in self.readers)


@dataclass(frozen=True)
class RescaledModel:
    """A rewritten FP32 graph with what was observed on it.

    Attributes
    ----------
    graph : ModelProto
        Cleaned; equal to the original up to float rounding.
    record : CalibrationRecord
        Of this graph.
    moves : tuple of (str, tuple of str)
        As `Move.weights`.
    change : float
        Largest change of a logit on some calibration images, as a share of the largest logit.
    """

    graph: ModelProto
    record: CalibrationRecord
    moves: tuple[tuple[str, tuple[str, ...]], ...]
    change: float

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values for the manifest."""
        moves = [{"divided": source, "multiplied": list(readers)} for source, readers in self.moves]
        return {"moves": moves, "alpha": ALPHA, "largest_change": float(f"{self.change:.3g}")}


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


def rescaled(model: ExportedModel, graph: ModelProto, calibration: CalibrationSet) -> RescaledModel:
    """Rescale a cleaned graph by what its channels hold on the calibration images, and observe the result.

    What was found once is kept with the record of the original graph, since several schemes may ask for it.

    Raises
    ------
    DataError
        The answers in FP32 change by more than float rounding.
    """
    memory = {} if calibration.record is None else calibration.record.memory
    if "rescaled" not in memory:
        memory["rescaled"] = _rescaled(model, graph, calibration)
    found: RescaledModel = memory["rescaled"]
    return found


def worth_a_trial(graph: ModelProto, bits: int) -> bool:
    """Whether rescaling may matter: there are places for factors, and weights have bits enough to take them.

    Below 8 bits the places have to be at depthwise convolutions or LayerNormalization, since other networks lose more
    in the weights than they win in the activations (docs/decisions/0091).
    """
    found = list(moves(graph))
    if bits >= LOW:
        return bool(found)
    depthwise = any(node.op_type == "Conv" and attribute(node, "group", 1) > 1 for node in graph.graph.node)
    return any(depthwise or move.source.op_type == "LayerNormalization" for move in found)


def moves(model: ModelProto) -> Iterator[Move]:
    """Yield the places of a cleaned graph where factors can move.

    Clip with an upper end (Relu6), hard-swish, sigmoids and whatever else is not positively homogeneous is left alone,
    and so are branches into other operators, outputs of the graph and weights that several operators share.
    """
    constants, read_by = Constants(model), consumers(model.graph)
    outputs = {output.name for output in model.graph.output}
    for node in model.graph.node:
        channels = _channels(node, constants)
        if not channels:
            continue
        readers = _readers(node, read_by, outputs, constants.tensors)
        kinds = {"Conv"} if node.op_type == "Conv" else {"MatMul", "Gemm"}  # others read along another axis
        fitting = all(reader.op_type in kinds and _reads(reader, channels, constants) for reader in readers)
        if readers and fitting and len({reader.input[1] for reader in readers}) == len(readers):
            yield Move(node, tuple(readers))


def rescale(
    model: ModelProto, maxima: Mapping[str, NDArray[np.float32]], *, alpha: float = ALPHA
) -> tuple[ModelProto, tuple[Move, ...]]:
    r"""Return a copy of a cleaned graph with factors moved, and the places.

    The factor of channel j is :math:`\max|X_j|^\alpha / \max|W_j|^{1-\alpha}` [1]_, X over the calibration images and
    W over all weights that read the channel, each relative to the largest of its own output channel, which has a scale
    of its own. Channel j of the first operator is divided by it and input j of the others multiplied [2]_, so nothing
    is computed that was not before. The factors of a tensor have a common factor such that its largest magnitude stays.

    Parameters
    ----------
    model : ModelProto
        Cleaned (`fqbench.quant.graph.cleaned`); not changed.
    maxima : mapping
        Largest magnitude of each channel by tensor, as `channel_maxima` has it.
    alpha : float
        How much of the channels' spread goes into the weights, 0 to 1.

    References
    ----------
    .. [1] G. Xiao et al., "SmoothQuant: Accurate and efficient post-training quantization for large language models",
       ICML 2023, eq. 4.
    .. [2] M. Nagel et al., "Data-free quantization through weight equalization and bias correction", ICCV 2019,
       section 4.1.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be from 0 to 1, not {alpha}")
    changed = copied(model)
    constants = Constants(changed)
    found = tuple(moves(changed))
    for move in found:
        largest = np.max([maxima[name] for name in move.tensors], axis=0).astype(np.float64)
        _move(move, _factor(largest, _shares(move, constants), alpha), constants)
    return changed, found


def channel_maxima(
    model: ModelProto, found: tuple[Move, ...], calibration: CalibrationSet, *, batch_size: int = 1
) -> dict[str, NDArray[np.float32]]:
    """Return the largest magnitude of each channel of the tensors of moves, over the calibration images."""
    axes = {reader.input[0]: 1 if reader.op_type == "Conv" else -1 for move in found for reader in move.readers}
    names = list(axes)
    session = reference_session(with_outputs(model, names).SerializeToString())
    given = session.get_inputs()[0].name
    largest: dict[str, NDArray[np.float32]] = {}
    for images in calibration.batches(batch_size):
        for name, values in zip(names, session.run(names, {given: images}), strict=True):
            rows = np.abs(np.moveaxis(values, axes[name], 0)).reshape(values.shape[axes[name]], -1).max(axis=1)
            largest[name] = np.maximum(largest.get(name, rows), rows)
    return largest


def _rescaled(model: ExportedModel, graph: ModelProto, calibration: CalibrationSet) -> RescaledModel:
    found = tuple(moves(graph))
    changed, _ = rescale(graph, channel_maxima(graph, found, calibration, batch_size=model.batch_size(1)))
    change = _change(graph, changed, calibration, model.batch_size(CHECKED))
    if change > CLOSE:
        raise DataError(
            f"rescaling the layers of {model.name} changes its answers in FP32 by {change:.1g} of the largest logit, "
            "more than float rounding does; use --rescaling off."
        )
    record = observe(model, calibration, rewritten=changed, batch_size=model.batch_size(BATCH))
    return RescaledModel(changed, record, tuple(move.weights for move in found), change)


def _change(graph: ModelProto, changed: ModelProto, calibration: CalibrationSet, batch_size: int) -> float:
    """Compare the answers of two graphs on one batch: the largest difference as a share of the largest logit."""
    batches = list(itertools.islice(calibration.batches(batch_size), 1))
    before, after = (reference_logits(one.SerializeToString(), batches) for one in (graph, changed))
    return float(np.abs(after - before).max() / max(float(np.abs(before).max()), np.finfo(np.float32).tiny))


def _channels(node: NodeProto, constants: Constants) -> int:
    """Return the number of channels that a node can divide by factors; 0 where it cannot."""
    if node.op_type not in {"Conv", "LayerNormalization"} or not constants.has(node, 1):
        return 0
    if len(node.input) > 2 and node.input[2] and not constants.has(node, 2):
        return 0
    first = constants.get(node, 1)
    if node.op_type == "Conv":
        return len(first) if constants.own(node, 1) else 0
    # Over the last axis alone; the scale has the shape of the axes that are normalized.
    return len(first) if first.ndim == 1 and len(node.output) == 1 else 0


def _readers(
    node: NodeProto, read_by: Mapping[str, list[NodeProto]], outputs: set[str], constants: Mapping[str, TensorProto]
) -> list[NodeProto]:
    """Return what reads a node, through homogeneous functions; nothing where an output of the graph is among it."""
    waiting, found = [node.output[0]], []
    while waiting:
        name = waiting.pop(0)
        following = read_by.get(name, [])
        if name in outputs or not following:
            return []
        for reader in following:
            if reader.input[0] != name:
                return []
            if _homogeneous(reader, constants):
                waiting.append(reader.output[0])
            else:
                found.append(reader)
    return found


def _homogeneous(node: NodeProto, constants: Mapping[str, TensorProto]) -> bool:
    if node.op_type != "Clip":
        return node.op_type in HOMOGENEOUS
    ends = []
    for position, default in ((1, -np.inf), (2, np.inf)):
        name = node.input[position] if len(node.input) > position else ""
        if name and name not in constants:
            return False
        ends.append(float(values_of(constants[name])) if name else default)
    return ends[0] in {0, -np.inf} and ends[1] >= float(np.finfo(np.float32).max)


def _reads(reader: NodeProto, channels: int, constants: Constants) -> bool:
    """Whether a Conv, MatMul or Gemm multiplies so many channels of its first input by constant weights of its own."""
    if attribute(reader, "transA", 0):
        return False
    if not constants.has(reader, 1) or not constants.own(reader, 1) or constants.get(reader, 1).ndim < 2:
        return False
    if reader.op_type != "Conv" and constants.get(reader, 1).ndim != 2:
        return False
    return len(_by_input(reader, constants)) == channels


def _by_input(reader: NodeProto, constants: Constants) -> NDArray[np.float32]:
    """Return a weight as (input channels, outputs that read each, taps)."""
    weight = constants.get(reader, 1)
    if reader.op_type != "Conv":
        return (weight.T if _transposed(reader) else weight)[:, :, None]
    groups = int(attribute(reader, "group", 1))
    by_group = weight.reshape(groups, len(weight) // groups, weight.shape[1], -1)
    return by_group.transpose(0, 2, 1, 3).reshape(groups * weight.shape[1], len(weight) // groups, -1)


def _shares(move: Move, constants: Constants) -> NDArray[np.float64]:
    """Return each channel's largest weight, relative to the largest of the weight's own output channel."""
    found = []
    for reader in move.readers:
        weight = constants.get(reader, 1)
        axis = 1 if reader.op_type != "Conv" and not _transposed(reader) else 0
        rows = np.abs(np.moveaxis(weight, axis, 0)).reshape(weight.shape[axis], -1).max(axis=1)
        groups = int(attribute(reader, "group", 1)) if reader.op_type == "Conv" else 1
        own = np.repeat(rows.reshape(groups, 1, -1), len(_by_input(reader, constants)) // groups, axis=1)
        largest = np.abs(_by_input(reader, constants)).max(axis=2)
        own = own.reshape(largest.shape)
        found.append(np.divide(largest, own, out=np.zeros_like(largest), where=own > 0).max(axis=1))
    shares: NDArray[np.float64] = np.max(found, axis=0).astype(np.float64)
    return shares


def _factor(largest: NDArray[np.float64], shares: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    top = float(largest.max())
    factor = np.ones_like(largest)
    live = (largest > 0) & (shares > 0)
    if not live.any():
        return factor
    size, share = np.maximum(largest[live], SMALLEST * top), np.maximum(shares[live], SMALLEST_SHARE)
    factor[live] = size**alpha / share ** (1 - alpha)
    factor[live] *= (size / factor[live]).max() / top
    clipped: NDArray[np.float64] = np.clip(factor, 1 / LARGEST_FACTOR, LARGEST_FACTOR)
    return clipped


def _move(move: Move, factor: NDArray[np.float64], constants: Constants) -> None:
    for position in (1, 2):
        if constants.has(move.source, position):
            values = constants.get(move.source, position)
            constants.put(move.source, position, values / factor.reshape(-1, *[1] * (values.ndim - 1)))
    for reader in move.readers:
        weight = constants.get(reader, 1)
        if reader.op_type == "Conv":
            groups = int(attribute(reader, "group", 1))
            by_group = weight.reshape(groups, len(weight) // groups, weight.shape[1], -1)
            constants.put(reader, 1, (by_group * factor.reshape(groups, 1, -1, 1)).reshape(weight.shape))
        else:
            constants.put(reader, 1, weight * (factor if _transposed(reader) else factor[:, None]))


def _transposed(reader: NodeProto) -> bool:
    """Whether a weight is (outputs, inputs)."""
    return bool(reader.op_type == "Gemm" and attribute(reader, "transB", 0))
