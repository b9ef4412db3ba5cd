"""PyTorch through `torch.compile`: the FP32 that INT8 has to beat, and 8 bits in Inductor's integer kernels."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fqbench.contracts.artifacts import Artifact
from fqbench.contracts.scheme import Method, Scheme
from fqbench.plugins import Availability, BackendBase, Level, Support, float_support, packed_support, require_support

from .torch_fx.backend import RESCALED, TorchFxBackend, refuse_device, torch_availability

if TYPE_CHECKING:
    from fqbench.contracts.artifacts import ExportedModel
    from fqbench.contracts.plan import QuantizationPlan

    from .torch_fx.session import TorchSession

COMPILERS = ("g++", "clang++", "cl")


class TorchCompileBackend(BackendBase):
    """A network that Inductor compiles for the CPU at hand when it is loaded; artifacts are those of torch_fx."""

    name = "torch_compile"

    def availability(self) -> Availability:
        """Return torch's version where there is a C++ compiler, which Inductor needs."""
        found = torch_availability()
        if found.can_run and not any(shutil.which(name) for name in COMPILERS):
            return Availability(None, reason="no C++ compiler is on the path", remedy="Install g++ or clang++.")
        return found

    def supports(self, scheme: Scheme) -> Support:
        """FP32 and casts of it, and 8 bits with static ranges."""
        if scheme.is_float:
            return float_support(scheme, "bf16", "fp16")
        if scheme.method not in {Method.PTQ_STATIC, Method.QAT}:
            return Support(Level.NO, f"method {scheme.method} is not supported by this backend", "--method ptq_static")
        if scheme.rescaling == "on":
            return Support(Level.NO, RESCALED, "--rescaling off")
        if scheme.act_bits != 8 or scheme.bits == 32:
            return Support(Level.NO, "its kernels take 8-bit activations", "--act-bits 8, or --backend torch_fx")
        return packed_support(scheme)

    def quantize(self, model: ExportedModel, scheme: Scheme, plan: QuantizationPlan | None, out: Path) -> Artifact:
        """Write ``model.json`` and ``weights.safetensors`` into ``out``, as torch_fx does.

        Raises
        ------
        SchemeNotSupported
            ``supports`` said no, and why.
        InputError
            The model came as ONNX, or FX cannot trace it.
        """
        require_support(self, scheme)
        made = TorchFxBackend().quantize(model, scheme, plan, out)
        return replace(made, backend=self.name)

    def load(self, artifact: Artifact, *, threads: int, device: str) -> TorchSession:
        """Build the network again and compile it for one image; another batch size is compiled when it first comes.

        Raises
        ------
        InputError
            Another device than the CPU.
        UnavailableError
            8 bits without torchao, which brings the patterns of the integer kernels; a cast to a type that the CPU
            has no instructions for.
        DataError
            The artifact is damaged, or this torch and timm build another network.
        """
        refuse_device(self.name, device)
        from .torch_fx import casting, lowering, quantizing
        from .torch_fx.session import TorchSession

        shape = tuple(artifact.details["input_shape"])
        if artifact.scheme.is_float:
            network = quantizing.load(artifact.root, artifact.scheme, native=True)
            if artifact.scheme.precision is not None:
                network = casting.cast(network, artifact.scheme.precision)
            return TorchSession(network, shape, threads, run=lowering.compiled(network))
        lowering.need_patterns()
        network = quantizing.load_written_out(artifact.root, artifact.scheme)
        run = lowering.compiled(network)
        return TorchSession(network, shape, threads, run=run, arithmetic=lambda: lowering.count(network, run, shape))
