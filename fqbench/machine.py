"""What this machine is: versions of the libraries, and the CPU features on which INT8 answers depend."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = ("fqbench", "numpy", "onnx", "onnxruntime", "pandas", "pyarrow", "pillow", "scipy", "fairlearn")
LIBRARIES_OF_EXTRAS = ("torch", "torchvision", "timm", "accelerate", "onnxscript")
# The instructions that decide whether INT8 is fast, and whether its 16-bit sums can saturate.
FEATURES = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_int8",
    "amx_bf16",
    "asimddp",
    "i8mm",
    "sve",
)


@dataclass(frozen=True)
class Machine:
    """The machine that a figure was measured on.

    Attributes
    ----------
    cpu : str
        Model name.
    cores : int
        Cores that this process may use.
    features : tuple of str
        Those of `FEATURES` that the CPU has.
    memory : int
        Bytes.
    system, python : str
        Operating system and Python version.
    """

    cpu: str
    cores: int
    features: tuple[str, ...]
    memory: int
    system: str
    python: str

    def to_dict(self) -> dict[str, object]:
        """Return JSON values."""
        return {**asdict(self), "features": list(self.features)}


@cache
def this_machine() -> Machine:
    """Describe the machine that this process runs on."""
    import psutil

    info = _cpuinfo()
    flags = set(info.get("flags", info.get("Features", "")).split())
    return Machine(
        cpu=info.get("model name", platform.processor() or platform.machine()),
        cores=usable_cores(),
        features=tuple(feature for feature in FEATURES if feature in flags),
        memory=int(psutil.virtual_memory().total),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
    )


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def installed_versions(names: tuple[str, ...] = LIBRARIES + LIBRARIES_OF_EXTRAS) -> dict[str, str]:
    """Return the versions of those libraries that are installed, without importing them."""
    versions = {"python": platform.python_version()}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _cpuinfo() -> dict[str, str]:
    """First processor of /proc/cpuinfo; empty on systems without it, so features are then unknown, not absent."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return {}
    first = path.read_text(encoding="utf-8", errors="replace").split("\n\n", 1)[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}
