"""PyTorch: FX graph mode quantization on torch's own integer kernels, and training with fake quantization."""

from .backend import TorchFxBackend

__all__ = ["TorchFxBackend"]
