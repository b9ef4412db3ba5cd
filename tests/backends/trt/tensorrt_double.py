"""A strict double of what is used of ``tensorrt`` 10.x and 11.x; anything else is a failure.

Names and signatures are those of the open-source bindings (``python/src/infer/pyCore.cpp``, ``pyInt8.cpp`` and
``python/src/parsers/pyOnnx.cpp`` of releases 10.16 and 11.1) and of the Python API reference below
https://docs.nvidia.com/deeplearning/tensorrt/latest/_static/python-api/; what 11 removed is from "Removed Python
APIs and Replacements" there. It checks the order of calls that the reference asks for and refuses what a version
refuses. An engine is the ONNX file in a wrapper, and answers by onnxruntime, to be compared with emulation.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import numpy as np
import onnx

from tests.backends.trt.tensorrt_behaviour import Calibrator, allocation, calibrate, layers, parser_errors
from tests.backends.trt.world import Strict, World, unknown

MAGIC = b"PLAN"


class Enum:
    """Members of a pybind enum: an int and a name; anything else is unknown."""

    def __init__(self, name: str, *members: str) -> None:
        self.__dict__.update({member: _Member(number, f"{name}.{member}") for number, member in enumerate(members)})
        self.__dict__["_name"] = name

    def __getattr__(self, name: str) -> NoReturn:
        raise AssertionError(f"{self.__dict__['_name']} has no {name!r} in this version")


class _Member(int):
    name: str

    def __new__(cls, value: int, name: str) -> _Member:
        member = super().__new__(cls, value)
        member.name = name
        return member


def make_tensorrt(world: World) -> ModuleType:  # noqa: C901 - one module, read from top to bottom
    """Make the module ``tensorrt`` of a world, as its version has it."""
    trt = ModuleType("tensorrt")
    old = world.major < 11
    flags = ["DEBUG", "GPU_FALLBACK", "REFIT", "TF32"] + (["INT8", "FP16", "BF16", "INT4"] if old else [])
    builder_flag = Enum("BuilderFlag", *flags)
    creation = Enum("NetworkDefinitionCreationFlag", *(["EXPLICIT_BATCH"] if old else []), "STRONGLY_TYPED")
    io_mode = Enum("TensorIOMode", "NONE", "INPUT", "OUTPUT")
    verbosity = Enum("ProfilingVerbosity", "LAYER_NAMES_ONLY", "NONE", "DETAILED")
    formats = Enum("LayerInformationFormat", "ONELINE", "JSON")
    pools = Enum("MemoryPoolType", "WORKSPACE")
    data_type = Enum("DataType", "FLOAT", "HALF", "INT8")

    class ILogger:
        INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

        def __init__(self) -> None:
            self._ready = True

    class IHostMemory:
        def __init__(self, data: bytes) -> None:
            self._data = data

        def __bytes__(self) -> bytes:
            return self._data

    class Profile(Strict):
        def __init__(self) -> None:
            self._shapes: dict[str, tuple[tuple[int, ...], ...]] = {}

        def set_shape(self, name: str, low: Any, opt: Any, high: Any) -> None:
            ordered = all(a <= b <= c for a, b, c in zip(low, opt, high, strict=True))
            if not ordered:
                raise RuntimeError("Shape provided for opt is inconsistent with other shapes.")
            self._shapes[name] = (tuple(low), tuple(opt), tuple(high))

    class TensorInfo(Strict):
        def __init__(self, value: Any) -> None:
            dims = value.type.tensor_type.shape.dim
            self._shape = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in dims)
            self._name = value.name

        @property
        def name(self) -> str:
            return str(self._name)

        @property
        def shape(self) -> tuple[int, ...]:
            return self._shape

    class Network(Strict):
        def __init__(self, creation_flags: int) -> None:
            strongly = bool(creation_flags & (1 << int(creation.STRONGLY_TYPED)))
            self._strongly = strongly or not old
            self._model: Any = None
            self._bytes = b""

        @property
        def num_inputs(self) -> int:
            return len(self._inputs())

        @property
        def num_outputs(self) -> int:
            return len(self._model.graph.output)

        def get_input(self, index: int) -> TensorInfo:
            return TensorInfo(self._inputs()[index])

        def _inputs(self) -> list[Any]:
            assert self._model is not None, "the network was not parsed"
            constants = {tensor.name for tensor in self._model.graph.initializer}
            return [value for value in self._model.graph.input if value.name not in constants]

    class ParserError(Strict):
        def __init__(self, operator: str, name: str, number: int, reason: str) -> None:
            self._said = (operator, name, number, reason)

        def node_operator(self) -> str:
            return self._said[0]

        def node_name(self) -> str:
            return self._said[1]

        def node(self) -> int:
            return self._said[2]

        def desc(self) -> str:
            return self._said[3]

    class OnnxParser(Strict):
        def __init__(self, network: Network, logger: Any) -> None:
            assert logger._ready, "the logger's base was not initialised"
            self._network, self._errors = network, []

        def parse_from_file(self, path: str) -> bool:
            model = onnx.load(path)
            self._errors = parser_errors(model, ParserError)
            if world.parser_error is not None:
                self._errors.append(ParserError(*world.parser_error))
            if self._errors:
                return False
            self._network._model, self._network._bytes = model, Path(path).read_bytes()
            return True

        @property
        def num_errors(self) -> int:
            return len(self._errors)

        def get_error(self, index: int) -> ParserError:
            return self._errors[index]

    class TimingCache(Strict):
        def __init__(self, data: bytes) -> None:
            self._data = data

        def serialize(self) -> IHostMemory:
            return IHostMemory(self._data)

    class Config(Strict):
        api = frozenset({"profiling_verbosity"} | ({"int8_calibrator"} if old else set()))

        def __init__(self) -> None:
            self._flags: set[str] = set()
            self._profiles: list[Profile] = []
            self._calibration_profile: Profile | None = None
            self._timing: TimingCache | None = None
            self.profiling_verbosity = verbosity.LAYER_NAMES_ONLY
            if old:
                self.int8_calibrator = None

        def set_flag(self, flag: _Member) -> None:
            self._flags.add(flag.name)
            world.flags_set.add(flag.name)

        def clear_flag(self, flag: _Member) -> None:
            world.cleared.add(flag.name)

        def set_memory_pool_limit(self, pool: _Member, size: int) -> None:
            assert pool is pools.WORKSPACE

        def add_optimization_profile(self, profile: Profile) -> int:
            assert profile._shapes, "an optimisation profile without shapes"
            self._profiles.append(profile)
            return len(self._profiles) - 1

        def create_timing_cache(self, data: bytes) -> TimingCache:
            return TimingCache(data)

        def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
            world.timing_caches.append(cache._data)
            if cache._data and not cache._data.startswith(f"timings {world.version}".encode()):
                return False
            self._timing = cache
            return True

        def get_timing_cache(self) -> TimingCache:
            assert self._timing is not None, "no timing cache was set"
            return TimingCache(f"timings {world.version}".encode())

        if old:

            def set_calibration_profile(self, profile: Profile) -> bool:
                self._calibration_profile = profile
                return True

    class Builder(Strict):
        def __init__(self, logger: Any) -> None:
            assert logger._ready, "the logger's base was not initialised"
            self._logger = logger

        def create_network(self, flags: int = 0) -> Network:
            return Network(flags)

        def create_builder_config(self) -> Config:
            return Config()

        def create_optimization_profile(self) -> Profile:
            return Profile()

        def build_serialized_network(self, network: Network, config: Config) -> IHostMemory | None:
            world.require_context()
            assert network._model is not None, "an empty network is built"
            assert config._profiles, "a dynamic network is built without an optimisation profile"
            kinds = {node.op_type for node in network._model.graph.node}
            int8 = "BuilderFlag.INT8" in config._flags
            if network._strongly and int8:
                return self._fail("Error Code 3: precision flags cannot be set in a strongly typed network")
            if "QuantizeLinear" in kinds and not network._strongly and not int8:
                return self._fail("Error Code 4: the network has Q/DQ layers, and INT8 is not enabled")
            if world.builder_memory < len(network._bytes):
                return self._fail("Error Code 2: OutOfMemory (Requested size was 1073741824 bytes.)")
            calibrator = getattr(config, "int8_calibrator", None) if old else None
            if int8 and calibrator is not None:
                assert config._calibration_profile is not None, "a dynamic network is calibrated without a profile"
                calibrate(world, calibrator, config._calibration_profile)
            elif int8:
                return self._fail("Error Code 4: calibration failed: no calibrator")
            low, opt, high = next(iter(config._profiles[0]._shapes.values()))
            head = json.dumps(
                {
                    "version": world.version,
                    "compute": world.compute_capability,
                    "profile": [low, opt, high],
                    "detailed": config.profiling_verbosity is verbosity.DETAILED,
                }
            ).encode()
            return IHostMemory(MAGIC + struct.pack(">I", len(head)) + head + network._bytes)

        def _fail(self, text: str) -> None:
            self._logger.log(ILogger.ERROR, text)

    class Context(Strict):
        def __init__(self, engine: Any) -> None:
            self._engine = engine
            self._shape: tuple[int, ...] | None = None
            self._addresses: dict[str, int] = {}

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            assert name == self._engine._input, "set_input_shape of no input"
            low, _opt, high = self._engine._profile
            if not all(a <= size <= b for a, size, b in zip(low, shape, high, strict=True)):
                return False
            self._shape = tuple(shape)
            return True

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            assert self._shape is not None, "shapes are asked for before the input's is set"
            return self._shape if name == self._engine._input else (self._shape[0], *self._engine._answer[1:])

        def set_tensor_address(self, name: str, memory: int) -> bool:
            assert name in (self._engine._input, self._engine._output), f"no tensor {name!r}"
            self._addresses[name] = memory
            return True

        def execute_async_v3(self, stream_handle: int) -> bool:
            world.require_context()
            assert self._shape is not None, "execute before set_input_shape"
            names = {self._engine._input, self._engine._output}
            assert set(self._addresses) == names, "execute before all addresses are set"
            assert world.journal[-1] == "event", "the computation is not between two events"
            given, taken = (allocation(self._addresses[name]) for name in (self._engine._input, self._engine._output))
            count = int(np.prod(self._shape)) * 4
            images = np.frombuffer(bytes(given._data[:count]), np.float32).reshape(self._shape)
            logits = self._engine._run(images)
            taken._data[: logits.nbytes] = logits.tobytes()
            world.note("execute")
            return True

    class Inspector(Strict):
        api = frozenset({"execution_context"})

        def __init__(self, engine: Any) -> None:
            self._engine = engine
            self.execution_context = None

        def get_engine_information(self, layout: _Member) -> str:
            assert layout is formats.JSON, "the double writes JSON only"
            context: Any = self.execution_context
            assert context is not None, "without a context dynamic dimensions are -1"
            assert context._shape is not None, "without a shape dynamic dimensions are -1"
            if not self._engine._detailed:
                return json.dumps({"Layers": ["conv1 + relu1"], "Bindings": ["images"]})
            return layers(self._engine, context._shape[0], old=old)

    class Engine(Strict):
        def __init__(self, head: dict[str, Any], model: bytes, logger: Any) -> None:
            import onnxruntime

            self._logger = logger

            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3
            options.add_session_config_entry("session.disable_quant_qdq", "1")
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            self._model = onnx.load_from_string(model)
            self._input, self._output = self._session.get_inputs()[0].name, self._session.get_outputs()[0].name
            self._profile = [tuple(shape) for shape in head["profile"]]
            self._detailed = head["detailed"]
            self._answer = self._run(np.zeros((1, *self._profile[0][1:]), np.float32)).shape

        def _run(self, images: np.ndarray) -> np.ndarray:
            return np.ascontiguousarray(self._session.run(None, {self._input: images})[0], np.float32)

        @property
        def num_io_tensors(self) -> int:
            return 2

        def get_tensor_name(self, index: int) -> str:
            return (self._input, self._output)[index]

        def get_tensor_mode(self, name: str) -> Any:
            return io_mode.INPUT if name == self._input else io_mode.OUTPUT

        def get_tensor_dtype(self, name: str) -> Any:
            return data_type.FLOAT

        def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
            assert name == self._input, "only inputs have profile shapes"
            return list(self._profile)

        def create_execution_context(self) -> Context | None:
            world.require_context()
            if world.memory < 1 << 20:
                self._logger.log(ILogger.ERROR, "Error Code 2: OutOfMemory (Requested size was 1073741824 bytes.)")
                return None
            return Context(self)

        def create_engine_inspector(self) -> Inspector:
            return Inspector(self)

    class Runtime(Strict):
        def __init__(self, logger: Any) -> None:
            assert logger._ready, "the logger's base was not initialised"
            self._logger = logger

        def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
            world.require_context()
            if not plan.startswith(MAGIC):
                self._logger.log(ILogger.ERROR, "Error Code 1: Serialization (Magic tag does not match)")
                return None
            length = struct.unpack(">I", plan[4:8])[0]
            head = json.loads(plan[8 : 8 + length])
            if head["version"] != world.version:
                reason = "The engine plan file is not compatible with this version of TensorRT"
                self._logger.log(ILogger.ERROR, f"Error Code 6: {reason}, please rebuild.")
                return None
            if tuple(head["compute"]) != world.compute_capability:
                reason = "The engine plan file is generated on an incompatible device"
                self._logger.log(ILogger.ERROR, f"Error Code 6: {reason}, please rebuild.")
                return None
            return Engine(head, plan[8 + length :], self._logger)

    contents: dict[str, Any] = {
        "__version__": world.version,
        "ILogger": ILogger,
        "Builder": Builder,
        "Runtime": Runtime,
        "OnnxParser": OnnxParser,
        "BuilderFlag": builder_flag,
        "NetworkDefinitionCreationFlag": creation,
        "TensorIOMode": io_mode,
        "ProfilingVerbosity": verbosity,
        "LayerInformationFormat": formats,
        "MemoryPoolType": pools,
        "nptype": lambda kind: {int(data_type.FLOAT): np.float32}[int(kind)],
    }
    if old:
        for algorithm in ("EntropyCalibrator2", "MinMaxCalibrator", "LegacyCalibrator"):
            contents[f"IInt8{algorithm}"] = type(f"IInt8{algorithm}", (Calibrator,), {})
    trt.__dict__.update(contents)
    trt.__getattr__ = unknown("tensorrt")  # type: ignore[method-assign]
    return trt
