"""Options as frozen pydantic models, merged from flags, a YAML file and defaults.

A new option is one field in `fqbench.config.sections`; its flag, its help and its place in ``--help`` follow from it.
"""

from fqbench.config.columns import outputs_named
from fqbench.config.flags import Flag, Option, options
from fqbench.config.images import Size, size_text
from fqbench.config.merge import (
    BACKEND_OPTION,
    DEFAULT_FILE,
    configure,
    names,
    names_among,
    vary,
    whole_numbers,
)
from fqbench.config.sections import (
    BenchOptions,
    Config,
    DataOptions,
    EvalOptions,
    Interpolation,
    ModelOptions,
    ObjectiveOptions,
    Preprocessing,
    PreprocessingOptions,
    QatOptions,
    QuantizeOptions,
    Section,
    TrainOptions,
)
from fqbench.config.yaml_text import read_mapping, read_yaml

__all__ = [
    "BACKEND_OPTION",
    "DEFAULT_FILE",
    "BenchOptions",
    "Config",
    "DataOptions",
    "EvalOptions",
    "Flag",
    "Interpolation",
    "ModelOptions",
    "ObjectiveOptions",
    "Option",
    "Preprocessing",
    "PreprocessingOptions",
    "QatOptions",
    "QuantizeOptions",
    "Section",
    "Size",
    "TrainOptions",
    "configure",
    "names",
    "names_among",
    "options",
    "outputs_named",
    "read_mapping",
    "read_yaml",
    "size_text",
    "vary",
    "whole_numbers",
]
