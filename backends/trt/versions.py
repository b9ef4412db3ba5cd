"""Differences between TensorRT 10 and 11; no other module knows which one is installed.

Source: "Migrating from TensorRT 10.x to 11.x", its pages on Python, trtexec and IEngineInspector, below
https://docs.nvidia.com/deeplearning/tensorrt/latest/api/migration/tensorrt-10x-to-11x.html; names of the Python API as
bound in the open-source part of TensorRT (``python/src/infer/pyCore.cpp`` of releases 10.16 and 11.1).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fqbench.errors import InputError, UnavailableError

OLDEST, NEWEST = 10, 11
_VERSION = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")


@dataclass(frozen=True)
class Version:
    """A version of TensorRT, and what it can do.

    Attributes
    ----------
    major, minor, patch : int
        As in ``tensorrt.__version__``.
    """

    major: int
    minor: int
    patch: int

    @classmethod
    def parse(cls, text: str) -> Version:
        """Read ``tensorrt.__version__``.

        Raises
        ------
        UnavailableError
            It is neither 10 nor 11, or no version at all.
        """
        found = _VERSION.match(text)
        if found is None:
            raise UnavailableError(f"TensorRT calls itself {text!r}, which is not a version number; reinstall it.")
        version = cls(int(found[1]), int(found[2]), int(found[3] or 0))
        if not OLDEST <= version.major <= NEWEST:
            raise UnavailableError(
                f"TensorRT {version} is not supported; install a version from {OLDEST}.x to {NEWEST}.x."
            )
        return version

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    @property
    def number(self) -> int:
        """The number in a calibration cache's first line: ``NV_TENSORRT_VERSION`` of the C++ headers."""
        return self.major * (10_000 if self.major >= 10 else 1_000) + self.minor * 100 + self.patch

    @property
    def has_calibrators(self) -> bool:
        """Whether implicit quantization exists: calibrators are deprecated since 10.1 and removed in 11.0."""
        return self.major < 11

    def network_flags(self, trt: Any, *, explicit: bool) -> int:
        """Return the flags of ``Builder.create_network``.

        10.x has weakly and strongly typed networks, and Q/DQ models should be strongly typed; in 11.x every network is,
        and the flag is accepted and ignored.
        """
        if self.has_calibrators and explicit:
            return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        return 0

    def use_calibrator(self, trt: Any, config: Any, calibrator: Any, profile: Any) -> None:
        """Ask for implicit INT8 quantization.

        Raises
        ------
        InputError
            This version has none.
        """
        self.require_calibrators()
        config.set_flag(trt.BuilderFlag.INT8)
        config.int8_calibrator = calibrator
        if not config.set_calibration_profile(profile):
            raise InputError("TensorRT refuses the shape of the calibration images; build without trt.implicit.")

    def require_calibrators(self) -> None:
        """Check that implicit quantization exists.

        Raises
        ------
        InputError
            Since 11.0 it does not.
        """
        if not self.has_calibrators:
            raise InputError(
                f"TensorRT {self} has no calibrators: they were removed in 11.0; leave trt.implicit out, and the "
                "Q/DQ nodes decide."
            )

    def tensor_format(self, tensor: Mapping[str, Any]) -> str:
        """Return what the engine inspector says of a tensor's type: one field in 10.x, two in 11.x."""
        return str(tensor.get("DataType", tensor.get("Format/Datatype", "")))

    def trtexec(self, *, explicit: bool) -> list[str]:
        """Return the flags of trtexec that say how to quantize: none in 11.x, where precision flags are gone."""
        if not self.has_calibrators:
            return []
        return ["--stronglyTyped"] if explicit else ["--int8", "--calib=calibration.cache"]


V10, V11 = Version(10, 0, 0), Version(11, 0, 0)
