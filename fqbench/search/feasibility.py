"""What can be said of the limits before anything is tried: contradictions, and groups too small to decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fqbench.errors import DataError, GateFailed, InputError
from fqbench.quant.graph import cleaned
from fqbench.quant.weights import weights_of
from fqbench.search.forecast import Forecaster

if TYPE_CHECKING:
    from fqbench.contracts.artifacts import ExportedModel
    from fqbench.gate import GateOptions
    from fqbench.search.images import ValidationImages

SHOWN = 3
DROPS = ("max_accuracy_drop", "max_group_drop")


def require_possible_size(options: GateOptions, model: ExportedModel, bits: Sequence[int]) -> None:
    """Check that the limit on size can be kept.

    Raises
    ------
    InputError
        The weights alone are larger, even with the fewest bits everywhere.
    """
    largest = options.limits.max_mb
    if largest is None:
        return
    count = sum(weight.values.size for weight in weights_of(cleaned(model.path)))
    least = count * min(bits) / 8 / 1e6
    if least > largest:
        raise InputError(
            f"max_mb {largest:g} cannot be kept with --bits {','.join(map(str, bits))}: the {count:,} weights of "
            f"{model.name} take {least:.3g} MB at {min(bits)} bits; allow fewer bits, or raise the limit."
        )


def require_two_halves(choosing: ValidationImages, confirming: ValidationImages) -> None:
    """Check that there are images to confirm with.

    Raises
    ------
    DataError
        No group has a second validation image.
    """
    if not len(confirming):
        raise DataError(
            f"the validation split has {len(choosing)} image(s), no two of one group, and a search needs one half of "
            "each group to choose and the other to confirm; group by fewer features with --by, or give more images."
        )


def unseen_groups(
    test_images: Mapping[str, int], choosing: ValidationImages, confirming: ValidationImages
) -> tuple[str, ...]:
    """Return sentences about groups of the test split that a half of the validation images lacks."""
    absent = [group for group, count in test_images.items() if count and group not in choosing.counts]
    single = [group for group in choosing.counts if group not in confirming.counts]
    cases = (
        (absent, "no validation image, so what a trial does there is seen by the verdict alone"),
        (single, "a single validation image, so nothing confirms what it says"),
    )
    return tuple(
        f"{', '.join(groups[:SHOWN])}{f' and {len(groups) - SHOWN} more' if len(groups) > SHOWN else ''}: {what}."
        for groups, what in cases
        if groups
    )


def require_decidable(options: GateOptions, forecaster: Forecaster) -> tuple[str, ...]:
    """Check that FP32 itself would pass: a limit that it breaks, no quantized model is asked to keep.

    Returns
    -------
    tuple of str
        Sentences about limits that only some groups leave undecided, where the gate lets them pass.

    Raises
    ------
    DataError
        Groups have so few test images that even an artifact that changes no answer could not pass.
    GateFailed
        FP32 misses a limit on the level of accuracy or of a gap.
    """
    own = forecaster.of(forecaster.reference).outlooks
    named = {one: one.limit.partition(" ")[2] or "all images" for one in own if one.limit.startswith(DROPS)}
    small = [one for one, name in named.items() if one.shortfall > 0 or forecaster.test_images.get(name, 1) == 0]
    if small:
        names = [named[one] for one in small]
        counts = [f"{name}: {forecaster.test_images.get(name, 0)}" for name in names[:SHOWN]]
        said = (
            f"{len(small)} group(s) have too few images in the test split to decide {small[0].limit.partition(' ')[0]} "
            f"{small[0].bound:g}, even for an artifact that changes no answer ({'; '.join(counts)})"
        )
        if options.undecided == "fail":
            raise DataError(f"{said}; group by fewer features with --by, or raise the limit.")
        return (f"{said}.",)
    missed = [one for one in own if one.shortfall > 0]
    if missed:
        first = missed[0]
        raise GateFailed(
            f"nothing keeps these limits: FP32 itself would not be shown to keep {first.limit} {first.bound:g} "
            f"({first.value:.3g}, up to {first.high:.3g}); mend the model or the limit first."
        )
    return ()
