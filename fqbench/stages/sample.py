"""Sample: choose the calibration images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from fqbench import plugins
from fqbench.contracts.artifacts import ExportedModel
from fqbench.quant import calibration
from fqbench.quant.calibration import CALIBRATION_SPLIT, CalibrationSet
from fqbench.run import Run
from fqbench.stages.export import export
from fqbench.stages.prepare import prepare
from fqbench.stages.read import read, read_entry
from fqbench.workspace import Derivation, Entry
from fqbench.workspace.kinds import CALIBRATIONS, CalibrationFacts

TABLE = "calibration.parquet"


def calibrate(run: Run) -> CalibrationSet:
    """Return the calibration images that the configured sampler chooses for the configured model."""
    chosen, _entry = sample(run, export(run))
    return chosen


def sample(run: Run, model: ExportedModel) -> tuple[CalibrationSet, Entry[CalibrationFacts]]:
    """Return the configured calibration set, and its entry in the workspace.

    Raises
    ------
    PluginError
        No such sampler.
    DataError
        Too few images.
    """
    import pandas as pd

    asked = run.config.quantize
    sampler = plugins.sampler(asked.calib)
    samples, store = read(run), prepare(run, model.preprocessing)
    by = samples.features(asked.calib_by)
    derivation = Derivation(
        kind=CALIBRATIONS,
        slug=f"{sampler.name}-{asked.calib_n}",
        determined_by={
            "samples": read_entry(run).digest,
            "prepared": store.entry.digest,
            "sampler": sampler.name,
            "n": asked.calib_n,
            "by": list(by),
            "seed": asked.calib_seed,
        },
        inputs={"samples": read_entry(run).id, "prepared": store.entry.id},
    )

    def build(out: Path) -> CalibrationFacts:
        candidates, _rows = store.readable(samples.split(CALIBRATION_SPLIT))
        frame = calibration.choose(samples, candidates, sampler, asked.calib_n, by=by, seed=asked.calib_seed)
        frame.to_parquet(out / TABLE, index=False)
        chosen = _set(frame)
        _tell(run, chosen)
        return CalibrationFacts(
            sampler=sampler.name,
            by=tuple(by),
            groups=chosen.group_counts,
            repeats=chosen.repeats,
            population=calibration.population(candidates, by),
        )

    def _set(frame: pd.DataFrame) -> CalibrationSet:
        rows = store.images.rows_of(np.asarray(frame["sample_id"], dtype=np.str_))
        return CalibrationSet(sampler.name, frame, store.images, rows)

    entry = run.produce(derivation, build, f"choosing {asked.calib_n} calibration images ({sampler.name})")
    chosen = _set(pd.read_parquet(entry.file(TABLE)))
    return replace(chosen, population=entry.facts.population), entry


def _tell(run: Run, chosen: CalibrationSet) -> None:
    counts = ", ".join(f"{group} {count}" for group, count in chosen.group_counts.items())
    run.reporter.say(f"calibration images per group: {counts}")
    if chosen.repeats:
        groups = ", ".join(f"{group} ({count} repeats)" for group, count in chosen.repeats.items())
        run.reporter.say(f"too few images for the sampler {chosen.sampler}, so some are repeated: {groups}")
