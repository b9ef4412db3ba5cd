"""The input of an adopted graph: its layout, channels and preprocessing, rewritten to one normal input."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fqbench.models.adopt.graph import FLOAT, Editor, dimensions
from fqbench.onnx_graph import attribute

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import NodeProto

IMAGES = "images"
LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as Pillow and OpenCV turn colours into grey
SPATIAL = ("N", "C", "H", "W")


@dataclass(frozen=True)
class Convention:
    """How a picture becomes the input of a user's model.

    Attributes
    ----------
    layout : str
        ``nchw`` or ``nhwc``.
    channels : str
        ``rgb``, ``bgr`` or ``gray``.
    scale : int
        1 where pixel values run from 0 to 1, 255 where they run from 0 to 255.
    mean, std : tuple of 3 float
        Taken off and divided by, in units of the scaled values and in the order of ``channels``.
    dtype : str
        Of the input, as numpy names it.
    """

    layout: Literal["nchw", "nhwc"] = "nchw"
    channels: Literal["rgb", "bgr", "gray"] = "rgb"
    scale: int = 1
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    dtype: str = "float32"

    def tensor(self, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        """Return the model's own input for pictures, uint8 (N, H, W, 3)."""
        values = pixels.astype(np.float64) * (self.scale / 255.0)
        if self.channels == "bgr":
            values = values[..., ::-1]
        elif self.channels == "gray":
            values = (values @ np.array(LUMA))[..., None]
        count = values.shape[-1]
        values = (values - np.array(self.mean[:count])) / np.array(self.std[:count])
        if self.layout == "nchw":
            values = values.transpose(0, 3, 1, 2)
        if np.dtype(self.dtype).kind in "iu":
            values = np.rint(values)
        return np.ascontiguousarray(values.astype(self.dtype))

    @property
    def text(self) -> str:
        """One line about the convention."""
        span = "0 to 1" if self.scale == 1 else "0 to 255"
        normal = "not normalized" if self.mean == (0, 0, 0) and self.std == (1, 1, 1) else "normalized"
        return f"{self.layout.upper()}, {self.channels.upper()}, {self.dtype}, pixel values {span}, {normal}"


@dataclass(frozen=True)
class _State:
    """A value at the start of the graph that is still a picture, with its layout, scale and shift."""

    name: str
    axes: tuple[str, ...]
    colour: tuple[int, ...]
    scale: NDArray[np.float64]
    shift: NDArray[np.float64]
    kind: int

    @property
    def channel_axis(self) -> int:
        return self.axes.index("C")


def normalise(
    editor: Editor, convention: Convention
) -> tuple[tuple[float, float, float], tuple[float, float, float], int]:
    """Replace the input by ``images``: float32 (batch, 3, H, W), RGB, normalized by a mean and a std that are returned.

    Operators at the head that only prepare the picture (casts, transposes, reordered channels, constants per channel)
    are taken out of the graph; what is left of them is in the returned mean and std, or in the first weights.

    Parameters
    ----------
    editor : Editor
        The graph, with the author's own input.
    convention : Convention
        What that input is.

    Returns
    -------
    mean, std : tuple of 3 float
        Per channel (RGB), in units of value / 255.
    absorbed : int
        How many operators were taken out.
    """
    given = editor.input
    state, absorbed = _start(given.name, given.type.tensor_type.elem_type, convention), 0
    while (after := _step(editor, state)) is not None:
        state, absorbed = after, absorbed + 1
    mean = [0.0, 0.0, 0.0]
    std = [1.0, 1.0, 1.0]
    for position in range(3):
        source = 0 if len(state.colour) == 1 else state.colour.index(position)
        std[position] = float(1 / state.scale[source])
        mean[position] = float(-state.shift[source] / state.scale[source])
    _connect(editor, state, convention)
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2]), absorbed


def _start(name: str, kind: int, convention: Convention) -> _State:
    axes = SPATIAL if convention.layout == "nchw" else ("N", "H", "W", "C")
    colour = {"rgb": (0, 1, 2), "bgr": (2, 1, 0), "gray": (0,)}[convention.channels]
    std = np.array(convention.std[: len(colour)], dtype=np.float64)
    mean = np.array(convention.mean[: len(colour)], dtype=np.float64)
    return _State(name, axes, colour, convention.scale / std, -mean / std, kind)


def _step(editor: Editor, state: _State) -> _State | None:
    """Continue after the only operator that reads this value, if it only prepares the picture."""
    readers = editor.readers(state.name)
    if len(readers) != 1 or editor.is_output(state.name) or list(readers[0].input).count(state.name) != 1:
        return None
    node = readers[0]
    found: _State | None = None
    if node.op_type in {"Identity", "Dropout"}:
        found = state
    elif node.op_type == "Cast":
        found = replace(state, kind=FLOAT) if attribute(node, "to") == FLOAT else None
    elif node.op_type == "Transpose":
        found = _transposed(node, state)
    elif node.op_type in {"Gather", "Slice"}:
        found = _reordered(editor, node, state)
    elif node.op_type == "BatchNormalization":
        found = _batch_normalized(editor, node, state)
    elif node.op_type in {"Add", "Sub", "Mul", "Div"}:
        found = _scaled(editor, node, state)
    if found is None or not (np.isfinite(found.scale).all() and np.isfinite(found.shift).all()):
        return None
    return replace(found, name=node.output[0]) if (found.scale > 0).all() else None


def _transposed(node: NodeProto, state: _State) -> _State | None:
    order = attribute(node, "perm", [3, 2, 1, 0])
    axes = tuple(state.axes[position] for position in order)
    return replace(state, axes=axes) if axes[0] == "N" else None


def _reordered(editor: Editor, node: NodeProto, state: _State) -> _State | None:
    """Follow channels that change their order."""
    count, axis = len(state.colour), state.channel_axis
    if node.op_type == "Gather":
        chosen = editor.constant(node.input[1])
        if chosen is None or chosen.ndim != 1 or attribute(node, "axis", 0) % 4 != axis:
            return None
        order = [int(index) % count for index in chosen]
    else:
        parts = [editor.constant(name) for name in node.input[1:]]
        if any(part is None or part.shape != (1,) for part in parts) or len(parts) < 3:
            return None
        start, end, along, *step = (int(part[0]) for part in parts if part is not None)
        if along % 4 != axis:
            return None
        order = list(range(count))[slice(start, end if end >= -count else None, *step)]
    if sorted(order) != list(range(count)):
        return None
    colour = tuple(state.colour[index] for index in order)
    return replace(state, colour=colour, scale=state.scale[order], shift=state.shift[order])


def _batch_normalized(editor: Editor, node: NodeProto, state: _State) -> _State | None:
    parts = [editor.constant(name) for name in node.input[1:5]]
    if state.channel_axis != 1 or any(part is None for part in parts) or state.kind != FLOAT:
        return None
    gamma, beta, mean, variance = (np.asarray(part, dtype=np.float64) for part in parts)
    factor = gamma / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
    return replace(state, scale=state.scale * factor, shift=(state.shift - mean) * factor + beta)


def _scaled(editor: Editor, node: NodeProto, state: _State) -> _State | None:
    """Follow the addition, subtraction, multiplication or division of a constant per channel."""
    first = node.input[0] == state.name
    constant = editor.constant(node.input[1] if first else node.input[0])
    values = None if constant is None or state.kind != FLOAT else _per_channel(constant, state)
    if values is None:
        return None
    scale, shift = state.scale, state.shift
    if node.op_type == "Add":
        return replace(state, shift=shift + values)
    if node.op_type == "Sub":
        return replace(state, shift=shift - values) if first else replace(state, scale=-scale, shift=values - shift)
    if node.op_type == "Mul":
        return replace(state, scale=scale * values, shift=shift * values)
    if not first or not values.all():
        return None
    return replace(state, scale=scale / values, shift=shift / values)


def _per_channel(constant: NDArray[Any], state: _State) -> NDArray[np.float64] | None:
    """Return a constant as one number per channel, if it broadcasts to that."""
    if constant.ndim > 4:
        return None
    shape = (1,) * (4 - constant.ndim) + constant.shape
    count = len(state.colour)
    sizes = [count if axis == state.channel_axis else 1 for axis in range(4)]
    if any(size not in {1, allowed} for size, allowed in zip(shape, sizes, strict=True)):
        return None
    return np.broadcast_to(constant.reshape(-1).astype(np.float64), (count,)).copy()


def _connect(editor: Editor, state: _State, convention: Convention) -> None:
    """Put the normal input where the prepared picture was."""
    from onnx import TensorProto, helper

    height, width = _extent(editor, convention)
    batch = dimensions(editor.input)[0]
    taken = editor.fresh(IMAGES)
    if taken != IMAGES:
        editor.rename(IMAGES, taken)
    inner = taken if state.name == IMAGES else state.name
    readers = editor.readers(inner)
    del editor.graph.input[:]
    editor.graph.input.append(helper.make_tensor_value_info(IMAGES, TensorProto.FLOAT, [batch, 3, height, width]))
    name = IMAGES
    if state.colour != (0, 1, 2) and not _fold_channels(editor, inner, readers, state):
        name = _mixed(editor, name, state.colour)
    if state.axes != SPATIAL:
        name = editor.add_node("Transpose", [name], "images.layout", perm=[SPATIAL.index(axis) for axis in state.axes])
    if state.kind != FLOAT:
        rounded = editor.add_node("Round", [name], "images.whole")
        name = editor.add_node("Cast", [rounded], "images.cast", to=state.kind)
    editor.redirect(inner, name)
    editor.sort()
    editor.prune()


def _extent(editor: Editor, convention: Convention) -> tuple[int, int]:
    sizes = dimensions(editor.input)
    rows, columns = sizes[2:] if convention.layout == "nchw" else sizes[1:3]
    assert isinstance(rows, int)  # noqa: S101  # sizes were fixed before
    assert isinstance(columns, int)  # noqa: S101
    return rows, columns


def _fold_channels(editor: Editor, inner: str, readers: list[NodeProto], state: _State) -> bool:
    """Reorder (or, for grey, weigh) the input channels of the convolutions that read the picture."""
    if state.axes != SPATIAL or state.kind != FLOAT or not readers:
        return False
    for node in readers:
        plain = node.op_type == "Conv" and node.input[0] == inner and attribute(node, "group", 1) == 1
        if not plain or editor.constant(node.input[1]) is None or len(editor.readers(node.input[1])) != 1:
            return False
    for node in readers:
        weight = editor.constant(node.input[1])
        assert weight is not None  # noqa: S101  # checked above
        if len(state.colour) == 1:
            luma = np.array(LUMA, dtype=np.float32).reshape(1, 3, *([1] * (weight.ndim - 2)))
            changed = weight * luma
        else:
            changed = weight[:, [state.colour.index(position) for position in range(3)]]
        editor.set_constant(node.input[1], changed.astype(np.float32))
    return True


def _mixed(editor: Editor, name: str, colour: tuple[int, ...]) -> str:
    if len(colour) == 1:
        luma = editor.add_constant(np.array(LUMA, dtype=np.float32).reshape(1, 3, 1, 1), "images.luma")
        return editor.add_node("Conv", [name, luma], "images.gray")
    chosen = editor.add_constant(np.array(colour, dtype=np.int64), "images.order")
    return editor.add_node("Gather", [name, chosen], "images.reordered", axis=1)
