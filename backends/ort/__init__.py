"""ONNX Runtime as a backend."""

from .backend import OnnxRuntimeBackend

__all__ = ["OnnxRuntimeBackend"]
