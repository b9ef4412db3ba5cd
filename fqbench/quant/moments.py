"""Second moments of the inputs of each weight of an FP32 graph, per group, for data-driven rounding."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.onnx_graph import attribute, with_outputs
from fqbench.quant.observe import groups_of
from fqbench.quant.weights import Weight, weights_of
from fqbench.reference_executor import reference_session
from fqbench.reporter import Reporter, Silent

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

    from fqbench.quant.calibration import CalibrationSet

MEMORY = 2**30  # bytes of matrices that are kept at a time
BLOCK = 1024  # inputs of a row whose moments with each other are kept
POSITIONS = 256  # of an image, at which a convolution or a layer over tokens is looked at


@dataclass(frozen=True)
class InputMoments:
    """Second moments of the inputs of one weight, one set per demographic group.

    Attributes
    ----------
    weight : str
        Name of the weight's initializer.
    groups : tuple of str
        In the order of the arrays.
    images : ndarray of int64, shape (groups,)
        Images of each group.
    blocks : tuple of ndarray, shape (groups, convolution groups, n, n)
        Sum over images of the mean over positions of the inputs' products, for the inputs of a row block after
        block. More than one block where a row has more than `BLOCK` inputs, or where memory asks for smaller ones;
        moments between blocks are not kept.
    """

    weight: str
    groups: tuple[str, ...]
    images: NDArray[np.int64]
    blocks: tuple[NDArray[Any], ...]

    def weighted(self, image_weights: Mapping[str, float]) -> list[NDArray[np.float64]]:
        """Return the mean moments over images, for `fqbench.quant.rounding.round_rows`.

        Parameters
        ----------
        image_weights : mapping
            How much one image of each group counts, as `fqbench.quant.ranges.TensorRanges` has it.
        """
        weights = np.array([image_weights[group] for group in self.groups])
        weights /= self.images @ weights
        return [np.tensordot(weights, block, axes=1) for block in self.blocks]


def input_moments(
    model: ModelProto,
    calibration: CalibrationSet,
    *,
    weights: Collection[str] | None = None,
    memory: int = MEMORY,
    threads: int | None = None,
    reporter: Reporter | None = None,
) -> Iterator[InputMoments]:
    """Run the FP32 graph over the calibration images and yield the moments of each weight's inputs.

    Images are run one by one, so that nothing depends on a batch size, in the order of their groups. All layers are
    done in one pass where their matrices fit into `memory`, and otherwise in as few passes as possible, each over
    some of the layers. A weight that several operators share has the moments of the first of them.

    Parameters
    ----------
    model : ModelProto
        Cleaned (`fqbench.quant.graph.cleaned`), and perhaps rescaled.
    calibration : CalibrationSet
        The images, and the group of each.
    weights : collection of str, optional
        Names of the weights to look at; all of Conv with two spatial dimensions, Gemm and MatMul by default.
    memory : int
        Bytes of matrices at a time, for all groups together; a layer with more has smaller blocks. Beside them, the
        inputs of one image at `POSITIONS` positions of one layer, and its activations, are held.
    threads : int, optional
        Of the runtime; all cores by default.
    reporter : Reporter, optional
        Shown progress.

    Raises
    ------
    DataError
        A group has no image.
    """
    groups, codes = groups_of(calibration)
    order = np.argsort(codes, kind="stable")
    images = np.bincount(codes, minlength=len(groups))
    layers = [
        _Layer(weight, len(groups), memory)
        for weight in weights_of(model)
        if _usable(weight) and (weights is None or weight.name in weights)
    ]
    passes = list(_passes(layers, memory))
    with (reporter or Silent()).track("input moments", len(order) * len(passes), "images") as advance:
        for part in passes:
            session = _Session(model, part, threads)
            for row in order:
                inputs = session.run(calibration.images.batch(calibration.rows[row : row + 1]))
                for layer in part:
                    layer.add(inputs[layer.source], int(codes[row]))
                advance(1)
            while part:
                layer = part.pop(0)  # its matrices are freed when the caller has done with them
                layer.settle()
                yield InputMoments(layer.weight.name, groups, images, tuple(layer.sums))


class _Layer:
    """Adds up the moments of one weight's inputs."""

    def __init__(self, weight: Weight, groups: int, memory: int) -> None:
        self.weight = weight
        self.source = weight.node.input[0]
        self.groups = groups
        self.convolution_groups = int(attribute(weight.node, "group", 1))
        inputs: int = weight.rows.shape[1]
        self.taps: int = math.prod(weight.values.shape[2:]) if weight.node.op_type == "Conv" else 1
        affordable = memory // (8 * groups * self.convolution_groups * inputs)
        count = math.ceil(inputs / max(self.taps, min(BLOCK, affordable) // self.taps * self.taps))
        size = math.ceil(inputs / self.taps / count) * self.taps
        self.bounds = [(start, min(start + size, inputs)) for start in range(0, inputs, size)]
        self._waiting: list[NDArray[np.float32]] = []
        self._group = 0

    @property
    def bytes(self) -> int:
        squares = sum((end - start) * (end - start) for start, end in self.bounds)
        return 8 * self.groups * self.convolution_groups * squares

    @cached_property
    def sums(self) -> list[NDArray[np.float64]]:
        shapes = [(self.groups, self.convolution_groups, end - start, end - start) for start, end in self.bounds]
        return [np.zeros(shape) for shape in shapes]

    def add(self, given: NDArray[np.float32], group: int) -> None:
        """Add the inputs of one image; images come in the order of their groups."""
        if self.weight.node.op_type == "Conv":
            inputs = _patches(given[0], self.weight.values.shape[2:], self.weight.node)
        else:
            by_channel = given.reshape(-1, given.shape[-1]).T
            inputs = by_channel[:, _positions(by_channel.shape[1], 1)]
        inputs = inputs.reshape(self.convolution_groups, -1, inputs.shape[-1])
        if self._waiting and (group != self._group or inputs.shape != self._waiting[0].shape):
            self.settle()
        self._group = group
        self._waiting.append(inputs)
        if len(self._waiting) * inputs.shape[-1] >= POSITIONS:
            self.settle()

    def settle(self) -> None:
        """Multiply the inputs that wait: maps are small, and one product of several images costs less than several."""
        if not self._waiting:
            return
        inputs, of_an_image = np.concatenate(self._waiting, axis=2), self._waiting[0].shape[2]
        for sums, (start, end) in zip(self.sums, self.bounds, strict=True):
            part = inputs[:, start:end]
            sums[self._group] += part @ np.swapaxes(part, 1, 2) / np.float32(of_an_image)
        self._waiting.clear()


class _Session:
    def __init__(self, model: ModelProto, layers: Sequence[_Layer], threads: int | None) -> None:
        self._input = model.graph.input[0].name
        self._wanted = [name for name in dict.fromkeys(layer.source for layer in layers) if name != self._input]
        self._session = reference_session(with_outputs(model, self._wanted).SerializeToString(), threads=threads)

    def run(self, image: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        outputs = self._session.run(self._wanted, {self._input: image}) if self._wanted else []
        return {self._input: image, **dict(zip(self._wanted, outputs, strict=True))}


def _usable(weight: Weight) -> bool:
    if weight.node.op_type == "Conv":
        return weight.values.ndim == 4
    return not attribute(weight.node, "transA", 0)


def _passes(layers: Sequence[_Layer], memory: int) -> Iterator[list[_Layer]]:
    part: list[_Layer] = []
    for layer in layers:
        if part and sum(other.bytes for other in part) + layer.bytes > memory:
            yield part
            part = []
        part.append(layer)
    if part:
        yield part


def _positions(count: int, width: int) -> NDArray[np.int64]:
    """Choose at most `POSITIONS` positions, evenly; the step and the rows' width share no divisor."""
    step = math.ceil(count / POSITIONS)
    while step > 1 and math.gcd(step, width) > 1:
        step += 1
    return np.arange(0, count, step)


def _patches(image: NDArray[np.float32], kernel: Sequence[int], node: NodeProto) -> NDArray[np.float32]:
    """Return the image columns that a convolution multiplies by its kernel (im2col): (channels * taps, positions)."""
    strides, dilations = attribute(node, "strides", [1, 1]), attribute(node, "dilations", [1, 1])
    spans = [dilation * (size - 1) + 1 for dilation, size in zip(dilations, kernel, strict=True)]
    padded = np.pad(image, [(0, 0), *_pads(image.shape[1:], spans, strides, node)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, spans, axis=(1, 2))
    windows = windows[:, :: strides[0], :: strides[1], :: dilations[0], :: dilations[1]]
    height, width = windows.shape[1:3]
    rows, columns = np.divmod(_positions(height * width, width), width)
    met = np.moveaxis(windows[:, rows, columns], 1, -1)
    patches: NDArray[np.float32] = np.ascontiguousarray(met).reshape(-1, len(rows))
    return patches


def _pads(size: Sequence[int], spans: Sequence[int], strides: Sequence[int], node: NodeProto) -> list[tuple[int, int]]:
    automatic = attribute(node, "auto_pad", b"NOTSET").decode()
    if automatic in {"SAME_UPPER", "SAME_LOWER"}:
        pads = []
        for length, span, stride in zip(size, spans, strides, strict=True):
            whole = max((math.ceil(length / stride) - 1) * stride + span - length, 0)
            less, more = whole // 2, whole - whole // 2
            pads.append((less, more) if automatic == "SAME_UPPER" else (more, less))
        return pads
    given = attribute(node, "pads", [0, 0, 0, 0]) if automatic == "NOTSET" else [0, 0, 0, 0]
    return [(given[0], given[2]), (given[1], given[3])]
