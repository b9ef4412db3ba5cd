"""This machine: versions of the libraries, and the CPU features that INT8 results depend on."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Collection
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

DISTRIBUTION = "fqbench"
LIBRARY_NAME = re.compile(r"[A-Za-z0-9._-]+")
EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")
DEVELOPMENT = "dev"  # the extra of those who work on fqbench itself
# The instructions that decide whether INT8 is fast, and whether its 16-bit sums can saturate.
FEATURES = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_int8",
    "amx_bf16",
    "avx512_fp16",
    "amx_fp16",
    "asimddp",
    "bf16",
    "fphp",
    "i8mm",
    "sve",
)


# Any of them multiplies unsigned with signed bytes and adds up in 32 bits.
EXACT_SUMS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
X86 = ("x86_64", "amd64", "i386", "i686")


class IntegerSums(StrEnum):
    """How this CPU adds up products of 8-bit integers.

    ``exact``: in 32 bits. ``saturating``: an x86 without VNNI adds pairs of products in 16 bits (``vpmaddubsw``), whose
    sums stop at 32767, so that INT8 answers differ from those of other CPUs. ``unknown``: the features of the CPU could
    not be read.
    """

    EXACT = "exact"
    SATURATING = "saturating"
    UNKNOWN = "unknown"

    @classmethod
    def of(cls, system: str, features: Collection[str]) -> IntegerSums:
        """Return it for a system as `Machine.system` names it, and a CPU's features."""
        if not system.lower().endswith(X86):
            return cls.EXACT  # ARM's widening multiplications and dot products add up in 32 bits
        if not features:
            return cls.UNKNOWN
        return cls.EXACT if EXACT_SUMS.intersection(features) else cls.SATURATING


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

    @property
    def integer_sums(self) -> IntegerSums:
        """How the CPU adds up products of 8-bit integers."""
        return IntegerSums.of(self.system, self.features)


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


def physical_cores() -> int | None:
    """Return the number of real cores of this machine, or of those that this process may use; None if unknown."""
    import psutil

    cores = psutil.cpu_count(logical=False)
    return None if cores is None else min(int(cores), usable_cores())


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class Requirement:
    """A library that fqbench declares, and the extra that brings it; empty where the base install does."""

    name: str
    extra: str

    @property
    def version(self) -> str | None:
        """Its installed version, without importing it; None where it is not installed."""
        return _installed_version(self.name)


@cache  # reading it parses all metadata of the library, and every entry of a workspace asks for all libraries
def _installed_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@cache
def requirements() -> tuple[Requirement, ...]:
    """Return the libraries that the installed fqbench declares, those of extras among them, each once."""
    found: dict[str, Requirement] = {}
    for line in requires(DISTRIBUTION) or ():
        name = LIBRARY_NAME.match(line)
        extra = EXTRA.search(line)
        if name and (extra is None or extra[1] != DEVELOPMENT):
            found.setdefault(name[0], Requirement(name[0], extra[1] if extra else ""))
    return tuple(found.values())


def installed_versions() -> dict[str, str]:
    """Return the versions of the libraries that are installed, without importing them."""
    found = {"python": platform.python_version(), DISTRIBUTION: version(DISTRIBUTION)}
    return found | {one.name: one.version for one in requirements() if one.version is not None}


def _cpuinfo() -> dict[str, str]:
    """First processor of /proc/cpuinfo; empty on systems without it, so features are then unknown, not absent."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return {}
    first = path.read_text(encoding="utf-8", errors="replace").split("\n\n", 1)[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}
