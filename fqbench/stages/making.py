"""Typed production, for as long as `Run.produce` takes untyped facts, too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from fqbench.run import Run
from fqbench.workspace import Derivation, Entry
from fqbench.workspace.entries import F


def make(run: Run, derivation: Derivation[F], build: Callable[[Path], F], doing: str) -> Entry[F]:
    """Return the entry of a derivation; where it is missing, say what is done and build it."""
    untyped: Any = run.produce
    return cast("Entry[F]", untyped(derivation, build, doing))
