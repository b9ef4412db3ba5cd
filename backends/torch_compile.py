"""PyTorch FP32 through `torch.compile`: the float baseline that INT8 on any runtime has to beat."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fqbench.artifacts import Artifact
from fqbench.errors import SchemeNotSupported
from fqbench.plugins import Availability, Level, Support
from fqbench.quant.scheme import Method, Scheme

from .torch_fx.backend import refuse_device, torch_availability

if TYPE_CHECKING:
    from fqbench.artifacts import ExportedModel
    from fqbench.quant.calibration import CalibrationSet

    from .torch_fx.session import TorchSession

COMPILERS = ("g++", "clang++", "cl")


class TorchCompileBackend:
    """The FP32 network, compiled by Inductor for the CPU at hand when it is loaded."""

    name = "torch_compile"

    def availability(self) -> Availability:
        """Return torch's version where there is a C++ compiler, which Inductor needs."""
        found = torch_availability()
        if found.usable and not any(shutil.which(name) for name in COMPILERS):
            return Availability(None, reason="no C++ compiler is on the path", remedy="Install g++ or clang++.")
        return found

    def supports(self, scheme: Scheme) -> Support:
        """FP32 alone."""
        if scheme.method is Method.NONE:
            return Support(Level.NATIVE)
        return Support(Level.NO, "it compiles float networks alone", "--backend torch_fx")

    def quantize(
        self,
        model: ExportedModel,
        scheme: Scheme,
        calibration: CalibrationSet | None,  # noqa: ARG002 - FP32 needs none
        out: Path,
    ) -> Artifact:
        """Write the FP32 network.

        Raises
        ------
        SchemeNotSupported
            Anything but FP32.
        InputError
            The model came as ONNX.
        """
        support = self.supports(scheme)
        if support.level is Level.NO:
            raise SchemeNotSupported(f"{self.name} cannot run {scheme.label}: {support.reason}; try {support.nearest}.")
        from .torch_fx import quantizing, storage

        quantizing.copy_float(model, out)
        details: dict[str, Any] = {"input_shape": list(model.input_shape)}
        return Artifact(self.name, scheme, out, (storage.RECIPE, storage.TENSORS), details)

    def load(self, artifact: Artifact, *, threads: int, device: str) -> TorchSession:
        """Compile the network for one image; another batch size is compiled when it first comes.

        Raises
        ------
        InputError
            Another device than the CPU.
        """
        refuse_device(self.name, device)
        import torch

        from .torch_fx import quantizing
        from .torch_fx.session import TorchSession

        network = quantizing.load(artifact.root, artifact.scheme, native=True)
        return TorchSession(network, tuple(artifact.details["input_shape"]), threads, run=torch.compile(network))
