"""From ONNX to a TensorRT engine: parser, optimisation profile, strong typing, timing cache.

Source: "Python API Documentation", https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/python-api-docs.html,
and the reference of Builder, IBuilderConfig and OnnxParser.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fqbench.errors import DataError, InputError

from .calibrator import Images, make_calibrator
from .cuda import DeviceMemory, current
from .logger import failure, make_logger
from .versions import Version

if TYPE_CHECKING:
    from fqbench.quant.calibration import CalibrationSet

    from .options import TensorRtOptions


@dataclass(frozen=True)
class Implicit:
    """What implicit quantization (10.x) works from.

    Attributes
    ----------
    kind : str
        ``record``, ``entropy``, ``minmax`` or ``percentile``.
    cache : str
        Text of the artifact's calibration cache.
    calibration : CalibrationSet or None
        The images, for all kinds but ``record``.
    """

    kind: str
    cache: str
    calibration: CalibrationSet | None


@dataclass(frozen=True)
class Engine:
    """A serialized engine, and the calibration cache that TensorRT wrote on the way."""

    plan: bytes
    batches: tuple[int, int, int]
    written_cache: bytes | None


def build_engine(
    trt: Any,
    model: Path,
    options: TensorRtOptions,
    *,
    number: int = 0,
    implicit: Implicit | None = None,
    timing_cache: Path | None = None,
) -> Engine:
    """Build an engine for one GPU.

    Parameters
    ----------
    trt : module
        TensorRT.
    model : Path
        A Q/DQ or float model with one input (N, 3, H, W), N dynamic.
    options : TensorRtOptions
        Largest batch, TF32 or not, workspace.
    number : int
        Which GPU.
    implicit : Implicit, optional
        Quantize a float model with a calibrator.
    timing_cache : Path, optional
        Read where it is there, and written.

    Raises
    ------
    DataError
        TensorRT does not take the model; the message has the node and the reason.
    UnavailableError
        The GPU has too little memory.
    InputError
        Implicit quantization on 11.x.
    """
    memory = DeviceMemory(number)
    try:
        with current(memory.context):
            return _build(trt, memory, model, options, implicit=implicit, timing_cache=timing_cache)
    finally:
        memory.close()


def _build(
    trt: Any,
    memory: DeviceMemory,
    model: Path,
    options: TensorRtOptions,
    *,
    implicit: Implicit | None,
    timing_cache: Path | None,
) -> Engine:
    version = Version.parse(trt.__version__)
    logger = make_logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(version.network_flags(trt, explicit=implicit is None))
    _parse(trt, network, logger, model)
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if not options.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    if options.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace * 2**20)
    batches = (1, options.opt_batch or options.max_batch, options.max_batch)
    config.add_optimization_profile(_profile(builder, network, batches))
    calibrator, images = None, None
    if implicit is not None:
        version.require_calibrators()
        chosen = implicit.calibration if implicit.kind != "record" else None
        images = Images(chosen, memory) if chosen is not None else None
        cache = implicit.cache if implicit.kind == "record" else None
        calibrator = make_calibrator(trt, implicit.kind, images, version, cache=cache)
        version.use_calibrator(trt, config, calibrator, _profile(builder, network, (1, 1, 1)))
    _load_timings(config, timing_cache)
    plan = builder.build_serialized_network(network, config)
    if images is not None and images.error is not None:
        raise images.error
    if plan is None:
        raise failure(f"building an engine of {model.name} with TensorRT {version}", logger.errors)
    _save_timings(config, timing_cache)
    return Engine(bytes(plan), batches, calibrator.written if calibrator is not None else None)


def _parse(trt: Any, network: Any, logger: Any, model: Path) -> None:
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(model)):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        places = [
            f"{error.node_operator()} {error.node_name() or 'number ' + str(error.node())}: {error.desc()}"
            for error in errors
        ]
        said = "; ".join(places) or "; ".join(logger.errors[-3:]) or "the parser does not say why"
        raise DataError(f"TensorRT's parser refuses {model.name}: {said}; check it with `fqbench show`.")
    if network.num_inputs != 1 or network.num_outputs != 1:
        raise InputError(
            f"{model.name} has {network.num_inputs} inputs and {network.num_outputs} outputs, not one each."
        )


def _profile(builder: Any, network: Any, batches: tuple[int, int, int]) -> Any:
    given = network.get_input(0)
    image = tuple(int(size) for size in given.shape)[1:]
    if any(size < 1 for size in image):
        raise InputError(
            f"the model's input {given.name} has the shape {tuple(given.shape)}; only its batch may be free."
        )
    profile = builder.create_optimization_profile()
    profile.set_shape(given.name, *((batch, *image) for batch in batches))
    return profile


def _load_timings(config: Any, path: Path | None) -> None:
    if path is None:
        return
    cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
    if not config.set_timing_cache(cache, False):  # timings of another version or GPU: start again
        config.set_timing_cache(config.create_timing_cache(b""), False)


def _save_timings(config: Any, path: Path | None) -> None:
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_bytes(bytes(config.get_timing_cache().serialize()))
    temporary.replace(path)
