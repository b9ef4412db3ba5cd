"""OpenVINO's own options: how a model is compiled for the device."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from fqbench.plugins import BackendOptions


class OpenVinoOptions(BackendOptions):
    """How a model is compiled when it is loaded."""

    streams: int = Field(1, ge=1, description="Inference streams that share the threads; 1 gives the lowest latency.")
    cache_dir: Path | None = Field(
        None, description="Folder in which OpenVINO keeps compiled models (default: none are kept)."
    )
