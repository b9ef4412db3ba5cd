"""OpenVINO; the backend itself is in `fqbench.backends.openvino.backend`."""

from __future__ import annotations

from .backend import OpenVinoBackend

__all__ = ["OpenVinoBackend"]
