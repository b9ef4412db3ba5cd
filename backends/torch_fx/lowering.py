"""Write quantization in operators that Inductor lowers to integer kernels, and check that it did."""

from __future__ import annotations

import logging
import math
import os
import platform
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from fqbench.contracts.qparams import QParams
from fqbench.errors import UnavailableError
from fqbench.optional import require
from fqbench.plugins import Arithmetic

from .deprecated import quantized_decomposed
from .fake_quantize import ActivationFakeQuantize
from .fx import PreparedGraph

# Importing it teaches Inductor the patterns of integer kernels, which torch itself no longer brings.
PATTERNS = "torchao.quantization.pt2e.quantizer.x86_inductor_quantizer"
EXTRA = "inductor"
INTEGER = ("onednn::qconv", "onednn::qlinear")
SHAPES = 64  # of images that one network is compiled for
WEIGHT = 3  # its place among their arguments
# What only moves values: a rounding before it reaches the layer behind it.
MOVES = frozenset({"max_pool2d", "flatten", "cat", "reshape", "view", "permute", "transpose", "getitem", "relu"})
MOVING = (nn.MaxPool2d, nn.Flatten, nn.ReLU, nn.Identity)


class RoundedActivation(nn.Module):
    """An activation rounded to its levels, in two operators.

    Parameters
    ----------
    grid : QParams
        Scale, zero point and bits.
    """

    def __init__(self, grid: QParams) -> None:
        super().__init__()
        self.scale, self.zero_point, self.top = grid.scale, grid.zero_point, 2**grid.bits - 1

    def forward(self, given: Tensor) -> Tensor:
        """Quantize and dequantize."""
        own = (self.scale, self.zero_point, 0, self.top, torch.uint8)
        levels = quantized_decomposed.quantize_per_tensor.default(given, *own)
        rounded: Tensor = quantized_decomposed.dequantize_per_tensor.default(levels, *own)
        return rounded


class ClippedActivation(nn.Module):
    """An activation kept to its range, but not rounded.

    Parameters
    ----------
    grid : QParams
        Its lowest and highest level are the range.
    """

    low: Tensor
    high: Tensor

    def __init__(self, grid: QParams) -> None:
        super().__init__()
        self.register_buffer("low", torch.tensor(grid.low))
        self.register_buffer("high", torch.tensor(grid.high))

    def forward(self, given: Tensor) -> Tensor:
        """Clip; not by `clamp`, which Inductor tries to make a part of an integer kernel that cannot have it."""
        return torch.minimum(torch.maximum(given, self.low), self.high)


class IntegerLayer(nn.Module):
    """A convolution or linear layer that holds the integers of its weight.

    Parameters
    ----------
    layer : torch.nn.Conv2d or torch.nn.Linear
        Its weight is a multiple of the scale everywhere.
    scale : Tensor
        Of each output channel.
    """

    levels: Tensor
    scale: Tensor
    zero_point: Tensor

    def __init__(self, layer: Any, scale: Tensor) -> None:
        super().__init__()
        weight = layer.weight.detach()
        levels = torch.round(weight / scale.reshape(-1, *(1,) * (weight.ndim - 1))).to(torch.int8)
        if levels.ndim == 4:
            levels = levels.contiguous(memory_format=torch.channels_last)
        self.register_buffer("levels", levels)
        self.register_buffer("scale", scale)
        self.register_buffer("zero_point", torch.zeros(len(scale), dtype=torch.int64))
        self.bias = layer.bias
        self.stride: Any = None
        if isinstance(layer, nn.Conv2d):
            self.stride, self.padding, self.dilation = layer.stride, layer.padding, layer.dilation
            self.groups = layer.groups

    def forward(self, given: Tensor) -> Tensor:
        """Multiply with the weight that the integers stand for."""
        operator = quantized_decomposed.dequantize_per_channel.default
        weight = operator(self.levels, self.scale, self.zero_point, 0, -128, 127, torch.int8)
        if self.stride is None:
            return functional.linear(given, weight, self.bias)
        return functional.conv2d(given, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


def need_patterns() -> None:
    """Teach Inductor the patterns of integer kernels.

    Raises
    ------
    UnavailableError
        torchao is not installed, or the CPU is not an x86.
    """
    if platform.machine().lower() not in {"x86_64", "amd64"}:
        raise UnavailableError(
            f"Inductor's integer kernels are for x86, and this is {platform.machine()}; use --backend torch_fx."
        )
    told = logging.getLogger("torch.utils._pytree")
    level = told.level
    told.setLevel(logging.ERROR)  # torchao registers what this torch no longer needs registered
    try:
        with warnings.catch_warnings(action="ignore"):  # of its sources, when they are compiled for the first time
            require("torchao", extra=EXTRA)
            require(PATTERNS, extra=EXTRA)
    finally:
        told.setLevel(level)


def written_out(prepared: PreparedGraph, scales: Mapping[str, Tensor], *, learned: bool) -> fx.GraphModule:
    """Replace fake quantization by quantize and dequantize operators, where a layer with integer weights reads it.

    What nothing but float arithmetic reads is not rounded: that would cost time and precision. A network trained with
    ranges needs their ends, so that it is clipped there; and what was a ReLU6 has its bound from the rounding.

    Parameters
    ----------
    prepared : PreparedGraph
        With the grid of every activation set, and the weights on their levels. It is changed in place.
    scales : mapping
        Scales of the weights, a channel each, by path.
    learned : bool
        Whether the network was trained with these ranges.
    """
    module = prepared.module
    layers = prepared.weighted
    for path, layer in layers.items():
        integer = IntegerLayer(layer, scales[path])
        holder: Any = module.get_submodule(path)
        if holder is layer:
            module.set_submodule(path, integer)
        else:
            holder[0] = integer
    replaced = set()
    for node in list(module.graph.nodes):
        called = _called(module, node)
        if not isinstance(called, ActivationFakeQuantize):
            continue
        replaced.add(str(node.target))
        read = called.bound is not None or any(_reaches(module, user, layers) for user in node.users)
        if read or learned:
            node.target = f"{node.name}_levels"  # one fake quantization may serve several tensors
            module.add_submodule(node.target, (RoundedActivation if read else ClippedActivation)(called.grid))
        else:
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)
    for path in replaced:
        module.delete_submodule(path)
    module.recompile()
    return module.eval().requires_grad_(False)


def compiled(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """Let Inductor compile a network, once for each shape that comes, with its weights as constants.

    Without constant weights they are reordered for oneDNN, or quantized, again at every call. A call that Dynamo
    would compile once more unasked, and then without them, is an error.
    """
    from torch._dynamo import config as dynamo
    from torch._inductor import config as inductor

    call: Callable[[Tensor], Tensor] = torch.compile(network, dynamic=False)
    seen = set()

    def run(images: Tensor) -> Tensor:
        if images.shape in seen:
            with torch.compiler.set_stance("fail_on_recompile"):
                return call(images)
        # Past a limit Dynamo would run the network eagerly and only log it; its default is eight shapes.
        with (
            warnings.catch_warnings(action="ignore", category=UserWarning),  # of Inductor about its own lowering
            inductor.patch(freezing=True),
            dynamo.patch(recompile_limit=SHAPES, fail_on_recompile_limit_hit=True),
        ):
            answer = call(images)
        seen.add(images.shape)
        return answer

    return run


def count(network: nn.Module, run: Callable[[Tensor], Tensor], input_shape: tuple[int, ...]) -> Arithmetic:
    """Count the multiply-accumulates of one image in the integer kernels that torch's profiler saw running.

    Kernels are matched with layers by the size of their weight, whose order is oneDNN's own. Where fewer kernels than
    layers have a size, the cheapest layers are taken to be the integer ones: the share is then a lower bound.

    Parameters
    ----------
    network : torch.nn.Module
        As `written_out` returns it.
    run : callable
        What `compiled` made of it.
    input_shape : tuple of int
        Channels, height and width.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler would write about itself to stderr
    layers: dict[int, list[int]] = defaultdict(list)

    def add(layer: nn.Module, _given: Any, answer: Tensor) -> None:
        weight: Tensor = layer.levels  # type: ignore[assignment]
        layers[weight.numel()].append(answer.numel() * (weight.numel() // len(weight)))

    hooks = [part.register_forward_hook(add) for part in network.modules() if isinstance(part, IntegerLayer)]
    with torch.inference_mode():  # where images are made matters to Dynamo, too
        image = torch.zeros(1, *input_shape).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(image)
    for hook in hooks:
        hook.remove()
    with torch.inference_mode():
        run(image)
        with torch.autograd.profiler.profile(record_shapes=True) as profile:
            run(image)
    kernels = Counter(
        math.prod(event.input_shapes[WEIGHT])
        for event in profile.function_events or ()
        if str(event.name).startswith(INTEGER)
    )
    integer = sum(sum(sorted(macs)[: kernels[size]]) for size, macs in layers.items())
    return Arithmetic(integer, counter.get_total_flops() // 2)


def _called(module: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return module.get_submodule(str(node.target)) if node.op == "call_module" else None


def _reaches(module: fx.GraphModule, user: fx.Node, layers: Mapping[str, nn.Module]) -> bool:
    """Whether a user is a layer with integer weights, or passes values on unchanged."""
    called = _called(module, user)
    if called is not None:
        return str(user.target) in layers or isinstance(called, MOVING)
    return getattr(user.target, "__name__", str(user.target)) in MOVES
