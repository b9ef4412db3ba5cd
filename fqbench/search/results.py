"""What a search found: every trial, the decisions, the finalists, and the verdict of the test split."""

from __future__ import annotations

from dataclasses import dataclass

from fqbench.fairness.results import Estimate
from fqbench.gate import GateReport
from fqbench.storage import Stored

REPORT = "search.json"  # its file in the entry
SIZE = "max_mb"


@dataclass(frozen=True)
class Outlook:
    """What the gate would say of one limit on the test split, if its images were answered in the shares seen here.

    Attributes
    ----------
    limit : str
        Name of the limit, with its group.
    bound, value, high : float
        The bound, the figure, and the end of the interval that the bound is compared with.
    shortfall : float
        How far that end is beyond the bound; 0 where the limit is kept, NaN where no image says anything.
    """

    limit: str
    bound: float
    value: float
    high: float
    shortfall: float

    @property
    def contradicted(self) -> bool:
        """Whether the figure itself is beyond the bound."""
        return self.value < self.bound if self.limit.startswith("min_") else self.value > self.bound


@dataclass(frozen=True)
class TrialReport:
    """One candidate that was made and run on the validation images that choose.

    Attributes
    ----------
    number : int
        In the order in which they were made, from 1.
    artifact_id, backend, label : str
        The artifact; its id is empty where it could not be made.
    why : str
        What was tried.
    scheme : str
        As JSON.
    bytes : int
        Size of its files.
    level : str
        How it is executed here.
    integer_share : float
        Share of its multiply-accumulates in integer kernels; NaN where nothing was counted.
    outlooks : tuple of Outlook
        Limit by limit.
    worst_group : str
        The group whose answers changed most, among those with enough images.
    kl_divergence, worst_kl_divergence : float
        Mean divergence from FP32 over all images, and in that group, nats.
    accuracy_changes : dict
        Change of each group's accuracy, as a fraction.
    failed : str
        Why it could not be made or run.
    """

    number: int
    artifact_id: str
    backend: str
    label: str
    why: str
    scheme: str
    bytes: int = 0
    level: str = ""
    integer_share: float = float("nan")
    outlooks: tuple[Outlook, ...] = ()
    worst_group: str = ""
    kl_divergence: float = float("nan")
    worst_kl_divergence: float = float("nan")
    accuracy_changes: dict[str, float] | None = None
    failed: str = ""

    @property
    def shortfall(self) -> float:
        """Sum over the limits of how far they are missed, in units of each; 0 where all are kept."""
        missed = [one.shortfall for one in self.outlooks if one.shortfall > 0]
        return float(sum(missed)) if not self.failed else float("inf")

    @property
    def keeps(self) -> bool:
        """Whether all limits that these images say something about are kept."""
        return self.shortfall == 0

    @property
    def too_large(self) -> bool:
        """Whether it misses the limit on size."""
        return any(one.limit == SIZE and one.shortfall > 0 for one in self.outlooks)

    @property
    def harmless(self) -> bool:
        """Whether it keeps every limit on its answers."""
        return not self.failed and not any(one.shortfall > 0 for one in self.outlooks if one.limit != SIZE)

    @property
    def score(self) -> float:
        """KL divergence over all images plus that of the worst group, as for the choice of range rules."""
        return self.kl_divergence + self.worst_kl_divergence if not self.failed else float("inf")

    @property
    def worst_change(self) -> float:
        """The largest loss of accuracy of any group, negative for a loss; NaN without figures."""
        return min((self.accuracy_changes or {}).values(), default=float("nan"))


@dataclass(frozen=True)
class FinalistReport:
    """A candidate on the images that confirm, which no choice before has seen.

    Attributes
    ----------
    artifact_id : str
        Which one.
    outlooks : tuple of Outlook
        As in `TrialReport`, on the confirming images.
    p50_ms, speedup : Estimate or None
        Measured together with the other finalists; None where no limit and no objective asks for a latency.
    kept : bool
        Whether no figure here is beyond its bound, and the limits on latency and size are kept.
    """

    artifact_id: str
    outlooks: tuple[Outlook, ...]
    p50_ms: Estimate | None
    speedup: Estimate | None
    kept: bool


@dataclass(frozen=True)
class ShownGain:
    """A gain that the search claims, decided on the confirming images.

    Attributes
    ----------
    group : str
        The group that the baseline harmed most on the choosing images.
    baseline_id, chosen_id : str
        The artifacts compared.
    reduction : Estimate
        Mean over the group's images of the baseline's divergence minus the chosen one's, nats.
    confidence : float
        Of its interval, raised for the number of finalists.
    shown : bool
        Whether the interval lies above 0.
    """

    group: str
    baseline_id: str
    chosen_id: str
    reduction: Estimate
    confidence: float
    shown: bool


@dataclass(frozen=True)
class SearchReport(Stored):
    """A finished search.

    Attributes
    ----------
    objective : str
        ``latency`` or ``size``.
    limits : dict
        Those that were asked for.
    images : dict
        Images of each group that choose, that confirm, and of the test split.
    trials : tuple of TrialReport
        In the order in which they were made.
    finalists : tuple of FinalistReport
        In the order of the objective.
    front : tuple of str
        Ids of the trials that no other one beats in size, integer share and worst group at once.
    chosen : str
        Id of the artifact that the test split judged.
    recipe : str
        Its settled scheme as YAML.
    claim : ShownGain or None
        What was mended; None where the start was chosen.
    gate : GateReport
        The verdict of the test split.
    gate_id : str
        Id of its entry, the only look at the test split.
    earlier_looks : int
        Evaluations of this model's artifacts on this test split that the workspace held before.
    steps : tuple of str
        What was done and why, in sentences.
    seconds : float
        Time that the trials took.
    spent : bool
        Whether the budget ended the search.
    notice : str
        What every report on these data has to say.
    """

    objective: str
    limits: dict[str, float]
    images: dict[str, dict[str, int]]
    trials: tuple[TrialReport, ...]
    finalists: tuple[FinalistReport, ...]
    front: tuple[str, ...]
    chosen: str
    recipe: str
    claim: ShownGain | None
    gate: GateReport
    gate_id: str
    earlier_looks: int
    steps: tuple[str, ...]
    seconds: float
    spent: bool
    notice: str

    def trial(self, artifact_id: str) -> TrialReport:
        """Return the trial of an artifact; KeyError if there is none."""
        for one in self.trials:
            if one.artifact_id == artifact_id:
                return one
        raise KeyError(artifact_id)

    @property
    def passed(self) -> bool:
        """Whether the test split confirms that the chosen artifact keeps the limits."""
        return self.gate.passed
