"""How stages report progress, without depending on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Reporter(Protocol):
    """Receives log lines and progress; the command line shows them on stderr."""

    def say(self, line: str) -> None:
        """Show one line."""
        ...

    def track(self, what: str, total: int, unit: str) -> AbstractContextManager[Callable[[int], None]]:
        """Show progress of ``what``; call the function that it yields with the number of units just done."""
        ...


class Silent:
    """Shows nothing: the default of every library function."""

    def say(self, line: str) -> None:
        """Drop the line."""

    @contextmanager
    def track(self, what: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:  # noqa: ARG002
        """Count nothing."""
        yield lambda _done: None
