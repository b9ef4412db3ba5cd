"""What is searched for, as a value, and read from the words of the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from fqbench import plugins
from fqbench.config import names_among
from fqbench.errors import InputError
from fqbench.search.budget import seconds_of

OBJECTIVES = ("latency", "size")
BITS = ("8", "4", "2")


@dataclass(frozen=True)
class Request:
    """What is searched for.

    Attributes
    ----------
    limits : Path
        YAML file of limits, as for the gate.
    minimize : {"latency", "size"}
        The objective.
    backends : tuple of str
        Runtimes; empty for all that run here.
    bits : tuple of int
        Bits of the weights that are allowed.
    budget : float
        Seconds for the trials.
    allow_training : bool
        Whether quantization-aware training may be tried where nothing else keeps the limits.
    seed : int
        Of the split of the validation images.
    """

    limits: Path
    minimize: Literal["latency", "size"] = "latency"
    backends: tuple[str, ...] = ()
    bits: tuple[int, ...] = (8, 4)
    budget: float = 1200.0
    allow_training: bool = False
    seed: int = 0


def request(
    limits: Path, *, minimize: str, backends: str, bits: str, budget: str, allow_training: bool = False
) -> Request:
    """Read the words of the command line.

    Raises
    ------
    InputError
        A name, a number of bits or a time is not known.
    """
    objective = names_among("--minimize", minimize, OBJECTIVES)
    if len(objective) != 1:
        raise InputError(f"--minimize takes one objective, {' or '.join(OBJECTIVES)}; not {minimize!r}.")
    known = plugins.installed(plugins.BACKENDS)
    return Request(
        limits=limits,
        minimize=cast(Literal["latency", "size"], objective[0]),
        backends=names_among("--backends", backends, tuple(known)) if backends.strip() else (),
        bits=tuple(int(each) for each in names_among("--bits", bits, BITS)),
        budget=seconds_of(budget),
        allow_training=allow_training,
    )
