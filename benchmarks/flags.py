"""The flags of `fqbench` that a benchmark passes on to its experiment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def flags_of(rest: Sequence[str]) -> dict[str, Any]:
    """Return ``["--test-images", "900"]`` as ``{"test_images": "900"}``; each flag has one value."""
    names = [name.removeprefix("--").replace("-", "_") for name in rest[::2]]
    return dict(zip(names, rest[1::2], strict=True))
