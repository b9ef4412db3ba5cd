"""Shell commands that build an engine by hand on another machine.

Source: "Command-Line Programs" and "Migrating trtexec Usage from TensorRT 10.x to 11.x", below
https://docs.nvidia.com/deeplearning/tensorrt/latest/; flags as in trtexec's own source of 10.16 and 11.1.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from .versions import V10, V11, Version

ENGINE = "engine.plan"
LINES = "build.txt"


def trtexec(
    version: Version, model: str, input_name: str, image: Sequence[int], *, largest: int, explicit: bool = True
) -> str:
    """Return the trtexec line that builds, times and describes an engine.

    Parameters
    ----------
    version : Version
        Precision flags are gone in 11.
    model : str
        The ONNX file.
    input_name : str
        Its input.
    image : sequence of int
        Channels, height and width.
    largest : int
        Largest batch; the smallest is 1.
    explicit : bool
        Q/DQ nodes decide; otherwise the calibration cache does (10.x).
    """
    shape = {batch: f"{input_name}:{'x'.join(map(str, (batch, *image)))}" for batch in (1, largest)}
    return shlex.join(
        [
            "trtexec",
            f"--onnx={model}",
            *version.trtexec(explicit=explicit),
            f"--minShapes={shape[1]}",
            f"--optShapes={shape[largest]}",
            f"--maxShapes={shape[largest]}",
            "--profilingVerbosity=detailed",
            "--timingCacheFile=timing.cache",
            f"--saveEngine={ENGINE}",
            "--exportLayerInfo=layers.json",
        ]
    )


def lines(input_name: str, image: Sequence[int], *, largest: int, quantized: bool) -> str:
    """Return the text of ``build.txt``."""
    said = [
        "# Beside this file, on the machine with the GPU. The id of the artifact is the name of its folder.",
        "# fqbench (checks version and GPU, keeps a timing cache, writes the engine into the workspace):",
        "fqbench build ID",
        "# TensorRT 10:",
        trtexec(V10, "model.onnx", input_name, image, largest=largest),
        "# TensorRT 11 (strongly typed without a flag):",
        trtexec(V11, "model.onnx", input_name, image, largest=largest),
    ]
    if quantized:
        said += [
            "# TensorRT 10 without Q/DQ nodes: the FP32 model and calibration.cache, whose first line must name the",
            "# installed version (10.16.1 is 101601): sed -i '1s/TRT-[0-9]*/TRT-101601/' calibration.cache",
            trtexec(V10, "fp32.onnx", input_name, image, largest=largest, explicit=False),
        ]
    return "\n".join(said) + "\n"
