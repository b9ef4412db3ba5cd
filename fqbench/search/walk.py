"""The walk among recipes of one backend: from 8 bits, mended where limits are missed, and down where there is slack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fqbench import plugins
from fqbench.contracts.scheme import LOW, Scheme
from fqbench.quant.choice import RULES
from fqbench.quant.graph import cleaned
from fqbench.quant.rescaling import worth_a_trial
from fqbench.search.assignment import FLOAT, Assignment
from fqbench.search.diagnose import diagnose_scheme, settled_scheme
from fqbench.search.diagnosed import LAST, DiagnosedLayer
from fqbench.search.images import ValidationImages
from fqbench.search.results import TrialReport
from fqbench.search.trials import Trials, has_speed
from fqbench.stages.export import export
from fqbench.stages.saturation import seven_bits_may_help

POLICIES = ("balanced", "minimax")
NOTABLE = 0.02  # share of all that the layers would win back, below which raising a layer is not worth a trial
PRUNED = 6  # raised layers that are tried without, the least important first


@dataclass
class Walk:
    """The search on one backend.

    Attributes
    ----------
    trials : Trials
        Shared by all backends.
    backend : str
        Which one.
    bits : tuple of int
        Bits of the weights that are allowed, most first.
    objective : str
        ``latency`` or ``size``.
    few : ValidationImages
        Choosing images that diagnoses are made on.
    """

    trials: Trials
    backend: str
    bits: tuple[int, ...]
    objective: str
    few: ValidationImages
    start: TrialReport | None = None
    _layers: dict[str, DiagnosedLayer] = field(default_factory=dict)

    def begin(self) -> TrialReport | None:
        """Try uniform quantization at the most bits: every range rule, bias correction with the best; return the best.

        This is what ``auto`` does, but on the choosing images alone. Where sums saturate, weights have 7 bits.
        """
        run, bits = self.trials.run, self.bits[0]
        reduced = run.config.quantize.reduce_range or seven_bits_may_help(
            run, plugins.backend(self.backend), Scheme(bits=bits, range_rule="auto")
        )
        configured = Scheme(bits=bits, reduce_range=reduced)
        if not has_speed(self.backend, configured):
            self.trials.say(f"{self.backend} does not run {configured.label} in integer kernels, so it is left out.")
            return None
        found = []
        for rule in RULES:
            found.append(self._try(self._plain(configured, rule), f"range rule {rule}"))
            if found[-1].failed:  # whatever it is, another range does not change it
                return None
        best = min(found, key=lambda one: one.score)
        corrected = self._scheme(best).model_copy(update={"bias_correction": "on"})
        self.start = min((best, self._try(corrected, "bias correction")), key=lambda one: one.score)
        return self.start

    def go(self) -> None:
        """Mend the start if it misses a limit; then go down in bits where the objective or the limits ask for it."""
        if self.start is None:
            return
        kept = self._kept(Assignment(self._scheme(self.start), {}), self.start)
        sized = self.start.too_large
        if kept is None and not sized:
            return
        if self.objective == "latency" and not sized:
            return
        above = kept or Assignment(self._scheme(self.start), {})
        for bits in self.bits[1:]:
            lower = self._down(above, bits)
            if lower is None:
                return
            above = lower

    def _kept(self, assignment: Assignment, trial: TrialReport) -> Assignment | None:
        """Return an assignment at the most bits that keeps the limits: the start, or the start mended."""
        if trial.harmless:
            self.trials.say(f"{trial.label} keeps every limit on the choosing images.")
            return assignment
        self.trials.say(f"{trial.label} misses {_missed(trial)}.")
        better = self._other_ranges(assignment, trial)
        if better[1].harmless:
            return better[0]
        in_float = Assignment(better[0].base, dict.fromkeys(self._diagnosed(better[0]), FLOAT))
        return self._mended(better[0], better[1], in_float)

    def _other_ranges(self, assignment: Assignment, trial: TrialReport) -> tuple[Assignment, TrialReport]:
        """Try other weightings of the groups in the ranges, then rescaling: they cost neither time nor bytes."""
        best = (assignment, trial)
        for policy in POLICIES if len(self.few.counts) > 1 else ():
            base = assignment.base.model_copy(update={"calib_policy": policy})
            if policy == "minimax":
                base = base.model_copy(update={"range_rule": "mse"})
            tried = self._try(base, f"ranges by the policy {policy}")
            if (tried.shortfall, tried.score) < (best[1].shortfall, best[1].score):
                best = Assignment(base, assignment.bits), tried
        moved = best[0].base.model_copy(update={"rescaling": "on"})
        if not best[1].harmless and self._rescalable(moved):
            tried = self._try(moved, "rescaled: factors moved between layers")
            if (tried.shortfall, tried.score) < (best[1].shortfall, best[1].score):
                best = Assignment(moved, assignment.bits), tried
        return best

    def _rescalable(self, scheme: Scheme) -> bool:
        """Whether the backend runs rescaled graphs, and this one has channels that factors can be moved between."""
        return has_speed(self.backend, scheme) and worth_a_trial(cleaned(export(self.trials.run).path), scheme.bits)

    def _down(self, above: Assignment, bits: int) -> Assignment | None:
        """Go down to fewer bits, and back up where that misses a limit; None where nothing below keeps them."""
        base = above.base.model_copy(update={"bits": bits})
        if not has_speed(self.backend, base):
            self.trials.say(f"{self.backend} does not run {bits}-bit weights in integer kernels, so they are left out.")
            return None
        floats = {name: value for name, value in above.bits.items() if value == FLOAT}
        lower = Assignment(base.model_copy(update={"rounding": "nearest"}), floats)
        trial = self._try(lower.scheme, f"{lower.said()}, rounded to nearest")
        # Rounding from data takes longer, so it is tried where it is needed.
        if not trial.harmless and bits < LOW and self.trials.run.config.quantize.rounding != "nearest":
            from_data = Assignment(base.model_copy(update={"rounding": "data"}), floats)
            tried = self._try(from_data.scheme, f"{lower.said()}, rounded from data")
            if (tried.shortfall, tried.score) < (trial.shortfall, trial.score):
                lower, trial = from_data, tried
        if trial.failed:
            return None
        if trial.harmless:
            self.trials.say(f"{trial.label} keeps every limit on the choosing images.")
            return lower
        self.trials.say(f"{trial.label} misses {_missed(trial)}.")
        return self._mended(lower, trial, above)

    def _mended(self, low: Assignment, trial: TrialReport, high: Assignment) -> Assignment | None:
        """Raise as few layers as needed to their bits in ``high``, the most helpful for their cost first.

        Where all layers that notably help are not enough, the result is diagnosed again: what was hidden behind them
        shows then.
        """
        raised: list[str] = []
        while True:
            current = low.raised(raised, high)
            order = self._order(current, high, self._diagnosed(current), trial)
            if not order:
                self.trials.say(f"no further layer of {trial.label} would win anything back.")
                return None
            self.trials.say(f"what helps {_worst_off(trial)} most for what it costs: {', '.join(order[:3])}.")
            fewest, last = self._fewest(current, high, order)
            if fewest is not None:
                return low.raised(self._pruned(low, high, [*raised, *order[:fewest]]), high)
            raised, trial = [*raised, *order], last

    def _fewest(self, low: Assignment, high: Assignment, order: Sequence[str]) -> tuple[int | None, TrialReport]:
        """Return how many layers of an order have to be raised, None if all are not enough, and the trial with most."""
        least, count = 0, 1
        while not (last := self._raised(low, high, order[:count])).harmless:
            if last.failed or count == len(order):
                return None, last
            least, count = count, min(2 * count, len(order))
        while count - least > 1:
            middle = (least + count) // 2
            if self._raised(low, high, order[:middle]).harmless:
                count = middle
            else:
                least = middle
        return count, last

    def _pruned(self, low: Assignment, high: Assignment, raised: Sequence[str]) -> list[str]:
        """Drop every raised layer that is not needed, the costliest for what it wins back first."""
        kept = list(raised)
        for name in list(reversed(kept))[1 : PRUNED + 1]:  # without the last one, fewer layers were tried before
            fewer = [one for one in kept if one != name]
            if fewer and self._raised(low, high, fewer).harmless:
                kept = fewer
        return kept

    def _raised(self, low: Assignment, high: Assignment, names: Sequence[str]) -> TrialReport:
        assignment = low.raised(names, high)
        return self._try(assignment.scheme, assignment.said())

    def _order(
        self, low: Assignment, high: Assignment, layers: dict[str, DiagnosedLayer], trial: TrialReport
    ) -> list[str]:
        """Order the layers by what their group would win back for what raising them costs."""
        group = _worst_off(trial)
        gains = {}
        for name in low.difference(high, tuple(layers)):
            row = next((one for one in layers[name].effect("both", LAST) if one.group == group), None)
            gains[name] = 0.0 if row is None else max(row.kl_divergence.value, 0.0)
        total = sum(gains.values())
        notable = [name for name, gain in gains.items() if total > 0 and gain >= NOTABLE * total]
        costs = {name: self._cost(layers, name, low.of(name), high.of(name)) for name in notable}
        return sorted(notable, key=lambda name: -gains[name] / costs[name])

    def _cost(self, layers: dict[str, DiagnosedLayer], name: str, low: int, high: int) -> float:
        """Share of the whole that raising a layer adds: of the bytes, or of the arithmetic that leaves the integers.

        A hundredth is added, so that of layers that cost almost nothing the one that helps most comes first.
        """
        layer = layers[name]
        if self.objective == "size":
            total = sum(one.float_bytes for one in layers.values()) or 1
            return 0.01 + layer.float_bytes * (high - low) / FLOAT / total
        total = sum(one.macs for one in layers.values()) or 1
        return 0.01 + (layer.macs / total if high == FLOAT else 0.0)

    def _diagnosed(self, assignment: Assignment) -> dict[str, DiagnosedLayer]:
        assert self.start is not None  # noqa: S101  # nothing is diagnosed before the start
        found = diagnose_scheme(
            self.trials.run,
            self.trials.artifact(self.start),
            assignment.scheme,
            self.few,
            sides=("both",),
            ways=(LAST,),
        )
        return {layer.name: layer for layer in found.layers}

    def _plain(self, scheme: Scheme, rule: str) -> Scheme:
        return scheme.model_copy(update={"range_rule": rule, "bias_correction": "off", "rounding": "nearest"})

    def _scheme(self, trial: TrialReport) -> Scheme:
        return settled_scheme(self.trials.run, trial.artifact_id)

    def _try(self, scheme: Scheme, why: str) -> TrialReport:
        return self.trials.scheme(self.backend, scheme, why)


def _worst_off(trial: TrialReport) -> str:
    """Return the group whose own limit is missed most, else the one whose answers changed most."""
    own = [one for one in trial.outlooks if one.limit.startswith("max_group_drop ") and one.shortfall > 0]
    if own:
        return max(own, key=lambda one: one.shortfall).limit.removeprefix("max_group_drop ")
    return trial.worst_group


def _missed(trial: TrialReport) -> str:
    parts = [
        f"{one.limit} ({one.value:.3g}, up to {one.high:.3g} against {one.bound:g})"
        for one in sorted(trial.outlooks, key=lambda one: -one.shortfall if one.shortfall > 0 else 0)
        if one.shortfall > 0
    ]
    more = f" and {len(parts) - 2} more" if len(parts) > 2 else ""
    return ", ".join(parts[:2]) + more
