"""What the fairness statistics cost, and whether they hold what they promise.

Run ``python benchmarks/intervals.py`` (about 20 minutes on one core, ``--quick`` about 5). It prints the time of
counting, of 10,000 replicates of all metrics for 14 groups beside fairlearn's own bootstrap, and of whole reports;
then, by simulation, the coverage of nominal 95 % intervals, and how often nothing is called "different" and a change
on the margin "equivalent".
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator

import numpy as np

from fqbench.fairness.comparison import change_report
from fqbench.fairness.counts import PairedCounts, count
from fqbench.fairness.evaluation import group_report
from fqbench.fairness.gap_intervals import gap_interval, part
from fqbench.fairness.hypothesis_tests import equivalence, mcnemar
from fqbench.fairness.intervals import paired_difference, percentile, resample, wilson
from fqbench.fairness.metrics import GAPS, RATES, gap_values, spread
from fqbench.fairness.results import ChangeReport

GROUPS = tuple(f"{skin}×{age}" for skin in "abcdefg" for age in ("young", "old"))
SHAPES: dict[str, Callable[[int], np.ndarray]] = {
    "all equal": lambda k: np.full(k, 0.85),
    "close": lambda k: np.linspace(0.83, 0.87, k),
    "in a line": lambda k: np.linspace(0.7, 0.95, k),
    "one apart": lambda k: np.r_[np.full(k - 1, 0.9), 0.75],
}
SIZES = (30, 100, 300, 1_000, 3_000)


def best(function: Callable[[], object], repeats: int = 5) -> float:
    """Shortest wall time of several runs, in seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def predictions(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw labels, predictions that are right in nine of ten, and one of 14 groups as text."""
    rng = np.random.default_rng(0)
    y_true = rng.integers(0, 2, n)
    y_pred = np.where(rng.random(n) < 0.1, 1 - y_true, y_true)
    return y_true, y_pred, np.asarray(GROUPS)[rng.integers(0, len(GROUPS), n)]


def replicate_everything(table: np.ndarray) -> dict[str, np.ndarray]:
    """10,000 replicates of every rate of every group and of every gap."""
    out: dict[str, list[np.ndarray]] = {}
    for tables in resample(table, 10_000, np.random.default_rng(0)):
        for name, values in ({n: rate(tables) for n, rate in RATES.items()} | gap_values(tables)).items():
            out.setdefault(name, []).append(values)
    return {name: np.concatenate(values) for name, values in out.items()}


def fairlearn_seconds(n: int, n_boot: int) -> float:
    """Time of fairlearn's bootstrap of the four rates of a report, for 10,000 replicates, scaled from ``n_boot``."""
    import warnings

    import fairlearn.metrics as fl
    from sklearn.metrics import accuracy_score

    y_true, y_pred, groups = predictions(n)
    metrics = {
        "accuracy": accuracy_score,
        "selection_rate": fl.selection_rate,
        "tpr": fl.true_positive_rate,
        "fpr": fl.false_positive_rate,
    }

    def run(boot: int | None) -> None:
        options = {} if boot is None else {"n_boot": boot, "ci_quantiles": [0.025, 0.975]}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fl.MetricFrame(metrics=metrics, y_true=y_true, y_pred=y_pred, sensitive_features=groups, **options)

    once = best(lambda: run(None), 2)
    return (best(lambda: run(n_boot), 1) - once) / n_boot * 10_000


def print_cost() -> None:
    """Print times beside their targets."""
    print("cost")
    count(*predictions(1_000))  # imports pandas
    y_true, y_pred, groups = predictions(2_000_000)
    print(
        f"  count 2,000,000 predictions, groups as text   {best(lambda: count(y_true, y_pred, groups)):8.3f} s  (< 0.5)"
    )
    for n in (20_000, 2_000_000):
        counts = count(*predictions(n))
        seconds = best(lambda counts=counts: replicate_everything(counts.table))
        print(f"  10,000 replicates of {len(RATES)} rates and {len(GAPS)} gaps, n = {n:9,} {seconds:8.3f} s  (< 0.2)")
        print(
            f"    whole report, same n                        {best(lambda counts=counts: group_report(counts)):8.3f} s"
        )
    print(f"  fairlearn n_boot, 4 rates, n = 20,000          {fairlearn_seconds(20_000, 20):8.0f} s  (scaled from 20)")
    print(f"  fairlearn n_boot, 4 rates, n = 2,000,000       {fairlearn_seconds(2_000_000, 1):8.0f} s  (scaled from 1)")


def print_rates(simulations: int) -> None:
    """Print coverage of single rates and of paired changes."""
    rng = np.random.default_rng(1)
    print(f"\ncoverage of nominal 95 % intervals, in %, {simulations:,} simulations each")
    print("  n per group" + " " * 29 + "".join(f"{n:>8,}" for n in SIZES))
    for p in (0.1, 0.5, 0.9, 0.97):
        row = []
        for n in SIZES:
            low, high = wilson(rng.binomial(n, p, simulations), n)
            row.append(np.mean((low <= p) & (p <= high)))
        print_row(f"rate of {p:.2f} (Wilson)", row)
    for gain, loss in ((0.01, 0.01), (0.02, 0.06)):
        row = []
        for n in SIZES:
            b, c, _ = rng.multinomial(n, [gain, loss, 1 - gain - loss], simulations).T
            low, high = paired_difference(b, c, n)
            row.append(np.mean((low <= gain - loss) & (gain - loss <= high)))
        print_row(f"change by +{gain:.0%} -{loss:.0%} (Tango)", row)


def print_row(title: str, shares: list[float]) -> None:
    """Print one row of percentages."""
    print(f"  {title:<40}" + "".join(f"{100 * share:8.1f}" for share in shares), flush=True)


def print_gaps(simulations: int) -> None:
    """Print coverage of gaps by test inversion, and of the bootstrap beside it."""
    print(f"\ncoverage of gaps, {simulations:,} simulations each: ours, then the bootstrap of the difference")
    for groups in (2, 8, 14):
        for shape, rates in SHAPES.items():
            rows: dict[str, list[float]] = {}
            for n in SIZES:
                for name, share in gap_coverage(rates(groups), n, simulations).items():
                    rows.setdefault(name, []).append(share)
            for name, row in rows.items():
                print_row(f"{groups:2} groups, {shape}: {name}", row)


def gap_coverage(truth: np.ndarray, n: int, simulations: int) -> dict[str, float]:
    """Coverage of the three kinds of gaps, of a rate with these true values."""
    rng, sizes = np.random.default_rng(2), np.full(len(truth), n)
    rules = {name: GAPS[name] for name in ("accuracy_gap", "demographic_parity_ratio", "worst_group_accuracy")}
    values = (np.ptp(truth), truth.min() / truth.max(), truth.min())
    hits = dict.fromkeys(("difference", "ratio", "worst group", "percentile"), 0)
    for seed in range(simulations):
        x = rng.binomial(n, truth)
        parts = [part(x, sizes, np.random.default_rng(seed), 1_000)]
        ends = {name: gap_interval(rule, parts) for name, rule in zip(hits, rules.values(), strict=False)}
        table = np.stack([n - x, x], axis=1)
        draws = np.concatenate(list(resample(table, 1_000, np.random.default_rng(seed))))
        ends["percentile"] = percentile(spread(draws[..., 1] / n))
        for name, value in zip(hits, (*values, values[0]), strict=True):
            low, high = ends[name]
            hits[name] += low - 1e-9 <= value <= high + 1e-9
    return {name: count_ / simulations for name, count_ in hits.items()}


def paired_reports(
    gain: np.ndarray, loss: np.ndarray, error: np.ndarray, *, n: int, simulations: int
) -> Iterator[ChangeReport]:
    """Reports on groups of ``n`` positives of which these shares are gained, lost, and wrong in the reference."""
    rng, groups = np.random.default_rng(3), len(gain)
    p = np.stack([gain, loss, 1 - error - loss, error - gain], axis=1)
    for seed in range(simulations):
        table = np.zeros((groups, 2, 2, 2), dtype=np.int64)
        table[:, 1, 0, 1], table[:, 1, 1, 0], table[:, 1, 1, 1], table[:, 1, 0, 0] = rng.multinomial(n, p).T
        yield change_report(
            PairedCounts(tuple(map(str, range(groups))), ("0", "1"), table), replicates=1_000, seed=seed
        )


def print_changes(simulations: int) -> None:
    """Print coverage of the change of a gap and of the worst group's accuracy."""
    print(f"\ncoverage of the change of the accuracy gap / of worst-group accuracy, {simulations:,} simulations each")
    for groups in (2, 9, 14):
        wide, same = np.linspace(0.05, 0.15, groups), np.full(groups, 0.1)
        ahead, behind = np.r_[same[1:], 0.03], np.r_[same[1:], 0.25]
        flips, few = np.full(groups, 0.01), np.full(groups, 0.004)
        first, last = few + np.r_[0.05, 0 * few[1:]], few + np.r_[0 * few[1:], 0.05]
        cases = {
            "nothing changes": (flips, flips, wide),
            "all equal, one loses": (few, last, same),
            "wide, worst one loses": (few, last, wide),
            "one ahead, it loses": (few, last, ahead),
            "one ahead, another loses": (few, first, ahead),
            "one behind, it loses": (few, last, behind),
        }
        for title, (gain, loss, error) in cases.items():
            rows: list[list[float]] = [[], []]
            before, after = 1 - error, 1 - error + gain - loss
            truth = np.ptp(after) - np.ptp(before), after.min() - before.min()
            for n in (100, 300, 1_000, 3_000):
                hits = [0, 0]
                for result in paired_reports(gain, loss, error, n=n, simulations=simulations):
                    for i, name in enumerate(("accuracy_gap", "worst_group_accuracy")):
                        hits[i] += result.gaps[name].low - 1e-9 <= truth[i] <= result.gaps[name].high + 1e-9
                for i in range(2):
                    rows[i].append(hits[i] / simulations)
            cells = "".join(f"{100 * a:6.1f}/{100 * b:5.1f}" for a, b in zip(*rows, strict=True))
            print(f"  {groups:2} groups, {title:<24} n = 100, 300, 1,000, 3,000: {cells}", flush=True)


def print_errors(simulations: int) -> None:
    """Print how often the verdicts are wrong."""
    rng, margin = np.random.default_rng(4), 0.01
    print("\nfalse verdicts on one group's accuracy, in % (at most 5), 20,000 simulations each")
    print("  n per group" + " " * 29 + "".join(f"{n:>8,}" for n in SIZES))
    for flips in (0.01, 0.04):
        row, edge = [], []
        for n in SIZES:
            b, c, _ = rng.multinomial(n, [flips / 2, flips / 2, 1 - flips], 20_000).T
            equivalent = equivalence(b, c, n, margin) <= 0.05
            row.append(np.mean((mcnemar(b, c) <= 0.05) & ~equivalent))
            b, c, _ = rng.multinomial(n, [flips / 2, flips / 2 + margin, 1 - flips - margin], 20_000).T
            edge.append(np.mean(equivalence(b, c, n, margin) <= 0.05))
        print_row(f"nothing changed, {flips:.0%} flip: different", row)
        print_row(f"changed by the margin, {flips:.0%}: equivalent", edge)
    print(f"\nfalse verdicts in whole reports, in %, {simulations:,} simulations each, 4 groups")
    error, flips_ = np.linspace(0.05, 0.15, 4), np.full(4, 0.01)
    for n in (300, 3_000):
        results = list(paired_reports(flips_, flips_, error, n=n, simulations=simulations))
        any_row = np.mean([any(row.verdict.answer == "different" for row in each.groups) for each in results])
        for name in ("accuracy_gap", "worst_group_accuracy"):
            share = np.mean([each.gaps[name].verdict.answer == "different" for each in results])
            print(f"  n = {n:5,}, nothing changed: {name} different {100 * share:5.1f}")
        print(f"  n = {n:5,}, nothing changed: any group different, after Holm {100 * any_row:5.1f}")
    loss = np.r_[np.full(3, 0.01), 0.01 + margin]
    for n in (3_000, 10_000):
        results = list(paired_reports(flips_, loss, error, n=n, simulations=simulations))
        for name in ("accuracy_gap", "worst_group_accuracy"):
            share = np.mean([each.gaps[name].verdict.answer == "equivalent" for each in results])
            print(f"  n = {n:6,}, changed by the margin: {name} equivalent {100 * share:5.1f}")


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a quarter of the simulations")
    simulations = 100 if parser.parse_args().quick else 400
    print_cost()
    print_rates(20_000)
    print_gaps(simulations)
    print_changes(simulations // 2)
    print_errors(simulations)


if __name__ == "__main__":
    main()
