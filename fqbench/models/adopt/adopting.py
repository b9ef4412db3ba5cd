"""Adopt a user's ONNX classifier: normalise its graph, and compare it with the original on real images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.config import Preprocessing
from fqbench.contracts.probabilities import are_independent, whole_of
from fqbench.data.images import normalize
from fqbench.errors import DataError, InputError
from fqbench.models.adopt import shapes
from fqbench.models.adopt.classes import Meaning, columns_of, members_of
from fqbench.models.adopt.graph import Editor, dimensions
from fqbench.models.adopt.heads import Head, is_one_logarithm, read_ending, rewrite
from fqbench.models.adopt.inputs import normalise
from fqbench.models.adopt.loading import OPSET
from fqbench.models.adopt.source import Source, first_line
from fqbench.models.export import MODEL, head_name, write
from fqbench.models.graph_names import name_missing
from fqbench.onnx_graph import opset_of
from fqbench.reference_executor import reference_session

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto

VERSION = 3
TOLERANCE, HALF_TOLERANCE = 1e-4, 2e-2
CONSTANT = (
    "! all of these images have the same answer, to the last bit; check --scale-pixels, --mean, --std and --output, "
    "and that the file holds trained weights."
)


@dataclass(frozen=True)
class Adopted:
    """An adopted classifier.

    Attributes
    ----------
    preprocessing : Preprocessing
        From a picture to the normal input.
    facts : dict
        For the manifest: what was found, what was changed, and the parity with the original.
    constant : bool
        Whether different images have the same answer, to the last bit.
    """

    preprocessing: Preprocessing
    facts: dict[str, Any]
    constant: bool = False

    @property
    def summary(self) -> tuple[str, ...]:
        """What the user should know, one line each."""
        found = self.facts["adoption"]
        lines = (
            f"input: {found['input']}; head: {found['head']}; batch: {found['batch']}",
            f"the adopted graph agrees with the original to {self.facts['parity_max_abs']:.1e} ({found['parity_of']}) "
            f"on {self.facts['parity_images']} images",
        )
        return (*lines, CONSTANT) if self.constant else lines


def adopt(source: Source, pixels: NDArray[np.uint8], meaning: Meaning, out: Path) -> Adopted:
    """Normalise a user's classifier, compare it with the original, and write it as ``model.onnx``.

    Parameters
    ----------
    source : Source
        What `read_source` read.
    pixels : ndarray of uint8, shape (n, height, width, 3)
        Pictures of the data, as prepared; the more there are, the more the parity says.
    meaning : Meaning
        Classes or attributes of the data, and what is said about the outputs.
    out : Path
        Existing directory.

    Raises
    ------
    InputError
        The classes do not fit, or the graph cannot be normalised.
    DataError
        The normalised graph answers differently from the original.
    """
    answers = source.answers(pixels)
    head = find_head(source, answers, meaning)
    worst: tuple[float, str] | None = None
    reason = ""
    for free, candidate in _candidates(source):
        try:
            model, preprocessing, absorbed = finished(candidate(), source, head)
            logits = run(model, normalize(pixels, preprocessing), free=free)
        except InputError:
            raise
        except Exception as error:  # a graph that cannot take another batch; the next candidate has its own
            reason = first_line(error)
            continue
        difference, of = compare(head, answers, logits)
        limit = (HALF_TOLERANCE if source.half else TOLERANCE) * max(1.0, _extent(head, answers))
        if difference <= limit:
            name_missing(model.graph.node)
            files = write(model, out / MODEL, preprocessing, meaning.classes, task=meaning.task)
            facts = {
                "opset": OPSET,
                "head": head_name(out / MODEL),
                "files": files,
                "batch": None if free else 1,
                "parity_max_abs": difference,
                "parity_images": len(pixels),
                "adopted_from": str(source.path),
                "adoption": _found(source, head, free, absorbed) | {"parity_of": of},
            }
            return Adopted(preprocessing, facts, _are_alike(answers) and not _are_alike(pixels))
        worst = min(worst or (difference, of), (difference, of))
    if worst is None:
        raise InputError(
            f"{source.path} cannot be run one image at a time, nor with a free batch ({reason}); export it with a "
            "dynamic batch."
        )
    raise DataError(
        f"the normalised graph of {source.path} differs from the original by up to {worst[0]:.2g} ({worst[1]}); export "
        f"it again with opset {OPSET} and a dynamic batch, or report it with the file."
    )


def find_head(source: Source, answers: NDArray[np.float32], meaning: Meaning) -> Head:
    """Return the graph's output and the mapping of its outputs to the classes or attributes of the data.

    Raises
    ------
    InputError
        The classes do not fit.
    """
    ending = read_ending(Editor(source.model))
    kind, whole = ending.kind, ending.whole
    outputs = answers.shape[1]
    columns = columns_of(outputs, source.names, meaning, source.path)
    if columns:
        return _independent(source, kind, answers, Head(kind, outputs, (), source.names, meaning.task, columns, whole))
    if kind == "logits" and (found := whole_of(answers)) is not None:
        kind, whole = "probabilities", found
    if kind in {"softmax", "log_softmax"} and outputs == 1:
        raise InputError(f"{source.path} takes a softmax of one number, which is always 1; export it with a sigmoid.")
    if kind == "logits" and outputs == 1:
        _refuse_logarithms(source)
    if kind == "logits" and outputs == 1 and are_independent(answers):
        kind = "probabilities"
    members = members_of(outputs, source.names, meaning.classes, meaning.class_map, source.path)
    return Head(kind, outputs, members, source.names, whole=whole)


def _independent(source: Source, kind: str, answers: NDArray[np.float32], head: Head) -> Head:
    """Check that outputs can be taken one by one: each has to be a logit or a probability of its own."""
    if kind in {"softmax", "log_softmax"}:
        raise InputError(
            f"{source.path} ends in a softmax over its {head.outputs} outputs, which is one answer per image; several "
            "attributes, and --column, need a sigmoid for each: leave --column out, or give one --label."
        )
    if kind == "logits":
        _refuse_logarithms(source)
    used = answers[:, list(head.columns)]
    return replace(head, kind="probabilities") if kind == "logits" and are_independent(used) else head


def _refuse_logarithms(source: Source) -> None:
    if is_one_logarithm(Editor(source.model)):
        raise InputError(
            f"{source.path} answers with the logarithm of one probability, which is never above 0; choose what it is "
            "taken from with --output NAME."
        )


def finished(candidate: ModelProto, source: Source, head: Head) -> tuple[ModelProto, Preprocessing, int]:
    """Return a folded graph with the normal input and logits, its preprocessing, and how many operators went."""
    editor = Editor(shapes.inferred(candidate))
    rewrite(editor, head, read_ending(editor).inner)
    mean, std, absorbed = normalise(editor, source.convention)
    preprocessing = source.geometry.model_copy(update={"mean": mean, "std": std})
    model = shapes.inferred(editor.model)
    shapes.require_known_shapes(model, source.path)
    return model, preprocessing, absorbed


def run(model: ModelProto, images: NDArray[np.float32], *, free: bool) -> NDArray[np.float32]:
    """Run a normalised graph: all images at once and the first one alone, which must agree; or one by one."""
    session = reference_session(model.SerializeToString(), quiet=True)
    name = session.get_inputs()[0].name
    if not free:
        return np.concatenate([session.run(None, {name: image[None]})[0] for image in images])
    logits: NDArray[np.float32] = session.run(None, {name: images})[0]
    alone: NDArray[np.float32] = session.run(None, {name: images[:1]})[0]
    if logits.shape[0] != len(images) or not np.allclose(alone, logits[:1], rtol=1e-3, atol=1e-3):
        raise ValueError("an image's output depends on the other images in its batch")
    return logits


def compare(head: Head, answers: NDArray[np.float32], logits: NDArray[np.float32]) -> tuple[float, str]:
    """Return the largest difference between the original's outputs and ours, and what it is a difference of."""
    expected = head.logits_of(answers)
    if logits.shape != expected.shape:
        return float("inf"), f"shape {list(logits.shape)} in place of {list(expected.shape)}"
    if head.kind == "logits":
        return float(np.abs(logits - expected).max()), "logits"
    found, wanted = (head.task.probabilities(values) for values in (logits, expected))
    return float(np.abs(found - wanted).max()), "probabilities"


def _are_alike(values: NDArray[Any]) -> bool:
    return bool((values == values[0]).all())


def _extent(head: Head, answers: NDArray[np.float32]) -> float:
    return float(np.abs(answers).max()) if head.kind == "logits" else 1.0


def _candidates(source: Source) -> Iterator[tuple[bool, Any]]:
    """Yield candidates, best first: whether the batch is free, and a function that makes the graph.

    With the batch fixed, all arithmetic on shapes folds into constants, which are then freed; where that is not exact,
    the graph stays as it was exported, or takes one image at a time.
    """

    def at(batch: int | str) -> ModelProto:
        model = type(source.model).FromString(source.model.SerializeToString())
        shape = dimensions(model.graph.input[0])
        shapes.set_input_shape(model, (batch, *shape[1:]))
        return shapes.folded(model)

    yield True, lambda: shapes.freed(at(source.batch or 2))
    if source.batch is None:
        yield True, lambda: at(shapes.BATCH)
    yield False, lambda: at(1)


def _found(source: Source, head: Head, free: bool, absorbed: int) -> dict[str, Any]:
    fixed = f"fixed to {source.batch} in the file" if source.batch else "free in the file"
    names = f", by {'names' if head.members and head.names else 'position'}" if not head.independent else ""
    return {
        "opset": opset_of(source.original),
        "input": source.convention.text,
        "stated_in": list(source.sources),
        "head": head.text + names,
        "batch": f"{fixed}, {'free' if free else 'one image at a time'} here",
        "absorbed_operators": absorbed,
    }
