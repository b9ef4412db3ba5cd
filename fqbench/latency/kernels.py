"""Marks on artifacts whose multiply-accumulates run elsewhere than their name says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fqbench.latency.steadiness import Doubt, Mark

if TYPE_CHECKING:
    from fqbench.contracts.runtime import Arithmetic
    from fqbench.latency.results import SubjectFacts

LEAST_INTEGER_SHARE = 0.5


def kernel_doubts(arithmetic: Arithmetic, facts: SubjectFacts) -> tuple[Mark, ...]:
    """Return the marks for where the multiply-accumulates of one subject run.

    Parameters
    ----------
    arithmetic : Arithmetic
        As the runtime's own graph has it; nothing is said about what could not be counted.
    facts : SubjectFacts
        Whether integers were asked for, and the level.
    """
    marks = []
    expected = facts.quantized and facts.level.has_speed and not arithmetic.uncounted
    if expected and arithmetic.integer_share < LEAST_INTEGER_SHARE:
        text = (
            f"less than {LEAST_INTEGER_SHARE:.0%} of the multiply-accumulates run in integer kernels, the others in "
            "float: the runtime does not fuse the quantization nodes where they stand; quantize again for this runtime."
        )
        marks.append(Mark(Doubt.FLOAT_KERNELS, text, f"{arithmetic.integer_share:.1%}"))
    if arithmetic.fallback_macs:
        text = "multiply-accumulates fell back to the CPU, since the device has no kernel for them."
        marks.append(Mark(Doubt.FELL_BACK, text, f"{arithmetic.fallback_share:.1%}"))
    return tuple(marks)
