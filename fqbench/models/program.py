"""Programs of `torch.export` (``.pt2``): looked at before they are loaded, and written as ONNX.

torch's own loader unpickles and evaluates what an archive asks for. Here only an archive is loaded that holds raw
tensors and a graph of torch's own operators; everything else is refused by name.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fqbench.errors import DataError, InputError
from fqbench.models.export import OPSET, TOLERANCE, quietly
from fqbench.optional import require

SUFFIX = ".pt2"
SAMPLES = "data/sample_inputs/"
OPERATORS = re.compile(
    r"torch\.ops\.(aten|prims)\.\w+(\.\w+)?"
    r"|_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|neg|eq|ne|ge|gt|le|lt)|torch\.sym_\w+|math\.(ceil|floor|trunc)"
)
SYMBOL = re.compile(r"Symbol\('\w+'(, \w+=(True|False))*\)|L\['\w+'\]|L\['(args|kwargs)'\]\[\w+\]")
# What torch writes into sizes: symbols, integers and arithmetic; torch evaluates these texts as Python.
NAMES = re.compile(
    r"[suzb]\d+|Max|Min|Mod|PythonMod|FloorDiv|CeilDiv|CleanDiv|IntTrueDiv|TruncToInt|Integer|Eq|Ne|And|Or|Not|True|False"
    r"|and|or|not|size|shape"
)


def is_program(name: str) -> bool:
    """Whether a model's name is the path of a program."""
    return name.endswith(SUFFIX)


def check(path: Path) -> None:
    """Check that loading a program runs nothing that the file brings.

    Raises
    ------
    InputError
        No such file, or one that has to be unpickled or evaluated.
    DataError
        It is damaged.
    """
    if not path.is_file():
        raise InputError(f"--model {path}: there is no such file; give a program that torch.export.save wrote.")
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.partition("/")[2] for name in archive.namelist()]
            read = {name.partition("/")[2]: archive.read(name) for name in archive.namelist() if _is_read(name)}
        parsed = {name: json.loads(content) for name, content in read.items() if not name.startswith(SAMPLES)}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not a program of torch.export ({error}); save it again.") from error
    if not any(name.startswith("models/") for name in names):
        raise InputError(f"{path} holds no program of torch.export; save one with torch.export.save.")
    for what in _unsafe(names, read, parsed):
        raise InputError(
            f"{path} is not loaded, since {what}; export it again with torch.export.save, or give its code with "
            "--model package.module:function."
        )


def write_onnx(path: Path, out: Path) -> float:
    """Write a program as ONNX, and return the largest difference of an answer to its own, on drawn images.

    Raises
    ------
    InputError
        `check` refuses it, torch cannot load or convert it, or it does not take one tensor of images.
    DataError
        The graph answers differently.
    """
    check(path)
    torch = require("torch", extra="train")
    with quietly():
        try:
            program = torch.export.load(path)
            ((example,), keywords) = program.example_inputs
            torch.onnx.export(program, dynamo=True, opset_version=OPSET, verbose=False).save(out)
        except Exception as error:
            reason = (str(error).splitlines() or [""])[0][:160]
            raise InputError(
                f"{path} cannot be used ({type(error).__name__}: {reason}); export a network that takes one tensor of "
                "images on the CPU, with this version of torch."
            ) from error
    if keywords:
        raise InputError(f"{path} takes keywords ({', '.join(keywords)}); export a network that takes images alone.")
    images = np.random.default_rng(0).normal(size=tuple(example.shape)).astype(np.float32)
    with torch.inference_mode():
        expected = program.module()(torch.from_numpy(images).to(example.dtype))
    if not isinstance(expected, torch.Tensor):
        raise InputError(f"{path} answers with {type(expected).__name__}; export a network that returns a tensor.")
    return _compared(out, images.astype(str(example.dtype).removeprefix("torch.")), expected.float().numpy(), path)


def _compared(onnx_file: Path, images: Any, expected: Any, path: Path) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {session.get_inputs()[0].name: images})
    difference = float(np.abs(answer - expected).max())
    if not difference <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
        raise DataError(
            f"the ONNX graph of {path} differs from it by up to {difference:.2g}; export the network in "
            "evaluation mode, as after model.eval(), or report it."
        )
    return difference


def _is_read(name: str) -> bool:
    inside = name.partition("/")[2]
    return inside.endswith(".json") or inside.startswith(("models/", SAMPLES))


def _unsafe(names: list[str], read: dict[str, bytes], parsed: dict[str, Any]) -> Iterator[str]:
    """Yield what loading would run."""
    if len(set(names)) < len(names):
        yield "it holds two files of one name"
    for name in names:
        if name.startswith("data/aotinductor/"):
            yield f"it holds compiled code ({name})"
        if re.fullmatch(r"data/(weights|constants)/.*(\.pt|custom_obj_\d+|opaque_obj_\d+)", name):
            yield f"{name} has to be unpickled"
    for name, content in parsed.items():
        for key, value in _walk(content):
            yield from _unsafe_value(name, key, value)
    for name, pickled in read.items():
        if name.startswith(SAMPLES) and not _holds_tensors(pickled):
            yield f"{name} has to be unpickled"


def _unsafe_value(name: str, key: str, value: Any) -> Iterator[str]:
    if key == "use_pickle" and value:
        yield f"tensors that {name} lists have to be unpickled"
    if key == "path_name" and re.match(r"(custom|opaque)_obj", str(value)):
        yield f"{value} has to be unpickled"
    if key == "target" and isinstance(value, str) and not OPERATORS.fullmatch(value):
        yield f"it calls {value}, which is not one of torch's tensor operators"
    if key == "default_factory_module":
        yield f"its inputs need the module {value}"
    if key in {"expr_str", "guards_code"} and value and not _plain(str(value)):
        yield f"a size in it would be evaluated as code ({str(value)[:60]})"


def _walk(values: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(values, dict):
        for name, value in values.items():
            yield from _walk(value, name)
    elif isinstance(values, list):
        for value in values:
            yield from _walk(value, key)
    else:
        yield key, values


def _plain(text: str) -> bool:
    """Whether a text holds nothing but sizes and arithmetic."""
    rest = SYMBOL.sub(" ", text)
    words = re.findall(r"[A-Za-z_]\w*", rest)
    return bool(re.fullmatch(r"[\w\s()+\-*/%<>=!&|,.\[\]]*", rest)) and all(NAMES.fullmatch(word) for word in words)


def _holds_tensors(content: bytes) -> bool:
    torch = require("torch", extra="train")
    try:
        torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception:
        return False
    return True
