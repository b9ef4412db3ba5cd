"""Calibrators for TensorRT 10's implicit quantization, which read the sampler's images through pycuda.

Source: Python API reference of 10.x, chapter "Int8", below https://docs.nvidia.com/deeplearning/tensorrt/10.16.1/
(EntropyCalibrator2 and its neighbours): ``get_batch_size``, ``get_batch(names)`` returning device pointers or None at
the end, ``read_calibration_cache()``, ``write_calibration_cache(cache)``; the legacy calibrator also
``get_quantile``, ``get_regression_cutoff`` and a histogram cache. The bindings print and swallow what these methods
raise, and calibration then ends early as if the images had run out: errors are kept, and raised after the build.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from .cache import retarget
from .cuda import DeviceMemory, current
from .versions import Version

if TYPE_CHECKING:
    from fqbench.quant.calibration import CalibrationSet

BASES = {
    "record": "IInt8EntropyCalibrator2",
    "entropy": "IInt8EntropyCalibrator2",
    "minmax": "IInt8MinMaxCalibrator",
    "percentile": "IInt8LegacyCalibrator",
}
BATCH = 1  # no remainder that a fixed calibration profile could not take, and no scale that depends on the batch size
QUANTILE = 0.9999


class Images:
    """The calibration images on the device, one after another.

    Parameters
    ----------
    calibration : CalibrationSet
        Every image is given once, in order.
    memory : DeviceMemory
        Where the one device buffer comes from.
    """

    def __init__(self, calibration: CalibrationSet, memory: DeviceMemory) -> None:
        self._batches: Iterator[Any] = calibration.batches(BATCH)
        self._memory = memory
        self._buffer: Any = None
        self.given = 0
        self.error: Exception | None = None

    def next_pointers(self) -> list[int] | None:
        """Return the device pointer of the next image; None after the last one, or where one cannot be read."""
        try:
            images = next(self._batches, None)
            if images is None:
                return None
            images = np.ascontiguousarray(images, dtype=np.float32)
            with current(self._memory.context):
                if self._buffer is None:
                    self._buffer = self._memory.device(images.nbytes)
                self._memory.cuda.memcpy_htod(self._buffer, images)
            self.given += len(images)
            return [int(self._buffer)]
        except Exception as error:
            self.error = error
            return None


def make_calibrator(trt: Any, kind: str, images: Images | None, version: Version, *, cache: str | None = None) -> Any:
    """Return a calibrator.

    Parameters
    ----------
    trt : module
        TensorRT 10.x.
    kind : str
        ``record`` gives TensorRT the scales of ``cache``; the others let it find its own on the images: ``entropy``,
        ``minmax``, ``percentile``.
    images : Images, optional
        For all but ``record``.
    version : Version
        Written into the first line of the cache.
    cache : str, optional
        Text of a cache to read; what TensorRT writes is left in ``written``.
    """
    version.require_calibrators()
    base = getattr(trt, BASES[kind])

    class Calibrator(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            base.__init__(self)
            self.written: bytes | None = None

        def get_batch_size(self) -> int:
            return BATCH

        def get_batch(self, names: list[str]) -> list[int] | None:  # noqa: ARG002 - a classifier has one input
            return None if images is None else images.next_pointers()

        def read_calibration_cache(self) -> bytes | None:
            return None if cache is None else retarget(cache, version).encode()

        def write_calibration_cache(self, written: Any) -> None:
            self.written = bytes(written)

        def get_quantile(self) -> float:
            return QUANTILE

        def get_regression_cutoff(self) -> float:
            return 1.0

        def read_histogram_cache(self, length: int) -> bytes | None:  # noqa: ARG002
            return None

        def write_histogram_cache(self, data: Any, length: int) -> None:
            """Keep nothing: TensorRT requires the method, and each build histograms its own images."""

    return Calibrator()
