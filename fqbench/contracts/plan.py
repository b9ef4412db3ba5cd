"""The quantization plan: every integer, scale and zero point of a quantized model, before a runtime's file is written.

The core makes it of a model, a scheme and the numerics that a backend declares; the backend maps it to its own file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fqbench.onnx_graph import copied

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnx import ModelProto

    from fqbench.contracts.qparams import QParams


@dataclass(frozen=True)
class Layer:
    """One operator of the cleaned graph with its settings.

    Attributes
    ----------
    node, op : str
        Name and type of the operator.
    path : str
        Path of the module that its weight belongs to; empty for an operator without weights.
    weight : str
        Name of its weight's initializer; empty for an operator without weights.
    roles : tuple of str
        ``first``, ``head``, ``depthwise``, ``squeeze-excite``.
    bits, act_bits : int
        Of its weights, and of the activation that it reads; 32 is float.
    range_rule, calib_policy, weight_rule : str
        How ranges and scales are found.
    quantize : bool
        Whether the operator carries quantization nodes.
    macs, parameters : int
        Multiply-accumulates of one image (0 where they are not known), and weights.
    """

    node: str
    op: str
    path: str
    weight: str
    roles: tuple[str, ...]
    bits: int
    act_bits: int
    range_rule: str
    calib_policy: str
    weight_rule: str
    quantize: bool
    macs: int = 0
    parameters: int = 0

    @property
    def name(self) -> str:
        """The module's path, or the operator's name where it has none."""
        return self.path or self.node

    @property
    def is_float(self) -> bool:
        """Whether the operator stays in float."""
        return not self.quantize or self.bits == 32


@dataclass(frozen=True)
class QuantizedWeight:
    """The weight of one operator as integers.

    Attributes
    ----------
    name, path : str
        Name of the initializer, and path of the module.
    axis : int
        Axis of the output channels.
    bits : int
        8, 4 or 2.
    levels : ndarray of int8
        In the shape of the initializer; from ``-2**(bits - 1)`` to ``2**(bits - 1) - 1``.
    scale : ndarray of float32, shape (output channels,)
        The weight is ``levels * scale``.
    bias : ndarray of float32 or None
        The operator's bias, corrected where the scheme asks for it; None where it has no constant one.
    """

    name: str
    path: str
    axis: int
    bits: int
    levels: NDArray[np.int8]
    scale: NDArray[np.float32]
    bias: NDArray[np.float32] | None = None

    @property
    def rows(self) -> NDArray[np.int8]:
        """The integers as (output channels, everything else)."""
        import numpy as np

        return np.moveaxis(self.levels, self.axis, 0).reshape(self.levels.shape[self.axis], -1)


@dataclass(frozen=True)
class QuantizationPlan:
    """All that a backend needs to write a quantized model.

    Attributes
    ----------
    model : ModelProto
        The cleaned FP32 graph, biases corrected where asked for. A backend copies it before it changes it.
    activations : mapping of str to QParams
        By tensor, tensors that share another one's range included. A tensor that is not here stays in float.
    weights : mapping of str to QuantizedWeight
        By initializer; a weight that is not here stays in float.
    layers : tuple of Layer
        Every operator that a setting is about, in the order of the graph.
    extra_sites : mapping of str to QParams
        After training: activations of the trainer's own graph that the exported one has no tensor for.
    calibration : CalibrationSet or None
        The images, for runtimes that quantize something that this graph has no tensor for.
    facts : mapping
        What the manifest keeps: ranges, what each clips of which group.
    """

    model: ModelProto
    activations: Mapping[str, QParams]
    weights: Mapping[str, QuantizedWeight]
    layers: tuple[Layer, ...]
    extra_sites: Mapping[str, QParams] = field(default_factory=dict)
    calibration: Any = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def float_nodes(self) -> frozenset[str]:
        """Names of the operators that stay in float."""
        return frozenset(layer.node for layer in self.layers if layer.is_float)

    def by_path(self) -> dict[str, QuantizedWeight]:
        """Return the weights by the path of their module."""
        return {weight.path: weight for weight in self.weights.values()}

    def copied_model(self) -> ModelProto:
        """Return a copy of the graph, to be changed."""
        return copied(self.model)
