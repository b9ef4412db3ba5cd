"""TensorRT's INT8 calibration cache as text: a line naming version and algorithm, then one scale per tensor.

The scale is a 32-bit float in hexadecimal, most significant byte first, and is the range divided by 127. Sources: the
cache that trtexec writes and reads with ``--calib`` ("Command-Line Programs"), and the reader of NVIDIA's quantizer
(``modelopt.onnx.quantization.calib_utils.import_scales_from_calib_cache``). TensorRT reads a cache only where its first
line is that of the calibrator in use, so the line is rewritten for the installed version (`retarget`).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np

from fqbench.errors import DataError

from .versions import V10, Version

CACHE = "calibration.cache"
ALGORITHM = "EntropyCalibration2"  # of the one calibrator that is given scales (`calibrator.BASES`)


def write_cache(scales: Mapping[str, float], *, version: Version = V10) -> str:
    """Return the text of a cache.

    Parameters
    ----------
    scales : mapping
        Tensor name to scale; rounded to 32 bits.
    version : Version
        Of the TensorRT that is to read it.

    Raises
    ------
    DataError
        A scale that is not a positive number, or a name that the format cannot hold.
    """
    lines = [_header(version)]
    for name, scale in scales.items():
        single = np.float32(scale)
        if not (np.isfinite(single) and single > 0):
            raise DataError(f"the scale of {name!r} is {scale}, which a cache cannot store; calibrate again.")
        if "\n" in name or not name:
            raise DataError(f"the tensor name {name!r} does not fit into a calibration cache; rename it.")
        lines.append(f"{name}: {struct.pack('>f', single).hex()}")
    return "\n".join(lines) + "\n"


def read_cache(text: str) -> dict[str, np.float32]:
    """Return tensor names and scales of a cache.

    Raises
    ------
    DataError
        It is not a calibration cache.
    """
    first, *lines = text.splitlines() or [""]
    if not first.startswith("TRT-"):
        raise DataError(f"this is not a calibration cache: it begins with {first[:40]!r}, not with TRT-.")
    scales = {}
    for line in lines:
        name, separator, value = line.rpartition(": ")
        try:
            scales[name] = np.float32(struct.unpack(">f", bytes.fromhex(value))[0])
        except (ValueError, struct.error):
            separator = ""
        if not separator:
            raise DataError(f"the calibration cache is damaged at {line[:60]!r}; quantize again.")
    return scales


def retarget(text: str, version: Version) -> str:
    """Return a cache with the first line that this version and calibrator read."""
    read_cache(text)
    return _header(version) + "\n" + text.partition("\n")[2]


def _header(version: Version) -> str:
    return f"TRT-{version.number}-{ALGORITHM}"
