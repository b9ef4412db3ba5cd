"""How sizes, means and standard deviations of images are written by a user."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer


def _height_and_width(value: Any) -> Any:
    """Read 64, "64" or "48x192"; a pair is returned unchanged."""
    parts = value.lower().split("x") if isinstance(value, str) else value
    if isinstance(parts, list) and all(isinstance(part, str) and part.strip().isdecimal() for part in parts):
        parts = [int(part) for part in parts]
    if isinstance(parts, list) and len(parts) == 1:
        parts = parts[0]
    return (parts, parts) if isinstance(parts, int) and not isinstance(parts, bool) else parts


def size_text(size: tuple[int, int]) -> str:
    """Return ``64`` for a square and ``48x192`` (height first) for anything else, as ``--size`` takes it."""
    return str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"


def _per_channel(value: Any) -> Any:
    """Read ``"0.5,0.5,0.5"``, or ``none``; one number stands for all three channels."""
    parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    parts = [parts] if isinstance(parts, int | float) else parts
    if isinstance(parts, list | tuple) and len(parts) == 1:
        return "none" if str(parts[0]).lower() == "none" else (parts[0],) * 3
    return parts


Side = Annotated[int, Field(ge=8, le=4096)]
Size = Annotated[
    tuple[Side, Side],
    BeforeValidator(_height_and_width),
    PlainSerializer(lambda size: size[0] if size[0] == size[1] else size_text(size), return_type=int | str),
]
PerChannel = Annotated[tuple[float, float, float] | Literal["none"] | None, BeforeValidator(_per_channel)]
