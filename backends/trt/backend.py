"""TensorRT: Q/DQ models and calibration caches anywhere, engines where there is a GPU, emulation elsewhere."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fqbench.contracts.artifacts import Artifact
from fqbench.contracts.numerics import Numerics
from fqbench.contracts.scheme import Method, Scheme
from fqbench.errors import DataError, InputError, UnavailableError
from fqbench.onnx_graph import true_inputs
from fqbench.optional import require
from fqbench.plugins import (
    Abilities,
    Availability,
    BackendBase,
    BuildSource,
    Level,
    Support,
    float_support,
    require_plan,
    require_support,
)
from fqbench.quant.half import half_graph, rounded_to_half

from .builder import Implicit, build_engine
from .cache import CACHE, write_cache
from .commands import ENGINE, LINES, lines
from .cuda import DEVICE, gpu, ordinal
from .emulation import EmulatedSession, emulator
from .int4 import write_int4
from .options import TensorRtOptions
from .placement import Placement, write_placed
from .rules import RULES
from .session import TensorRtSession
from .versions import Version

if TYPE_CHECKING:
    from fqbench.contracts.artifacts import ExportedModel
    from fqbench.contracts.plan import QuantizationPlan

MODEL = "model.onnx"
FLOAT = "fp32.onnx"  # what a cast was made of: its emulation rounds after every operator
PORTABLE = "portable"  # what is written without TensorRT; raised with the stage versions where its result changes
NOT_BUILT = "not built here"
LARGEST = 32


class TensorRtBackend(BackendBase):
    """Q/DQ models that obey TensorRT's rules, built into engines where TensorRT and a GPU are."""

    name = "trt"
    options: TensorRtOptions = TensorRtOptions()

    @property
    def abilities(self) -> Abilities:
        """It builds engines where TensorRT is, and its graphs are emulated where it is not."""
        return Abilities(builder=self, emulator=self)

    def numerics(self, scheme: Scheme) -> Numerics:
        """Signed activations with the zero point 0, as TensorRT's rules demand."""
        return Numerics.of(scheme, symmetric=True)

    def availability(self) -> Availability:
        """Return version and GPUs; without TensorRT artifacts can be written all the same, and not be run."""
        try:
            trt = require("tensorrt", extra="trt")
            version = Version.parse(trt.__version__)
            device = gpu()
        except UnavailableError as error:
            remedy = (
                "Install TensorRT 10 or 11 and pycuda on a machine with an NVIDIA GPU (pip install 'fqbench[trt]'), or "
                "carry the artifact there with `fqbench pack ID`."
            )
            return Availability(None, reason=str(error), remedy=remedy, writer=PORTABLE)
        return Availability(str(version), (DEVICE,), writer=PORTABLE, device_names={DEVICE: device.name})

    def supports(self, scheme: Scheme) -> Support:
        """Say what TensorRT runs."""
        nearest = "--method ptq_static --bits 8"
        if scheme.is_float:
            return float_support(scheme, "fp16")  # ONNX has no bfloat16 convolutions before opset 22
        if scheme.method not in {Method.PTQ_STATIC, Method.QAT}:
            reason = f"method {scheme.method.value} is not supported by this backend"
            if scheme.method is Method.PTQ_DYNAMIC:
                reason = "it takes activation scales from constants of the graph, so none can be dynamic"
            return Support(Level.NO, reason, nearest)
        if scheme.bits == 2:
            return Support(Level.NO, "TensorRT has no 2-bit integers (INT8 and INT4 alone)", nearest)
        if scheme.bits == 4 and (scheme.act_bits != 32 or scheme.method is Method.QAT):
            return Support(Level.NO, "its INT4 is weight-only, with float activations", "--bits 4 --act-bits 32")
        if scheme.bits == 8 and scheme.act_bits != 8:
            reason = f"it multiplies INT8 weights with INT8 activations, not with {scheme.act_bits}-bit ones"
            return Support(Level.NO, reason, nearest)
        return Support(Level.NATIVE)

    def quantize(self, model: ExportedModel, scheme: Scheme, plan: QuantizationPlan | None, out: Path) -> Artifact:
        """Write ``model.onnx``, for INT8 ``calibration.cache``, and the lines that build an engine.

        Raises
        ------
        SchemeNotSupported
            ``supports`` said no, and why.
        DataError
            The result breaks a rule of TensorRT; nothing is left behind.
        """
        require_support(self, scheme)
        details: dict[str, Any] = {"input_shape": list(model.input_shape), "engine": NOT_BUILT}
        files = [MODEL]
        if scheme.method is Method.NONE:
            files = [*model.copy_files(out)]
        elif scheme.method is Method.CAST:
            import onnx

            onnx.save(half_graph(model.path), out / MODEL)  # strongly typed: TensorRT keeps to the types of the graph
            shutil.copyfile(model.path, out / FLOAT)
            files.append(FLOAT)
            details["portable"] = FLOAT
        elif scheme.bits == 4:
            plan = require_plan(self, scheme, plan)
            left = write_int4(plan.copied_model(), out / MODEL, plan.float_nodes, weight_rule=scheme.weight_rule)
            details |= {"left_in_float": left, "rules_checked": len(RULES)}
            details |= {key: value for key, value in plan.facts.items() if key == "rescaled"}
        else:
            plan = require_plan(self, scheme, plan)
            placement = write_placed(plan, out / MODEL)
            scales = {name: float(one.scale) for name, one in plan.activations.items()}
            (out / CACHE).write_text(write_cache(scales), encoding="utf-8")
            details |= {**plan.facts, **_placed(placement)}
            files.append(CACHE)
        text = lines(_input_name(out / MODEL), model.input_shape, largest=LARGEST, quantized=CACHE in files)
        (out / LINES).write_text(text, encoding="utf-8")
        return Artifact(backend=self.name, scheme=scheme, root=out, files=(*files, LINES), details=details)

    def load(self, artifact: Artifact, *, threads: int, device: str) -> TensorRtSession:  # noqa: ARG002 - a GPU has none
        """Load the engine that was built for this GPU by this TensorRT.

        Raises
        ------
        UnavailableError
            There is no engine, or it is another GPU's or version's.
        InputError
            It names no GPU.
        """
        number = ordinal(device)
        trt = require("tensorrt", extra="trt")
        self._require_engine(artifact, device)
        return TensorRtSession(trt, artifact.main_file.read_bytes(), number=number)

    def emulation(self) -> str:
        """Return what executes the Q/DQ graph where TensorRT is not."""
        return emulator()

    def emulate(self, artifact: Artifact, *, threads: int) -> EmulatedSession:
        """Load the Q/DQ graph on onnxruntime's CPU provider."""
        if artifact.scheme.method is Method.CAST:
            return EmulatedSession(rounded_to_half(artifact.root / FLOAT).SerializeToString(), threads=threads)
        return EmulatedSession(artifact.root / MODEL, threads=threads)

    def built_here(self, artifact: Artifact, device: str) -> bool:
        """Whether the artifact holds an engine for this GPU and this TensorRT."""
        engine = artifact.details.get("engine")
        if not isinstance(engine, Mapping):
            return False
        here = self.build_identity(device)
        return all(engine.get(key) == value for key, value in here.items())

    def build_identity(self, device: str) -> dict[str, Any]:
        """Return the version of TensorRT and the GPU that an engine is built for."""
        trt = require("tensorrt", extra="trt")
        here = gpu(ordinal(device))
        return {
            "tensorrt": str(Version.parse(trt.__version__)),
            "compute_capability": here.compute_capability,
            "gpu": here.name,
        }

    def build(
        self, artifact: Artifact, out: Path, *, device: str, source: BuildSource | None, timing_cache: Path | None
    ) -> Artifact:
        """Write ``engine.plan`` into ``out``, next to the portable files.

        Raises
        ------
        UnavailableError, InputError, DataError
            As `build_engine` says.
        """
        trt = require("tensorrt", extra="trt")
        number = ordinal(device)
        portable = [name for name in artifact.files if name != ENGINE]
        implicit, model, options = None, artifact.root / MODEL, self.options
        if options.implicit != "none":
            model, implicit = self._implicit(artifact, source)
        engine = build_engine(trt, model, options, number=number, implicit=implicit, timing_cache=timing_cache)
        (out / ENGINE).write_bytes(engine.plan)
        for name in portable:
            shutil.copyfile(artifact.root / name, out / name)
        if engine.written_cache is not None:
            (out / CACHE).write_bytes(engine.written_cache)
        here = gpu(number)
        facts = {
            **self.build_identity(device),
            "driver": here.driver,
            "sha256": hashlib.sha256(engine.plan).hexdigest(),
            "batches": list(engine.batches),
            "quantization": "Q/DQ" if implicit is None else f"implicit, {options.implicit}",
            "tf32": options.tf32,
        }
        details = {**artifact.details, "engine": facts}
        return Artifact(backend=self.name, scheme=artifact.scheme, root=out, files=(ENGINE, *portable), details=details)

    def next_step(self, artifact: Artifact) -> str:
        """Say how to get an engine."""
        return (
            f"engine: {NOT_BUILT}; on a machine with TensorRT and a GPU run `fqbench build {artifact.id}`, or carry it "
            f"there: `fqbench pack {artifact.id}`, `fqbench run-pack FILE` on that machine, `fqbench import FILE` here."
        )

    def _implicit(self, artifact: Artifact, source: BuildSource | None) -> tuple[Path, Implicit]:
        if CACHE not in artifact.files:
            raise InputError(f"{artifact.id or artifact.label} has no calibration cache; trt.implicit is for INT8.")
        if "rescaled" in artifact.details:
            raise InputError(
                f"{artifact.id or artifact.label} was rescaled, and trt.implicit builds from the FP32 model as it was; "
                "quantize with --rescaling off."
            )
        if source is None:
            raise InputError("trt.implicit needs the FP32 model, which is in the workspace that made the artifact.")
        cache = (artifact.root / CACHE).read_text(encoding="utf-8")
        kind = self.options.implicit
        return source.model.path, Implicit(kind, cache, None if kind == "record" else source.calibration())

    def _require_engine(self, artifact: Artifact, device: str) -> None:
        engine = artifact.details.get("engine")
        name = artifact.id or artifact.label
        if not isinstance(engine, Mapping):
            raise UnavailableError(
                f"{name} holds no engine ({NOT_BUILT}); run `fqbench build {artifact.id or 'ID'}` here."
            )
        here = self.build_identity(device)
        other = [key for key, value in here.items() if engine.get(key) != value]
        if other:
            theirs, ours = (
                f"TensorRT {facts.get('tensorrt')} and {facts.get('gpu')} (compute {facts.get('compute_capability')})"
                for facts in (engine, here)
            )
            raise UnavailableError(
                f"{name} was built with {theirs}; here are {ours}: engines do not travel, run `fqbench build` here."
            )
        found = hashlib.sha256(artifact.main_file.read_bytes()).hexdigest()
        if engine.get("sha256") != found:
            raise DataError(f"the engine of {name} is damaged: its hash differs; build it again.")


def _placed(placement: Placement) -> dict[str, Any]:
    return {
        "integer_operators": len(placement.operators),
        "residuals": len(placement.residuals),
        "gates": len(placement.gates),
        "left_in_float": placement.left_out,
        "rules_checked": len(RULES),
    }


def _input_name(model: Path) -> str:
    import onnx

    return str(true_inputs(onnx.load(model, load_external_data=False).graph)[0].name)
