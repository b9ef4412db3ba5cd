"""TensorRT's own options: how an engine is built."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fqbench.plugins import BackendOptions


class TensorRtOptions(BackendOptions):
    """How an engine is built from an artifact."""

    max_batch: int = Field(32, ge=1, description="Largest batch that the engine takes.")
    opt_batch: int | None = Field(None, ge=1, description="Batch size to optimize for (default: the largest).")
    tf32: bool = Field(True, description="Let float operators multiply in TF32, as TensorRT does by default.")
    workspace: int | None = Field(None, ge=1, description="Maximum scratch memory in MiB (default: no limit).")
    implicit: Literal["none", "record", "entropy", "minmax", "percentile"] = Field(
        "none",
        description="Quantize without Q/DQ nodes (TensorRT 10): use the artifact's ranges or a calibrator.",
    )
