"""A strict double of what is used of ``pycuda.driver``; anything else is a failure.

Its API is that of https://documen.tician.de/pycuda/driver.html. It checks that a context is current for every call that
needs one, that asynchronous copies use pinned memory, that events are read after the stream was synchronized, and that
all memory of a context is freed, once, before the context is given back.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from tests.backends.trt.world import Strict, World, unknown


def make_pycuda(world: World) -> ModuleType:  # noqa: C901 - one module, read from top to bottom
    """Make the module ``pycuda.driver`` of a world."""
    cuda = ModuleType("pycuda.driver")

    class Error(Exception):
        pass

    class OutOfMemory(Error):
        pass

    class Context(Strict):
        def push(self) -> None:
            assert world.retained, "push after detach"
            world.stack.append(self)

        def pop(self) -> None:
            assert world.stack, "pop without push"
            assert world.stack[-1] is self, "pop of another context"
            world.stack.pop()

        def detach(self) -> None:
            assert self not in world.stack, "detach of a current context"
            mine = [owner for _size, owner in world.live.values() if owner is self]
            assert not mine, "detach while memory of the context is allocated"
            world.retained -= 1

    class Device(Strict):
        def __init__(self, number: int) -> None:
            assert 0 <= number < world.gpus, "no such device"

        @staticmethod
        def count() -> int:
            return world.gpus

        def name(self) -> str:
            return world.gpu

        def compute_capability(self) -> tuple[int, int]:
            return world.compute_capability

        def total_memory(self) -> int:
            return world.memory

        def retain_primary_context(self) -> Context:
            world.retained += 1
            return Context()

    def allocate(owner: Any, size: int) -> None:
        world.require_context()
        if sum(taken for taken, _owner in world.live.values()) + size > world.memory:
            raise OutOfMemory("cuMemAlloc failed: out of memory")
        world.live[id(owner)] = size, world.stack[-1]
        world.sizes.append(size)

    def release(owner: Any) -> None:
        world.require_context()
        assert id(owner) in world.live, "freed twice"
        assert world.live[id(owner)][1] is world.stack[-1], "freed while another context is current"
        del world.live[id(owner)]

    class DeviceAllocation(Strict):
        def __init__(self, size: int) -> None:
            allocate(self, size)
            self._data = bytearray(size)

        def __int__(self) -> int:
            return id(self)

        def free(self) -> None:
            release(self)

    class PinnedAllocation(Strict):
        def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
            self._array = np.zeros(shape, dtype)
            allocate(self, self._array.nbytes)

        @property
        def __array_interface__(self) -> Any:
            return self._array.__array_interface__

        def free(self) -> None:
            release(self)

    class Stream(Strict):
        def __init__(self) -> None:
            world.require_context()
            self._synchronized = True

        @property
        def handle(self) -> int:
            return id(self)

        def synchronize(self) -> None:
            world.require_context()
            self._synchronized = True
            world.note("synchronize")

    class Event(Strict):
        def __init__(self) -> None:
            world.require_context()
            self._at: int | None = None
            self._stream: Stream | None = None

        def record(self, stream: Stream) -> None:
            world.require_context()
            self._at, self._stream = len(world.journal), stream
            world.note("event")

        def time_till(self, later: Any) -> float:
            assert self._at is not None, "time_till before record"
            assert later._at is not None, "time_till before the later event was recorded"
            assert later._stream._synchronized, "time_till before the stream was synchronized"
            return float(later._at - self._at)

    def pagelocked_empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        return np.asarray(PinnedAllocation(shape, dtype))

    def is_pinned(array: np.ndarray) -> bool:
        base: Any = array
        while isinstance(base, np.ndarray) and base.base is not None:
            base = base.base
        return isinstance(base, PinnedAllocation) and id(base) in world.live

    def copy_in(target: DeviceAllocation, source: np.ndarray) -> None:
        world.require_context()
        assert id(target) in world.live, "a copy into freed memory"
        assert source.flags.c_contiguous, "a copy from memory that is not contiguous"
        assert source.nbytes <= len(target._data), "a copy beyond the end of the buffer"
        target._data[: source.nbytes] = source.tobytes()

    def memcpy_htod(target: DeviceAllocation, source: np.ndarray) -> None:
        copy_in(target, source)
        world.note("h2d")

    def memcpy_htod_async(target: DeviceAllocation, source: np.ndarray, stream: Stream) -> None:
        assert is_pinned(source), "an asynchronous copy from memory that is not pinned"
        copy_in(target, source)
        stream._synchronized = False
        world.note("h2d")

    def memcpy_dtoh_async(target: np.ndarray, source: DeviceAllocation, stream: Stream) -> None:
        world.require_context()
        assert is_pinned(target), "an asynchronous copy into memory that is not pinned"
        assert id(source) in world.live, "a copy from freed memory"
        np.copyto(target, np.frombuffer(bytes(source._data[: target.nbytes]), target.dtype).reshape(target.shape))
        stream._synchronized = False
        world.note("d2h")

    def mem_get_info() -> tuple[int, int]:
        world.require_context()
        return world.memory - sum(taken for taken, _owner in world.live.values()), world.memory

    def init() -> None:
        if not world.gpus:
            raise Error("cuInit failed: no CUDA-capable device is detected")

    contents = {
        "Error": Error,
        "MemoryError": OutOfMemory,
        "Device": Device,
        "Stream": Stream,
        "Event": Event,
        "mem_alloc": DeviceAllocation,
        "pagelocked_empty": pagelocked_empty,
        "memcpy_htod": memcpy_htod,
        "memcpy_htod_async": memcpy_htod_async,
        "memcpy_dtoh_async": memcpy_dtoh_async,
        "mem_get_info": mem_get_info,
        "init": init,
        "get_driver_version": lambda: 13030,
    }
    cuda.__dict__.update(contents)
    cuda.__getattr__ = unknown("pycuda.driver")  # type: ignore[method-assign]
    return cuda
