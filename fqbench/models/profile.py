"""What a classifier costs: parameters, operations, memory, and the operators of its exported graph."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.errors import InputError, did_you_mean
from fqbench.models import zoo
from fqbench.models.export import trace
from fqbench.models.graph_names import head_of
from fqbench.models.preprocessing import preprocessing_of
from fqbench.optional import require

if TYPE_CHECKING:
    import torch
    from torch import nn

BYTES_A_WEIGHT = 4


@dataclass(frozen=True)
class ListedModel:
    """A classifier: name, library, its name there, input size where known, and whether it is one of the study's."""

    name: str
    library: str
    entry: str
    size: int | None
    study: bool


@dataclass(frozen=True)
class Profile:
    """What a classifier costs, for one image.

    Attributes
    ----------
    name, library, entry : str
        See `zoo.Architecture`.
    size, classes : int
        Height and width of the input, number of logits.
    parameters : int
        Trainable numbers.
    weight_bytes : int
        Of parameters and buffers in FP32.
    flops : int
        Floating-point operations of convolutions and matrix products, two for each multiply-accumulate.
    activation_bytes : int
        Outputs of all layers together in FP32: what training keeps.
    largest_layer_bytes : int
        Inputs and outputs of the layer that has most: what inference needs at least.
    head : str
        Node of the graph that computes the classes.
    operators : dict
        How many nodes of each operator the exported graph has, most frequent first.
    """

    name: str
    library: str
    entry: str
    size: int
    classes: int
    parameters: int
    weight_bytes: int
    flops: int
    activation_bytes: int
    largest_layer_bytes: int
    head: str
    operators: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def list_models(pattern: str | None = None) -> list[ListedModel]:
    """Return the study's models, or every classifier of timm and torchvision whose name contains ``pattern``.

    Raises
    ------
    InputError
        No name holds it.
    """
    from fqbench.config import PreprocessingOptions

    if pattern is None:
        found = [zoo.find(name) for name in zoo.STUDY]
        sizes = [preprocessing_of(model, PreprocessingOptions(), drawn_size=None).size[0] for model in found]
        return [ListedModel(m.name, m.library, m.entry, size, study=True) for m, size in zip(found, sizes, strict=True)]
    names = zoo.known_names()
    matching = [
        ListedModel(entry, library, entry, None, study=False)
        for library, entry in names
        if pattern.lower() in entry.lower()
    ]
    if not matching:
        raise InputError(f"no model name contains {pattern!r}: {did_you_mean(pattern, [entry for _, entry in names])}")
    return matching


def profile(name: str, *, size: int | None = None, classes: int = 2) -> Profile:
    """Build a classifier with random weights and measure what it costs.

    Parameters
    ----------
    name : str
        As for ``--model``.
    size : int, optional
        Height and width of the input; the model's own by default.
    classes : int
        Number of logits.

    Raises
    ------
    InputError
        No such model.
    UnavailableError
        torch or timm is not installed.
    """
    from fqbench.config import PreprocessingOptions

    torch = require("torch", extra="train")
    counter = require("torch.utils.flop_counter", extra="train")
    architecture = zoo.find(name)
    asked = PreprocessingOptions(size=None if size is None else (size, size))
    side = preprocessing_of(architecture, asked, drawn_size=None).size[0]
    model = zoo.build(architecture, classes=classes, size=side).eval()
    images = np.zeros((2, 3, side, side), dtype=np.float32)
    layers: list[tuple[int, int]] = []
    hooks = [
        module.register_forward_hook(_measure_into(layers)) for module in model.modules() if not any(module.children())
    ]
    with torch.inference_mode(), counter.FlopCounterMode(display=False) as counted:
        model(torch.from_numpy(images[:1]))
    for hook in hooks:
        hook.remove()
    graph = trace(model, images).graph
    numbers = [*model.parameters(), *(buffer for buffer in model.buffers() if buffer.is_floating_point())]
    return Profile(
        name=name,
        library=architecture.library,
        entry=architecture.entry,
        size=side,
        classes=classes,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        weight_bytes=BYTES_A_WEIGHT * sum(tensor.numel() for tensor in numbers),
        flops=int(counted.get_total_flops()),
        activation_bytes=sum(given for _, given in layers),
        largest_layer_bytes=max(taken + given for taken, given in layers),
        head=head_of(graph),
        operators=dict(Counter(node.op_type for node in graph.node).most_common()),
    )


def _measure_into(layers: list[tuple[int, int]]) -> Any:
    def measure(_module: nn.Module, taken: tuple[Any, ...], given: Any) -> None:
        outputs = given if isinstance(given, (tuple, list)) else (given,)
        layers.append((_bytes(taken), _bytes(outputs)))

    return measure


def _bytes(values: tuple[Any, ...] | list[Any]) -> int:
    import torch

    tensors: list[torch.Tensor] = [value for value in values if isinstance(value, torch.Tensor)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
