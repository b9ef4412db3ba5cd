"""The head of an adopted graph: detect what it outputs, and rewrite it to logits per class of the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from fqbench.contracts.probabilities import LEAST, PERCENT, log_odds, logarithms
from fqbench.contracts.task import PredictionTask, two_classes
from fqbench.models.adopt.graph import Editor
from fqbench.onnx_graph import attribute, origin, producers

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import NodeProto

Kind = Literal["logits", "softmax", "log_softmax", "sigmoid", "probabilities"]
LOGITS = "logits"
# They leave every number of an image as it is.
PASSING = frozenset({"Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Cast", "Dropout", "Transpose"})
# They take some of the numbers of an image.
SELECTING = frozenset({"Gather", "GatherElements", "Slice", "Split"})


@dataclass(frozen=True)
class Head:
    """The outputs of an adopted graph and their mapping to the classes of the data.

    Attributes
    ----------
    kind : str
        What the graph's last operator makes: ``logits``, ``softmax``, ``log_softmax``, ``sigmoid``; or
        ``probabilities``, where no operator says so but every answer is one.
    outputs : int
        Numbers per image.
    members : tuple of tuple of int
        For each class of the data, the graph's own classes that belong to it; empty where they are the same in the
        same order, or where one number stands for two classes.
    names : tuple of str
        Names of the graph's own classes, where they are known.
    task : PredictionTask
        Whether the data have classes or attributes.
    columns : tuple of int
        With attributes, the graph's own output of each; with two classes, the one output that tells them apart, if
        there are more outputs; else empty.
    whole : float
        What certainty is in its numbers, where they are probabilities: 100 for percent.
    """

    kind: Kind
    outputs: int
    members: tuple[tuple[int, ...], ...] = ()
    names: tuple[str, ...] = field(default=(), compare=False)
    task: PredictionTask = PredictionTask.CLASSES
    columns: tuple[int, ...] = ()
    whole: float = 1.0

    @property
    def binary(self) -> bool:
        """Whether one output stands for two classes."""
        return self.task is PredictionTask.CLASSES and (self.outputs == 1 or len(self.columns) == 1)

    @property
    def independent(self) -> bool:
        """Whether each output is a probability of its own, rather than one of several that sum to 1."""
        return self.binary or self.task is PredictionTask.ATTRIBUTES

    @property
    def text(self) -> str:
        """One line about the head."""
        made = {
            "logits": "logits",
            "softmax": "softmax in the graph, removed",
            "log_softmax": "log-softmax in the graph, removed",
            "sigmoid": "sigmoid in the graph, removed",
            "probabilities": "probabilities, turned into " + ("logits" if self.independent else "logarithms"),
        }[self.kind]
        if self.whole != 1:
            made = ("in percent: " if self.whole == PERCENT else f"times {self.whole:g}: ") + made
        if self.task is PredictionTask.ATTRIBUTES:
            return f"{self.outputs} outputs ({made}); {len(self.columns)} of them used as attributes"
        if self.binary:
            which = f"output {self.columns[0]} of {self.outputs}" if self.columns else "one number"
            return f"{which} for two classes ({made})"
        chosen = f"; {sum(map(len, self.members))} of them used" if self.members else ""
        return f"{self.outputs} classes ({made}{chosen})"

    def logits_of(self, answers: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the logits per class of the data that the original's outputs stand for, for the parity check."""
        values = np.asarray(answers, dtype=np.float64).reshape(len(answers), -1) / self.whole
        if self.kind == "sigmoid" or (self.kind == "probabilities" and self.independent):
            values = log_odds(values)
        elif self.kind in {"softmax", "probabilities"}:
            values = logarithms(values)
        if self.task is PredictionTask.ATTRIBUTES:
            return values[:, list(self.columns)]
        if self.binary:
            return two_classes(values[:, self.columns[0] if self.columns else 0])
        if self.members:
            columns = [np.logaddexp.reduce(values[:, list(group)], axis=1) for group in self.members]
            return np.stack(columns, axis=1)
        return values


@dataclass(frozen=True)
class Ending:
    """How a graph ends: the kind of its head, the value with the head's numbers, and what certainty is (`Head`)."""

    kind: Kind
    inner: str
    whole: float = 1.0


def read_ending(editor: Editor) -> Ending:
    """Return the kind of the last operator, and its input (the logits); factors of probabilities are passed over."""
    output = editor.graph.output[0].name
    name, whole = output, 1.0
    while (node := editor.maker(name)) is not None:
        if node.op_type in PASSING:
            name = node.input[0]
        elif (scaled := _scaled(editor, node)) is not None:
            name, whole = scaled[0], whole * scaled[1]
        else:
            break
    kind, inner = _normalized(editor, node) if node is not None else (None, "")
    whole = float(f"{whole:.6g}")  # a factor of 0.01 in float32 is percent, too
    if kind is not None and (kind != "log_softmax" or whole == 1):
        return Ending(kind, inner, whole)
    if _selected_from(editor, name) in {"Softmax", "Sigmoid"}:
        return Ending("probabilities", output, whole)
    return Ending("logits", output)


def is_one_logarithm(editor: Editor) -> bool:
    """Whether the output is a part of a log-softmax, or the logarithm of a sigmoid."""
    name = _source_of_output(editor)
    node = editor.maker(name)
    if node is not None and node.op_type == "Log":
        return _sigmoid_below(editor, node.input[0]) is not None
    return _selected_from(editor, name) == "LogSoftmax"


def _normalized(editor: Editor, node: NodeProto) -> tuple[Kind | None, str]:
    """Return what a node makes of logits, and the logits; None where it is something else."""
    kinds: dict[str, Kind] = {"Softmax": "softmax", "LogSoftmax": "log_softmax", "Sigmoid": "sigmoid"}
    if node.op_type in kinds:
        return kinds[node.op_type], node.input[0]
    if node.op_type == "Log" and (below := editor.maker(node.input[0])) is not None:
        inner = below.input[0] if below.op_type == "Softmax" else _spelt_softmax(editor, below)
        return (None, "") if inner is None else ("log_softmax", inner)
    inner = _spelt_softmax(editor, node)
    return (None, "") if inner is None else ("softmax", inner)


def _scaled(editor: Editor, node: NodeProto) -> tuple[str, float] | None:
    """Return the value that a node multiplies by one positive number, and that number."""
    if node.op_type not in {"Mul", "Div"}:
        return None
    for place in (1, 0) if node.op_type == "Mul" else (1,):
        values = editor.constant(node.input[place])
        if values is not None and values.size == 1 and np.isfinite(values).all() and values.item() > 0:
            factor = float(values.item())
            return node.input[1 - place], factor if node.op_type == "Mul" else 1 / factor
    return None


def _selected_from(editor: Editor, name: str) -> str:
    """Return the operator that made the numbers of which a value has some; empty where it is not a part."""
    found = False
    while (node := editor.maker(name)) is not None and node.op_type in PASSING | SELECTING:
        found = found or node.op_type in SELECTING
        name = node.input[0]
    return node.op_type if node is not None and found else ""


def join_sigmoids(editor: Editor) -> None:
    """Turn a concatenation of sigmoids, as models with one head per attribute end, into one sigmoid of all logits."""
    name = _source_of_output(editor)
    node = editor.maker(name)
    if node is None or node.op_type != "Concat":
        return
    inner = [_sigmoid_below(editor, part) for part in node.input]
    if None in inner:
        return
    del node.input[:]
    node.input.extend([part for part in inner if part is not None])
    node.output[0] = editor.fresh(f"{name}.logits")
    editor.rename(editor.add_node("Sigmoid", [node.output[0]], f"{name}.sigmoid"), name)
    editor.sort()
    editor.prune()


def _source_of_output(editor: Editor) -> str:
    """Return the value that the output is, behind operators that pass every number on."""
    return origin(editor.graph.output[0].name, producers(editor.graph), PASSING)


def _sigmoid_below(editor: Editor, name: str) -> str | None:
    node = editor.maker(name)
    return str(node.input[0]) if node is not None and node.op_type == "Sigmoid" else None


def _spelt_softmax(editor: Editor, node: NodeProto) -> str | None:
    """Return x of ``exp(x) / sum(exp(x))``, as older exporters wrote a softmax; the maximum may be subtracted first."""
    if node.op_type != "Div":
        return None
    top, bottom = editor.maker(node.input[0]), editor.maker(node.input[1])
    if top is None or bottom is None or top.op_type != "Exp" or bottom.op_type != "ReduceSum":
        return None
    return str(top.input[0]) if bottom.input[0] == top.output[0] else None


def rewrite(editor: Editor, head: Head, inner: str) -> None:
    """Rewrite the graph to output ``logits`` per class of the data, of shape (batch, classes).

    Parameters
    ----------
    editor : Editor
        The graph.
    head : Head
        What it gives.
    inner : str
        The value with the head's numbers, as `read_ending` found it.
    """
    name = inner
    if head.kind == "probabilities" and head.whole != 1:
        share = editor.add_constant(np.array(1 / head.whole, np.float32), "probability.share")
        name = editor.add_node("Mul", [name, share], "probabilities.shares")
    if head.kind == "probabilities" and head.independent:
        least, most = (editor.add_constant(np.array(v, np.float32), "probability.limit") for v in (LEAST, 1 - LEAST))
        clipped = editor.add_node("Clip", [name, least, most], "probabilities.clipped")
        one = editor.add_constant(np.array(1, np.float32), "probability.one")
        other = editor.add_node("Sub", [one, clipped], "probabilities.other")
        odds = editor.add_node("Div", [clipped, other], "probabilities.odds")
        name = editor.add_node("Log", [odds], "probabilities.logits")
    elif head.kind == "probabilities":
        least, most = (editor.add_constant(np.array(v, np.float32), "probability.limit") for v in (LEAST, 1.0))
        clipped = editor.add_node("Clip", [name, least, most], "probabilities.clipped")
        name = editor.add_node("Log", [clipped], "probabilities.log")
    name = _flat(editor, _past_dust(editor, name), head.outputs)
    rows = _rows(head)
    if rows is not None and not _fold(editor, name, rows):
        name = _appended(editor, name, head, rows)
    elif rows is None and head.members:
        name = _joined(editor, name, head.members)
    _make_output(editor, name)


def _rows(head: Head) -> list[tuple[int, float]] | None:
    """Return for each class of the data the one column it comes from and a factor; None where classes are joined."""
    if head.binary:
        which = head.columns[0] if head.columns else 0
        return [(which, -0.5), (which, 0.5)]  # their difference is the logit, and neither is a constant
    if head.task is PredictionTask.ATTRIBUTES:
        return [] if head.columns == tuple(range(head.outputs)) else [(which, 1.0) for which in head.columns]
    if head.members and all(len(group) == 1 for group in head.members):
        return [(group[0], 1.0) for group in head.members]
    return None if head.members else []


def _past_dust(editor: Editor, name: str) -> str:
    """Step back over operators that do not change rows of numbers."""
    while (node := editor.maker(name)) is not None and node.op_type in {"Identity", "Flatten"}:
        value = next((v for v in editor.graph.value_info if v.name == node.input[0]), None)
        if node.op_type == "Flatten" and (value is None or len(value.type.tensor_type.shape.dim) != 2):
            break
        name = node.input[0]
    return name


def _flat(editor: Editor, name: str, outputs: int) -> str:
    """Give a value the shape (batch, outputs), unless the operator before it gives that shape already."""
    node = editor.maker(name)
    if node is not None and node.op_type in {"Gemm", "Flatten"}:
        return name
    value = next((v for v in (*editor.graph.value_info, *editor.graph.output) if v.name == name), None)
    if value is not None and len(value.type.tensor_type.shape.dim) == 2:
        return name
    shape = editor.add_constant(np.array([-1, outputs], dtype=np.int64), f"{name}.shape")
    return editor.add_node("Reshape", [name, shape], f"{name}.flat")


def _fold(editor: Editor, name: str, rows: Sequence[tuple[int, float]]) -> bool:
    """Select rows of the weights of the last operator, if it is a Gemm (or MatMul and Add) with constants."""
    if not rows:
        return True
    node = editor.maker(name)
    if node is None or len(editor.readers(name)) > 1 or (editor.readers(name) and editor.is_output(name)):
        return False
    parts: list[tuple[str, int]] = []
    if node.op_type == "Add":
        bias = next((other for other in node.input if editor.constant(other) is not None), None)
        rest = next((other for other in node.input if other != bias), None)
        product = editor.maker(rest) if rest is not None else None
        if bias is None or product is None or product.op_type != "MatMul" or len(editor.readers(product.output[0])) > 1:
            return False
        parts, node = [(bias, -1)], product
    if node.op_type == "Gemm":
        parts.append((node.input[1], 0 if attribute(node, "transB", 0) else 1))
        parts += [(node.input[2], -1)] if len(node.input) > 2 and node.input[2] else []
    elif node.op_type == "MatMul":
        parts.append((node.input[1], 1))
    else:
        return False
    return _take(editor, parts, rows)


def _take(editor: Editor, parts: Sequence[tuple[str, int]], rows: Sequence[tuple[int, float]]) -> bool:
    """Choose and scale rows of weights and bias in place; do nothing if one is shared or not constant."""
    constants = {name: editor.constant(name) for name, _ in parts}
    if any(values is None or len(editor.readers(name)) != 1 for name, values in constants.items()):
        return False
    size = max(values.shape[axis] for (name, axis) in parts if (values := constants[name]) is not None and values.ndim)
    for name, axis in parts:
        values = constants[name]
        if values is None or (values.ndim and values.shape[axis] not in {1, size}):
            return False
        if not values.ndim or values.shape[axis] != size:
            values = np.broadcast_to(values, (*values.shape[:-1], size))
        factors = np.array([factor for _, factor in rows], dtype=np.float32)
        shape = [1] * values.ndim
        shape[axis] = len(rows)
        taken = np.take(values, [row for row, _ in rows], axis=axis) * factors.reshape(shape)
        editor.set_constant(name, taken.astype(np.float32))
    return True


def _appended(editor: Editor, name: str, head: Head, rows: Sequence[tuple[int, float]]) -> str:
    if head.binary:
        if head.outputs > 1:
            which = editor.add_constant(np.array(head.columns, np.int64), "classes.chosen")
            name = editor.add_node("Gather", [name, which], "classes.one", axis=1)
        factors = editor.add_constant(np.array([[factor for _, factor in rows]], np.float32), "classes.signs")
        return editor.add_node("Mul", [name, factors], "classes.both")
    chosen = editor.add_constant(np.array([row for row, _ in rows], np.int64), "classes.chosen")
    return editor.add_node("Gather", [name, chosen], "classes.of_data", axis=1)


def _joined(editor: Editor, name: str, members: Sequence[Sequence[int]]) -> str:
    """Join classes: the logarithm of the sum of the exponentials is the logit of their union."""
    columns = []
    axes = editor.add_constant(np.array([1], np.int64), "classes.axis")
    for number, group in enumerate(members):
        chosen = editor.add_constant(np.array(group, np.int64), f"class{number}.members")
        part = editor.add_node("Gather", [name, chosen], f"class{number}.logits", axis=1)
        columns.append(editor.add_node("ReduceLogSumExp", [part, axes], f"class{number}.joined", keepdims=1))
    return editor.add_node("Concat", columns, "classes.joined", axis=1)


def _make_output(editor: Editor, name: str) -> None:
    """Make a value the only output, under the name ``logits``."""
    from onnx import TensorProto, helper

    del editor.graph.output[:]
    if editor.maker(name) is None:
        name = editor.add_node("Identity", [name], "classes.same")
    if name != LOGITS:
        taken = editor.fresh(LOGITS)
        if taken != LOGITS:
            editor.rename(LOGITS, taken)
        editor.rename(name, LOGITS)
    editor.graph.output.append(helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, None))
    editor.prune()
