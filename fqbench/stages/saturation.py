"""CPUs whose 16-bit sums saturate: whose answers they change, and where 7 bits for weights may be better."""

from __future__ import annotations

from collections.abc import Sequence

from fqbench.contracts.runtime import Level
from fqbench.contracts.scheme import Scheme
from fqbench.errors import InputError
from fqbench.machine import IntegerSums, Machine, this_machine
from fqbench.plugins import Backend, support_of
from fqbench.predictions import ArtifactPredictions
from fqbench.run import Run

CPU = "cpu"
WHOLE = 8  # bits of weights whose sums can saturate


def seven_bits_may_help(run: Run, backend: Backend, scheme: Scheme) -> bool:
    """Whether 7 bits for 8-bit weights are tried: sums saturate here, and the user leaves ranges and bits open."""
    if scheme.range_rule != "auto" or scheme.reduce_range or "reduce_range" in run.config.quantize.model_fields_set:
        return False
    available = backend.availability()
    if not available.can_run or WHOLE not in scheme.weight_bits:
        return False
    level = support_of(backend, scheme.model_copy(update={"reduce_range": True})).level
    device = run.config.bench.device or available.devices[0]
    return level is not Level.NO and sums_of(this_machine(), device, level) is IntegerSums.SATURATING


def sums_of(machine: Machine, device: str, level: Level) -> IntegerSums:
    """Return how a session added up products of integers: as the CPU does, if integer kernels of a CPU ran."""
    return machine.integer_sums if device == CPU and level.has_speed else IntegerSums.EXACT


def require_one_kind_of_sums(answered: Sequence[ArtifactPredictions]) -> tuple[str, ...]:
    """Check that quantized artifacts under comparison were answered with the same kind of integer sums.

    Returns
    -------
    tuple of str
        What to say about answers of a CPU whose sums saturate.

    Raises
    ------
    InputError
        Of one runtime, some were, and some were not, answered by a CPU whose sums saturate.
    """
    affected = [one for one in answered if WHOLE in one.artifact.scheme.weight_bits and not one.artifact.reduced_range]
    saturating = [one for one in affected if one.entry.facts.integer_sums is IntegerSums.SATURATING]
    for one in saturating:
        same_runtime = [other for other in affected if other.artifact.backend == one.artifact.backend]
        exact = [other for other in same_runtime if other.entry.facts.integer_sums is IntegerSums.EXACT]
        if exact:
            raise InputError(
                f"{one.artifact.label} was answered by a CPU whose 16-bit sums saturate, and {exact[0].artifact.label} "
                "by one with exact sums: their answers are not those of one CPU; evaluate them separately, or quantize "
                "with --reduce-range."
            )
    if not saturating:
        return ()
    return (
        "The answers are those of a CPU whose 16-bit sums saturate; other CPUs give others. --reduce-range avoids it.",
    )
