"""Check: the usual preprocessing conventions are tried on a user's ONNX file, on labelled validation images."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from fqbench.models.adopt import read_source
from fqbench.models.adopt.check import Checked, check
from fqbench.models.adopt.source import likely_axes
from fqbench.run import Run
from fqbench.stages.export import meaning_of
from fqbench.stages.prepare import prepare
from fqbench.stages.read import read

SPLIT, IMAGES = "val", 512


def check_model(run: Run, path: Path) -> Checked:
    """Try the usual conventions on labelled validation images.

    Parameters
    ----------
    run : Run
        Its data; its options for ONNX files, of which those that state the preprocessing are what is looked for.
    path : Path
        The ONNX file.

    Raises
    ------
    InputError
        The file is not a classifier of images, or its classes do not fit those of the data.
    """
    asked, options = run.config.preprocessing, run.config.model
    layout, channels = likely_axes(path)
    chosen: Literal["nchw", "nhwc"] = options.layout or layout
    tried = options.model_copy(update={"layout": chosen, "channels": channels, "scale_pixels": None})
    source = read_source(path, tried, asked.model_copy(update={"mean": "none", "std": None}))
    store = prepare(run, source.geometry)
    frame, rows = store.readable(read(run).split(SPLIT))
    # Evenly over the split, which may be sorted by class.
    every = max(1, len(rows) // IMAGES)
    labels = read(run).targets(frame)[::every][:IMAGES]
    pixels = store.images.pixels[rows[::every][:IMAGES]]
    return check(source, pixels, labels, meaning_of(run))
