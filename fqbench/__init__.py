"""fqbench: quantize image classifiers for a target runtime, and measure latency and accuracy per group.

The names below are loaded when they are first used, so that ``import fqbench`` loads no runtime.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fqbench.run import experiment as experiment
    from fqbench.stages.bench import bench as bench
    from fqbench.stages.evaluate import evaluate as evaluate
    from fqbench.stages.export import export as export
    from fqbench.stages.predict import predict_split as predict  # noqa: F401 - offered under this name
    from fqbench.stages.quantize import quantize as quantize
    from fqbench.stages.quantize import reference as reference
    from fqbench.stages.sample import calibrate as calibrate
    from fqbench.stages.train import train as train
    from fqbench.study.api import run_study as run_study

__version__ = "0.1.0"

_OFFERED = {
    "bench": ("fqbench.stages.bench", "bench"),
    "calibrate": ("fqbench.stages.sample", "calibrate"),
    "evaluate": ("fqbench.stages.evaluate", "evaluate"),
    "experiment": ("fqbench.run", "experiment"),
    "export": ("fqbench.stages.export", "export"),
    "predict": ("fqbench.stages.predict", "predict_split"),
    "quantize": ("fqbench.stages.quantize", "quantize"),
    "reference": ("fqbench.stages.quantize", "reference"),
    "run_study": ("fqbench.study.api", "run_study"),
    "train": ("fqbench.stages.train", "train"),
}


def __getattr__(name: str) -> Any:
    if name not in _OFFERED:
        raise AttributeError(f"module 'fqbench' has no attribute {name!r}")
    module, attribute = _OFFERED[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *_OFFERED])
