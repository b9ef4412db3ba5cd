"""What the strict doubles share: the machine behind them, and a base that knows nothing but its version's API."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np


class Strict:
    """Base of all doubles: an attribute that is not part of the API in this version is a failure, to read or to set."""

    api: frozenset[str] = frozenset()

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise AssertionError(f"{type(self).__name__} has no {name!r} in this version")

    def __setattr__(self, name: str, value: object) -> None:
        assert name.startswith("_") or name in self.api, f"{type(self).__name__} has no {name!r} to set in this version"
        object.__setattr__(self, name, value)


@dataclass
class World:
    """The machine behind the doubles: one GPU, its contexts and memory, and a journal of what was called."""

    version: str = "10.16.1"
    compute_capability: tuple[int, int] = (9, 0)
    gpu: str = "NVIDIA H100 80GB HBM3"
    memory: int = 80 << 30
    builder_memory: int = 80 << 30
    gpus: int = 1
    parser_error: tuple[str, str, int, str] | None = None
    journal: list[str] = field(default_factory=list)
    stack: list[Any] = field(default_factory=list)
    retained: int = 0
    live: dict[int, tuple[int, Any]] = field(default_factory=dict)
    calibrated: list[np.ndarray] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    timing_caches: list[bytes] = field(default_factory=list)
    flags_set: set[str] = field(default_factory=set)
    cleared: set[str] = field(default_factory=set)

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])

    def note(self, what: str) -> None:
        self.journal.append(what)

    def require_context(self) -> None:
        assert self.stack, "a CUDA call without a current context"

    def assert_clean(self) -> None:
        assert not self.live, f"{len(self.live)} allocation(s) were not freed"
        assert not self.stack, "a context is still current"
        assert self.retained == 0, "the primary context is still held"


def unknown(module: str) -> Any:
    def refuse(name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise AssertionError(f"{module} has no {name!r} in this version")

    return refuse
