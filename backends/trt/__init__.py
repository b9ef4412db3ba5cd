"""TensorRT; the backend itself is in `fqbench.backends.trt.backend`."""

from __future__ import annotations

from .backend import TensorRtBackend

__all__ = ["TensorRtBackend"]
