"""FX graph mode quantization: a network with fake quantization in it, and with integer kernels."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from fqbench.errors import UnavailableError

from .deprecated import (
    PrepareCustomConfig,
    QConfig,
    QConfigMapping,
    default_dynamic_quant_observer,
    default_per_channel_weight_observer,
    quantize_fx,
)
from .fake_quantize import ActivationFakeQuantize, GivenScales, WeightFakeQuantize
from .tracing import Traced, trace

ENGINES = ("x86", "fbgemm", "qnnpack")
# Kept in float: the outliers around a LayerNorm spoil an 8-bit range, and FX would fix the ranges of the others itself.
FLOAT = (
    *(nn.LayerNorm, nn.functional.layer_norm, nn.Sigmoid, torch.sigmoid, nn.functional.sigmoid, "sigmoid"),
    *(nn.Hardsigmoid, nn.functional.hardsigmoid, nn.Tanh, torch.tanh, nn.functional.tanh, "tanh"),
    *(nn.Softmax, nn.functional.softmax, torch.softmax, "softmax"),
)
SMALLEST_NORM = 1e-6


@dataclass(frozen=True)
class PreparedGraph:
    """A network with fake quantization in it.

    Attributes
    ----------
    module : torch.fx.GraphModule
        Ready to be calibrated, trained or converted.
    traced : Traced
        What it was made of.
    """

    module: fx.GraphModule
    traced: Traced

    @property
    def sites(self) -> dict[str, ActivationFakeQuantize]:
        """What quantizes each activation, by the name of the node in the graph; several nodes may share one."""
        found = {}
        for node in self.module.graph.nodes:
            if node.op == "call_module":
                called = self.module.get_submodule(str(node.target))
                if isinstance(called, ActivationFakeQuantize):
                    found[str(node.name)] = called
        return found

    @property
    def weighted(self) -> dict[str, nn.Module]:
        """The modules whose weights are quantized, by the path of the convolution or linear layer in the network."""
        found: dict[str, nn.Module] = {}
        for node in self.module.graph.nodes:
            if node.op != "call_module" or str(node.target) in self.traced.skipped:
                continue
            called = self.module.get_submodule(str(node.target))
            fused = isinstance(called, nn.Sequential) and not isinstance(called, (nn.Conv2d, nn.Linear))
            inner = called[0] if fused and len(called) else called  # type: ignore[arg-type, index]
            if isinstance(inner, (nn.Conv2d, nn.Linear)) and getattr(called, "qconfig", None) is not None:
                found[str(node.target)] = inner
        return found

    def observe(self, on: bool) -> None:
        """Let ranges follow what passes, or hold them."""
        for part in self.module.modules():
            if isinstance(part, (ActivationFakeQuantize, WeightFakeQuantize)):
                part.enable_observer(on)

    def round(self, on: bool) -> None:
        """Round to the levels, or let everything pass as it is."""
        for part in self.module.modules():
            if isinstance(part, (ActivationFakeQuantize, WeightFakeQuantize)):
                part.enable_fake_quant(on)


def engine() -> str:
    """Return the engine of quantized kernels for this CPU.

    On x86 the engine of that name chooses between oneDNN and FBGEMM by operator and CPU; on ARM it is qnnpack.

    Raises
    ------
    UnavailableError
        This build of torch has none of them.
    """
    supported = torch.backends.quantized.supported_engines
    x86 = platform.machine().lower() in {"x86_64", "amd64", "i686"}
    for name in ENGINES if x86 else reversed(ENGINES):
        if name in supported:
            return name
    raise UnavailableError(
        f"this torch has no engine of quantized kernels for {platform.machine()} (it has {', '.join(supported)}); "
        "install another build of torch."
    )


def prepare(
    network: nn.Module,
    example: Tensor,
    *,
    act_bits: int,
    symmetric: bool = False,
    momentum: float | None = None,
    floats: Sequence[str] = (),
) -> PreparedGraph:
    """Trace a network in evaluation mode, fold its BatchNorm, and put fake quantization where FX quantizes activations.

    Parameters
    ----------
    network : torch.nn.Module
        Changed in place.
    example : Tensor
        A batch of images.
    act_bits : int
        Bits of the activations.
    symmetric : bool
        Whether their zero points are in the middle.
    momentum : float or None
        Of the moving average of ranges that follow what passes; None for the widest.
    floats : sequence of str
        Paths of modules that stay in float.
    """
    traced = trace(network.eval())
    activation = partial(ActivationFakeQuantize, bits=act_bits, symmetric=symmetric, momentum=momentum)
    mapping = _mapping(activation, default_per_channel_weight_observer)
    for path in floats:
        mapping = mapping.set_module_name(path, None)
    with _quiet():
        module = quantize_fx.prepare_fx(traced.graph, mapping, (example,), _custom(traced))
    return _bounded(PreparedGraph(module, traced))


def prepare_training(
    network: nn.Module, example: Tensor, *, bits: int, act_bits: int, symmetric: bool, momentum: float
) -> PreparedGraph:
    """Trace a network in training mode, and put fake quantization of weights and activations into it.

    A BatchNorm behind a convolution is folded into its weight before that is rounded, as it will be when shipped.
    """
    traced = trace(network.train())
    activation = partial(ActivationFakeQuantize, bits=act_bits, symmetric=symmetric, momentum=momentum)
    mapping = _mapping(activation, partial(WeightFakeQuantize, bits=bits))
    with _quiet():
        module = quantize_fx.prepare_qat_fx(traced.graph, mapping, (example,), _custom(traced))
    part: Any
    for part in module.modules():
        norm = getattr(part, "bn", None)
        if isinstance(norm, nn.BatchNorm2d) and bool((norm.weight.abs() < SMALLEST_NORM).any()):
            part._enable_slow_path_for_better_numerical_stability = True  # the quick one divides by this weight
    return _bounded(PreparedGraph(module, traced))


def prepare_dynamic(network: nn.Module, example: Tensor) -> PreparedGraph:
    """Trace a network and mark its linear layers: their inputs are quantized as they come."""
    traced = trace(network.eval())
    qconfig = _qconfig(default_dynamic_quant_observer, default_per_channel_weight_observer)
    mapping = QConfigMapping().set_global(None).set_object_type(nn.Linear, qconfig)
    with _quiet():
        module = quantize_fx.prepare_fx(traced.graph, mapping, (example,), _custom(traced))
    return PreparedGraph(module, traced)


def convert(prepared: PreparedGraph, scales: Mapping[str, Tensor]) -> fx.GraphModule:
    """Replace fake quantization by integer kernels.

    Parameters
    ----------
    prepared : PreparedGraph
        As `prepare` and `prepare_dynamic` give it, with the grid of every activation set.
    scales : mapping
        Scales of the weights, a channel each, by path.
    """
    for path in prepared.weighted:
        module: Any = prepared.module.get_submodule(path)
        module.qconfig = _qconfig(module.qconfig.activation, partial(GivenScales, given=scales[path]))
    torch.backends.quantized.engine = engine()
    with _quiet():
        return quantize_fx.convert_fx(prepared.module)


def is_integer(module: nn.Module) -> bool:
    """Whether a module of a converted network multiplies integers."""
    return type(module).__module__.startswith(("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized")) and hasattr(
        module, "weight"
    )


def _qconfig(activation: Any, weight: Any) -> QConfig:
    return QConfig(activation, weight)  # type: ignore[no-untyped-call]


def _mapping(activation: Any, weight: Any) -> QConfigMapping:
    mapping = QConfigMapping().set_global(_qconfig(activation, weight))
    for kind in FLOAT:
        mapping = mapping.set_object_type(kind, None)
    return mapping


def _custom(traced: Traced) -> PrepareCustomConfig:
    return PrepareCustomConfig().set_non_traceable_module_names(list(traced.skipped))


def _bounded(prepared: PreparedGraph) -> PreparedGraph:
    """Give ranges behind what was a ReLU6 their upper bound back."""
    for node in prepared.module.graph.nodes:
        bound = prepared.traced.bounded.get(str(node.target)) if node.op == "call_module" else None
        for user in node.users if bound is not None else ():
            called = prepared.module.get_submodule(str(user.target)) if user.op == "call_module" else None
            if isinstance(called, ActivationFakeQuantize):
                called.bound = bound
    return prepared


@contextmanager
def _quiet() -> Iterator[None]:
    """FX is deprecated, which docs/decisions/0050 answers, and says so at every call."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
