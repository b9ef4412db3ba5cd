"""CUDA through pycuda: a context, memory that is freed on every path, and errors in words.

Source: pycuda's reference, https://documen.tician.de/pycuda/driver.html (``retain_primary_context``,
``pagelocked_empty``, ``mem_alloc``, ``memcpy_htod_async``, ``Event.time_till``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.errors import InputError, UnavailableError
from fqbench.optional import require

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEVICE = "cuda"


@dataclass(frozen=True)
class Gpu:
    """The GPU that an engine is built for."""

    name: str
    compute_capability: str
    memory: int
    driver: str

    @property
    def architecture(self) -> str:
        """As in ``sm_90``."""
        return "sm_" + self.compute_capability.replace(".", "")

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def driver() -> ModuleType:
    """Return pycuda's driver module, initialised.

    Raises
    ------
    UnavailableError
        pycuda is not installed, or there is no GPU.
    """
    cuda = require("pycuda.driver", extra="trt")
    try:
        cuda.init()
        count = cuda.Device.count()
    except cuda.Error as error:
        raise UnavailableError(f"CUDA finds no usable GPU here ({error}); run this on a machine with one.") from error
    if count < 1:
        raise UnavailableError("CUDA finds no GPU here; run this on a machine with one.")
    return cuda


def ordinal(device: str) -> int:
    """Return the number of a device: ``cuda`` is the first, ``cuda:1`` the second.

    Raises
    ------
    InputError
        It names no GPU.
    """
    name, _, number = device.partition(":")
    if name != DEVICE or not (number == "" or number.isdecimal()):
        raise InputError(f"trt has no device {device!r}; choose {DEVICE}, or {DEVICE}:1 for the second GPU.")
    return int(number or 0)


def gpu(number: int = 0) -> Gpu:
    """Describe a GPU."""
    cuda = driver()
    if number >= cuda.Device.count():
        raise InputError(f"there is no GPU {number} here; this machine has {cuda.Device.count()}.")
    device = cuda.Device(number)
    major, minor = device.compute_capability()
    return Gpu(device.name(), f"{major}.{minor}", int(device.total_memory()), str(cuda.get_driver_version()))


@contextlib.contextmanager
def current(context: Any) -> Iterator[None]:
    """Make a context current for a while."""
    context.push()
    try:
        yield
    finally:
        context.pop()


class DeviceMemory:
    """Pinned host arrays and device buffers of one context, all of which `close` frees, the last first."""

    def __init__(self, number: int = 0) -> None:
        self.cuda = driver()
        # The primary context is the one that TensorRT, too, works in.
        self.context = self.cuda.Device(number).retain_primary_context()
        self._freeing = contextlib.ExitStack()
        self._closed = False

    def host(self, shape: Sequence[int], dtype: Any = np.float32) -> NDArray[Any]:
        """Return an array in pinned memory, which a copy to the device reads directly; its context must be current."""
        with self._in_words(int(np.prod(shape)) * np.dtype(dtype).itemsize, "pinned host memory"):
            array: NDArray[Any] = self.cuda.pagelocked_empty(tuple(shape), dtype)
        owner: Any = array.base
        self._freeing.callback(owner.free)
        return array

    def device(self, size: int) -> Any:
        """Return ``size`` bytes on the device; its context must be current."""
        with self._in_words(size, "GPU memory"):
            buffer = self.cuda.mem_alloc(size)
        self._freeing.callback(buffer.free)
        return buffer

    def on_close(self, free: Callable[[], object]) -> None:
        """Call ``free`` on closing, before what was allocated earlier is given back."""
        self._freeing.callback(free)

    def close(self) -> None:
        """Give everything back; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            with current(self.context):
                self._freeing.close()
        finally:
            self.context.detach()

    @contextlib.contextmanager
    def _in_words(self, size: int, what: str) -> Iterator[None]:
        try:
            yield
        except self.cuda.MemoryError as error:
            free, total = (amount / 2**20 for amount in self.cuda.mem_get_info())
            raise UnavailableError(
                f"{size / 2**20:.0f} MiB of {what} cannot be allocated ({free:.0f} of {total:.0f} MiB are free); "
                "end other programs on it, or lower the batch."
            ) from error
