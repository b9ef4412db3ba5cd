"""Which runtime, then? One model on every runtime that is usable here: FP32, casts, and the configured scheme."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fqbench import plugins
from fqbench.errors import InputError, PluginError, UnavailableError
from fqbench.stages.bench import bench_grid
from fqbench.stages.evaluate import evaluate
from fqbench.stages.predict import predict_split
from fqbench.stages.quantize import FLOAT, configured_scheme, named_backend, quantize, reference

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fqbench.contracts.artifacts import Artifact
    from fqbench.fairness.evaluated import Evaluation
    from fqbench.latency.results import LatencyReport
    from fqbench.run import Run

FLOATS: tuple[Mapping[str, Any], ...] = (
    {**FLOAT, "recipe": None},
    {**FLOAT, "recipe": None, "method": "cast", "precision": "bf16"},
    {**FLOAT, "recipe": None, "method": "cast", "precision": "fp16"},
)


@dataclass(frozen=True)
class Runtimes:
    """One model on several runtimes.

    Attributes
    ----------
    evaluation : Evaluation
        Of all artifacts, the reference first.
    latency : tuple of LatencyReport
        Of the same artifacts, one for each batch size and number of threads.
    left_out : dict of str to str
        What was not measured (a runtime, or a runtime and what it was asked for), and why.
    """

    evaluation: Evaluation
    latency: tuple[LatencyReport, ...]
    left_out: dict[str, str]


def compare_runtimes(run: Run, *, again: bool = False) -> Runtimes:
    """Quantize the configured model for every runtime usable here, evaluate and time all of it.

    What a runtime refuses is left out with its reason; a runtime that answers NaN, or damaged data, is an error.

    Parameters
    ----------
    run : Run
        The experiment; FP32 on the configured backend is the reference.
    again : bool
        Measure the latency again, even if a stored result exists.

    Raises
    ------
    UnavailableError
        The configured backend itself is not usable here.
    """
    left_out: dict[str, str] = {}
    named_backend(run, configured_scheme(run))  # else a misspelt name would be a reason to leave its artifact out
    first = reference(run)
    found = {first.id: first}
    predict_split(run, first)
    for name in _usable(left_out):
        for artifact in _artifacts(run.with_options("quantize", backend=name), left_out):
            found.setdefault(artifact.id, artifact)
    for what, why in left_out.items():
        run.reporter.say(f"left out: {what}: {why}")
    artifacts = list(found.values())
    return Runtimes(evaluate(run, artifacts), bench_grid(run, artifacts, again=again), left_out)


def _usable(left_out: dict[str, str]) -> list[str]:
    names = []
    for name in plugins.installed(plugins.BACKENDS):
        try:
            available = plugins.backend(name).availability()
        except PluginError as error:
            left_out[name] = str(error)
            continue
        if available.can_run:
            names.append(name)
        else:
            left_out[name] = available.reason
    return names


def _artifacts(run: Run, left_out: dict[str, str]) -> Iterator[Artifact]:
    """Yield the artifacts of one backend that answer here."""
    asked = run.config.quantize
    # Only what was set by the user tells a scheme from a float one, so the configured scheme comes as it is.
    for options in (*FLOATS, {}):
        label = str(options.get("precision") or ("fp32" if options else asked.method))
        try:
            artifact = quantize(run.with_options("quantize", **options) if options else run)
            predict_split(run, artifact)
        except (InputError, UnavailableError) as error:
            left_out[f"{asked.backend} {label}"] = str(error)
            continue
        yield artifact
