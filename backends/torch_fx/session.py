"""A torch module that answers, and where its multiply-accumulates run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from fqbench.plugins import Arithmetic, SessionBase

from .fx import is_integer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

UNCOUNTED = ("quantized.matmul",)
HALF = (torch.bfloat16, torch.float16)


class TorchSession(SessionBase):
    """A module on the CPU, run without gradients.

    Parameters
    ----------
    module : torch.nn.Module
        In evaluation mode.
    input_shape : tuple of int
        Channels, height and width.
    threads : int
        Torch has one number of threads for the whole process, so that it is set for every call and set back.
    run : callable, optional
        What is called in place of the module: what a compiler made of it.
    arithmetic : callable, optional
        Counts the multiply-accumulates, in place of the module's types.
    """

    def __init__(
        self,
        module: nn.Module,
        input_shape: tuple[int, ...],
        threads: int,
        run: Callable[[Tensor], Tensor] | None = None,
        arithmetic: Callable[[], Arithmetic] | None = None,
    ) -> None:
        self._threads = threads
        self._call = module if run is None else run
        with _threads(threads):
            self.arithmetic = count(module, input_shape) if arithmetic is None else arithmetic()

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map images (N, 3, H, W) to logits (N, classes)."""
        with torch.inference_mode(), _threads(self._threads):
            # Convolutions are fastest with the channels last, and integer ones take nothing else.
            given = torch.from_numpy(images).contiguous(memory_format=torch.channels_last)
            logits: NDArray[np.float32] = self._call(given).float().numpy()
        return logits


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Set torch's number of threads temporarily; later training in this process sums in the same order as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def count(module: nn.Module, input_shape: tuple[int, ...]) -> Arithmetic:
    """Count the multiply-accumulates of one image: integer ones by module type, float ones by torch's own counter."""
    integer, counter = 0, TypedFlops()

    def add(called: nn.Module, _given: Any, answer: Tensor) -> None:
        nonlocal integer
        weight = called.weight()  # type: ignore[operator]
        integer += answer.numel() * (weight.numel() // weight.shape[0])

    hooks = [part.register_forward_hook(add) for part in module.modules() if is_integer(part)]
    with torch.inference_mode(), counter:
        module(torch.zeros(1, *input_shape).contiguous(memory_format=torch.channels_last))
    for hook in hooks:
        hook.remove()
    graph = getattr(module, "graph", None)
    targets = {str(node.target) for node in graph.nodes} if graph is not None else set()
    uncounted = tuple(name for name in UNCOUNTED if name in targets)
    return Arithmetic(integer, integer + counter.get_total_flops() // 2, uncounted, counter.half // 2)


class TypedFlops(FlopCounterMode):
    """Torch's counter of floating-point operations, which also counts those of operators on 16-bit floats.

    Attributes
    ----------
    half : int
        Operations whose first operand is a 16-bit float.
    """

    def __init__(self) -> None:
        self.half = 0
        super().__init__(
            display=False, custom_mapping={name: self._typed(rule) for name, rule in flop_registry.items()}
        )

    def _typed(self, rule: Callable[..., int]) -> Callable[..., int]:
        def counted(*operands: Any, **options: Any) -> int:
            found = rule(*operands, **options)
            self.half += found if getattr(operands[0], "dtype", None) in HALF else 0
            return found

        counted._get_raw = True  # type: ignore[attr-defined]  # torch passes tensors on, not their shapes
        return counted
