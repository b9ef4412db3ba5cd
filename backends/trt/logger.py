"""TensorRT says why something failed to its logger alone: keep what it says, and put it into the error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fqbench.errors import DataError, FqbenchError, UnavailableError

MEMORY = ("out of memory", "outofmemory", "cudaerrormemoryallocation", "requested amount of gpu memory")
KEPT = 50


def make_logger(trt: Any) -> Any:
    """Return a logger that keeps warnings and errors in ``said``, as (severity, text)."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.said: list[tuple[str, str]] = []

        def log(self, severity: Any, text: str) -> None:
            kinds = {
                trt.ILogger.INTERNAL_ERROR: "error",
                trt.ILogger.ERROR: "error",
                trt.ILogger.WARNING: "warning",
            }
            if severity in kinds:
                self.said = [*self.said[-KEPT:], (kinds[severity], text)]

        @property
        def errors(self) -> list[str]:
            return [text for kind, text in self.said if kind == "error"]

    return Logger()


def failure(doing: str, errors: Sequence[str]) -> FqbenchError:
    """Return the error to raise when TensorRT gave nothing back: no memory is one thing, a bad model another."""
    said = "; ".join(dict.fromkeys(text.strip() for text in errors[-3:])) or "it does not say why"
    if any(word in text.lower() for text in errors for word in MEMORY):
        return UnavailableError(
            f"{doing} failed, the GPU is out of memory ({said}); end other programs, lower the batch."
        )
    return DataError(f"{doing} failed: {said}; see `fqbench doctor` for what is supported here.")
