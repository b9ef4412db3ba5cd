"""Run an engine: pinned buffers, one stream, ``execute_async_v3``, and CUDA events around each phase.

Source: Python API reference, IExecutionContext (``set_input_shape``, ``set_tensor_address``, ``execute_async_v3``) and
ICudaEngine; the three times are those that trtexec reports: H2D, GPU compute and D2H ("Command-Line Programs").
"""

from __future__ import annotations

import weakref
from collections import deque
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.errors import DataError, InputError
from fqbench.plugins import Arithmetic, SessionBase

from .cuda import DeviceMemory, current
from .inspector import read_arithmetic
from .logger import failure, make_logger
from .versions import Version

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

KEPT = 100_000


class TensorRtSession(SessionBase):
    """A loaded engine; its memory is freed by `close`, and at the latest when nobody holds the session any more.

    Parameters
    ----------
    trt : module
        TensorRT.
    plan : bytes
        The serialized engine.
    number : int
        Which GPU.

    Raises
    ------
    DataError
        TensorRT does not take the engine; the message says why.
    UnavailableError
        The GPU has too little memory.
    """

    arithmetic: Arithmetic

    def __init__(self, trt: Any, plan: bytes, *, number: int = 0) -> None:
        self._trt = trt
        self._memory = DeviceMemory(number)
        self.close = weakref.finalize(self, self._memory.close)
        try:
            with current(self._memory.context):
                self._open(plan)
        except BaseException:
            self.close()
            raise

    def _open(self, plan: bytes) -> None:
        trt, cuda = self._trt, self._memory.cuda
        logger = make_logger(trt)
        # What TensorRT gave goes before the CUDA context that it lives in, also where somebody still holds the session.
        held = self._held = SimpleNamespace(runtime=trt.Runtime(logger))
        self._memory.on_close(held.__dict__.clear)
        engine = held.engine = held.runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise failure("loading the engine", logger.errors)
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        self._input = next(name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT)
        self._output = next(name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT)
        held.context = engine.create_execution_context()
        if held.context is None:
            raise failure("preparing the engine to run", logger.errors)
        smallest, _best, largest = (tuple(shape) for shape in engine.get_tensor_profile_shape(self._input, 0))
        self._largest = int(largest[0])
        self._set_shape(smallest)
        inspector = engine.create_engine_inspector()
        inspector.execution_context = held.context
        information = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
        self.arithmetic = read_arithmetic(information, Version.parse(trt.__version__))
        self._set_shape(largest)
        answer = tuple(self._held.context.get_tensor_shape(self._output))
        self._host_in = self._memory.host(largest, np.dtype(trt.nptype(engine.get_tensor_dtype(self._input))))
        self._host_out = self._memory.host(answer, np.dtype(trt.nptype(engine.get_tensor_dtype(self._output))))
        self._device_in = self._memory.device(self._host_in.nbytes)
        self._device_out = self._memory.device(self._host_out.nbytes)
        held.stream, held.events = cuda.Stream(), [cuda.Event() for _ in range(4)]
        for name, buffer in ((self._input, self._device_in), (self._output, self._device_out)):
            if not self._held.context.set_tensor_address(name, int(buffer)):
                raise DataError(
                    f"TensorRT refuses the buffer of {name!r}; build the engine again with `fqbench build`."
                )
        self._times: deque[tuple[float, float, float]] = deque(maxlen=KEPT)

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map images (N, 3, H, W) to logits (N, classes); more than the engine's largest batch go in several calls."""
        if images.shape[1:] != self._host_in.shape[1:]:
            raise InputError(
                f"images of {images.shape[1:]} do not fit this engine, which takes {self._host_in.shape[1:]}."
            )
        with current(self._memory.context):
            parts = [
                self._infer(images[start : start + self._largest]) for start in range(0, len(images), self._largest)
            ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def phases(self, last: int | None = None) -> Mapping[str, float]:
        """Return the median milliseconds of copying in, computing and copying out, of the last calls or of all."""
        times = np.array(list(self._times)[-last:] if last else self._times, dtype=np.float64).reshape(-1, 3)
        if not len(times):
            return {}
        names = ("H2D", "compute", "D2H")
        return {name: float(value) for name, value in zip(names, np.median(times, axis=0), strict=True)}

    def _infer(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        cuda, count = self._memory.cuda, len(images)
        given, answer = self._host_in[:count], self._host_out[:count]
        np.copyto(given, images)
        self._set_shape(images.shape)
        begun, copied, computed, done = self._held.events
        begun.record(self._held.stream)
        cuda.memcpy_htod_async(self._device_in, given, self._held.stream)
        copied.record(self._held.stream)
        if not self._held.context.execute_async_v3(self._held.stream.handle):
            raise DataError("TensorRT could not run the engine; build it again with `fqbench build`.")
        computed.record(self._held.stream)
        cuda.memcpy_dtoh_async(answer, self._device_out, self._held.stream)
        done.record(self._held.stream)
        self._held.stream.synchronize()
        self._times.append((begun.time_till(copied), copied.time_till(computed), computed.time_till(done)))
        return np.array(answer, dtype=np.float32)

    def _set_shape(self, shape: tuple[int, ...]) -> None:
        if not self._held.context.set_input_shape(self._input, tuple(int(size) for size in shape)):
            raise InputError(f"this engine does not take the shape {tuple(shape)}; build it for a larger --max-batch.")
