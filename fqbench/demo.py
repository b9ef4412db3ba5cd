"""The whole workflow on the embedded data set: FP32, INT8, INT4 done plainly, and INT4 as fqbench chooses it."""

from __future__ import annotations

from dataclasses import dataclass

from fqbench.fairness.evaluated import Evaluation
from fqbench.latency.results import LatencyReport
from fqbench.run import Run
from fqbench.stages.bench import bench
from fqbench.stages.evaluate import evaluate
from fqbench.stages.quantize import quantize, reference

BITS = 4  # what plain quantization harms, and chosen ranges and rounding from data win back
# Extremes as ranges, rounding to nearest, no correction: what a straightforward quantizer does.
PLAIN = {"range_rule": "minmax", "weight_rule": "minmax", "bias_correction": "off", "rounding": "nearest"}
GROUPS = ("skin_tone", "age_group")  # all three features make 18 groups, of which most are too small to say much


@dataclass(frozen=True)
class Demo:
    """What the demo shows.

    Attributes
    ----------
    evaluation : Evaluation
        Accuracy per group.
    latency : LatencyReport
        Of the same artifacts.
    search : str
        The command that looks for an artifact of this model that harms no group; empty for a try with few images.
    """

    evaluation: Evaluation
    latency: LatencyReport
    search: str = ""


def run_demo(run: Run, *, debug: bool = False) -> Demo:
    """Run every stage from drawing the data to measuring; finished results are reused.

    Parameters
    ----------
    run : Run
        Configuration and workspace.
    debug : bool
        Fewer images and rounds, one epoch: to see that a set-up works; the figures then mean nothing.
    """
    if debug:
        run = (
            run.with_options("data", images=1050)
            .with_options("train", epochs=1, batch_size=32)
            .with_options("quantize", calib_n=128)
            .with_options("bench", rounds=60, seconds=0.5)
        )
    if run.config.eval.by is None and run.config.data.name == "synthfaces":
        run = run.with_options("eval", by=GROUPS).with_options("quantize", calib_by=GROUPS)
    artifacts = [
        reference(run),
        quantize(run.with_options("quantize", bits=8)),
        quantize(run.with_options("quantize", bits=BITS, **PLAIN)),
        quantize(run.with_options("quantize", bits=BITS)),
    ]
    return Demo(evaluate(run, artifacts), bench(run, artifacts), "" if debug else _search(run))


def _search(run: Run) -> str:
    by = f" --by {','.join(run.config.eval.by)}" if run.config.eval.by else ""
    return f"fqbench search --limits limits.yaml --minimize size{by} --backends {run.config.quantize.backend}"
