"""Observe: one pass over the calibration images, shared by all range rules, policies and backends."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from fqbench.contracts.artifacts import ExportedModel
from fqbench.machine import usable_cores
from fqbench.quant import observe as observing
from fqbench.quant.calibration import CalibrationSet
from fqbench.quant.record import CalibrationRecord, open_record
from fqbench.run import Run
from fqbench.stages.sample import sample
from fqbench.workspace import Derivation, Entry
from fqbench.workspace.kinds import RECORDS, RecordFacts


def observe(run: Run, model: ExportedModel) -> tuple[CalibrationSet, Entry[RecordFacts]]:
    """Return the configured calibration set with its record, observing its images if necessary.

    Raises
    ------
    PluginError
        No such sampler.
    DataError
        Too few images, a group without any, or an activation that is not finite.
    """
    chosen, source = sample(run, model)
    batch_size = model.batch_size(run.config.quantize.calib_batch)
    derivation = Derivation(
        kind=RECORDS,
        slug=f"{model.name}-{chosen.sampler}-{len(chosen)}",
        determined_by={
            "model": model.digest,
            "calibration": source.digest,
            "prepared": source.manifest.determined_by["prepared"],
            "preprocessing": model.preprocessing.model_dump(mode="json"),
        },
        inputs={"model": model.id, "calibration": source.id},
    )

    def build(out: Path) -> RecordFacts:
        record = observing.observe(
            model,
            chosen,
            batch_size=batch_size,
            threads=usable_cores(),
            scratch=run.workspace.scratch(derivation),
            reporter=run.reporter,
        )
        record.save(out)
        return RecordFacts(
            images=int(record.images.sum()),
            groups=record.group_counts,
            tensors=len(record.names),
            sampler=chosen.sampler,
            batch_size=batch_size,
        )

    entry = run.produce(derivation, build, f"observing {model.name} on {len(chosen)} images ({chosen.sampler})")
    record = open_record(entry.path).require(model, chosen)
    return replace(chosen, record=with_shared_memory(run, entry, record)), entry


def with_shared_memory(run: Run, entry: Entry[RecordFacts], record: CalibrationRecord) -> CalibrationRecord:
    """Return the record with a memory that the whole run shares.

    Ranges and rounded weights that were found once then serve every scheme that this process makes.
    """
    known = run.memory.setdefault(("record", entry.digest), record.memory)
    return replace(record, memory=cast("dict[object, Any]", known))
