"""Pack, run-pack and import: measure artifacts on the machine that has their runtime."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fqbench import pack as archives
from fqbench.catalogue import artifact_named, model_of
from fqbench.config import Preprocessing
from fqbench.contracts.artifacts import Artifact
from fqbench.data.images import PreparedImages
from fqbench.errors import DataError, InputError
from fqbench.execution import Execution, answers, batch_size_for, execution, require_runtime
from fqbench.latency.results import LatencyReport
from fqbench.latency.zero_weights import refuse_zero_weights
from fqbench.machine import Machine, installed_versions, this_machine, usable_cores
from fqbench.pack import Pack
from fqbench.plugins import Arithmetic, Builder, Level
from fqbench.predictions import PREDICTIONS, Predictions, read_predictions, write_predictions
from fqbench.run import Run
from fqbench.stages.bench import INPUTS, REPORT, combination, measure_executions
from fqbench.stages.carried import PackSaid, ResultSaid, check_said
from fqbench.stages.prepare import Prepared, prepare
from fqbench.stages.read import read, read_entry
from fqbench.stages.saturation import sums_of
from fqbench.workspace import Derivation, Entry, kinds
from fqbench.workspace.kinds import BenchFacts, PredictionFacts

PIXELS, IDS, ANSWERS = "images.npy", "sample_ids.json", "predictions{}.parquet"


@dataclass(frozen=True)
class Imported:
    """What an import brought into the workspace: predictions of each artifact, and one measurement of them all."""

    predictions: tuple[Entry[PredictionFacts], ...]
    bench: Entry[BenchFacts]
    latency: LatencyReport


def pack(run: Run, artifacts: Sequence[Artifact], out: Path | None = None) -> Path:
    """Write artifacts of one model, prepared images of the configured split and their ids into one archive.

    The pictures go along, so whoever gets the archive gets them; labels and sensitive features stay here.

    Parameters
    ----------
    run : Run
        The experiment; its split and batch size travel, too.
    artifacts : sequence of Artifact
        FP32 among them, if ratios are wanted.
    out : Path, optional
        The archive; in the working directory by default.

    Raises
    ------
    InputError
        Artifacts of several models.
    DataError
        A weight of a model is all zeros, so its latency would be meaningless.
    """
    if not artifacts:
        raise InputError("there is nothing to pack; make an artifact with `fqbench quantize` first.")
    models = {artifact.model_id: model_of(run.workspace, artifact) for artifact in artifacts}
    if len(models) > 1:
        raise InputError("these artifacts belong to several models; pack those of each model separately.")
    model = next(iter(models.values()))
    refuse_zero_weights(model.path)
    store = prepare(run, model.preprocessing)
    _frame, rows = store.readable(read(run).split(run.config.eval.split))
    target = out or Path(f"{artifacts[-1].id}.fqpack.zip")
    facts = {
        "artifacts": [_carried(artifact) for artifact in artifacts],
        "data": _data(run, store),
        "preprocessing": model.preprocessing.model_dump(mode="json"),
        "batch_size": run.config.eval.batch_size,
    }
    with tempfile.TemporaryDirectory(prefix="fqbench-pack-") as scratch:
        pixels, ids = Path(scratch) / PIXELS, Path(scratch) / IDS
        np.save(pixels, np.asarray(store.images.pixels[rows]), allow_pickle=False)
        ids.write_text(json.dumps(store.images.sample_ids[rows].tolist()), encoding="utf-8")
        files = {PIXELS: pixels, IDS: ids}
        for number, artifact in enumerate(artifacts):
            files |= {f"artifact{number}/{name}": artifact.root / name for name in artifact.files}
        run.reporter.say(f"packing {len(artifacts)} artifact(s) and {len(rows)} images")
        archives.write_pack(target, archives.PACK, facts, files)
    return target


def run_pack(run: Run, file: Path, out: Path | None = None) -> Path:
    """Build, predict and time what an archive holds on this machine; no workspace and no data set are needed.

    Parameters
    ----------
    run : Run
        Its bench and build options are used, and its reporter; nothing is written into its workspace.
    file : Path
        What `pack` wrote.
    out : Path, optional
        The result; next to ``file`` by default.

    Raises
    ------
    UnavailableError
        A runtime that the artifacts need is not available here, either.
    InputError, DataError
        The archive is none, or damaged.
    """
    combination(run.config.bench)  # refuse before anything is run
    with tempfile.TemporaryDirectory(prefix="fqbench-run-pack-") as scratch:
        (Path(scratch) / "pack").mkdir()
        opened = archives.read_pack(file, archives.PACK, Path(scratch) / "pack")
        said = check_said(opened, PackSaid, (PIXELS, IDS))
        artifacts = [
            Artifact.from_dict(facts, opened.file(f"artifact{number}"))
            for number, facts in enumerate(opened.facts["artifacts"])
        ]
        for artifact in artifacts:
            require_runtime(artifact)
        executions, images = _executions(run, artifacts, Path(scratch)), _images(opened, said.preprocessing)
        rows, threads = np.arange(len(images), dtype=np.int64), usable_cores()
        files, answered, measured = {}, [], []
        for number, running in enumerate(executions):
            size = said.batch_size
            found, arithmetic = answers(running, images, rows, batch_size=size, threads=threads, reporter=run.reporter)
            name = ANSWERS.format(number)
            files[name] = Path(scratch) / name
            write_predictions(found, files[name])
            answered.append(found)
            measured.append(_measured(running, arithmetic, threads, batch_size_for(running.artifact, size)))
        files[REPORT] = Path(scratch) / REPORT
        _measure(run, executions, images, answered).save(files[REPORT])
        facts = {
            "pack": opened.digest,
            **{key: opened.facts[key] for key in ("artifacts", "data", "preprocessing", "batch_size")},
            "measured": measured,
            "machine": this_machine().to_dict(),
            "versions": installed_versions(),
            "bench": run.config.bench.model_dump(mode="json"),
        }
        name = file.name.removesuffix(".zip").removesuffix(".fqpack")
        target = out or file.with_name(f"{name}.fqresult.zip")
        archives.write_pack(target, archives.RESULT, facts, files)
    return target


def import_results(run: Run, file: Path) -> Imported:
    """Import a result into the workspace, as measured on the other machine.

    Raises
    ------
    InputError
        The artifacts or data that it was made of are not in this workspace.
    DataError
        It is damaged, or was made of other contents under the same names.
    """
    with tempfile.TemporaryDirectory(prefix="fqbench-import-") as scratch:
        opened = archives.read_pack(file, archives.RESULT, Path(scratch))
        said = check_said(opened, ResultSaid, (REPORT,), ANSWERS)
        _require_same(run, opened.facts)
        ids = None
        entries = []
        for number, artifact in enumerate(said.artifacts):
            answers = read_predictions(opened.file(ANSWERS.format(number)), expected=ids, task=artifact.task)
            ids = answers.sample_ids.tolist()
            entries.append(_import_predictions(run, opened, number, answers))
        latency = LatencyReport.open(opened.file(REPORT))
        bench = _import_bench(run, opened, latency, entries)
    return Imported(tuple(entries), bench, LatencyReport.open(bench.file(REPORT)))


def _data(run: Run, store: Prepared) -> dict[str, Any]:
    samples, entry = read(run), read_entry(run)
    return {
        "name": samples.name,
        "split": run.config.eval.split,
        "samples": entry.id,
        "samples_digest": entry.digest,
        "prepared": store.entry.id,
        "prepared_digest": store.entry.digest,
        "notice": samples.notice,
    }


def _carried(artifact: Artifact) -> dict[str, Any]:
    # What calibration did to each group is for those who have the groups; no runtime reads it.
    details = {name: value for name, value in artifact.details.items() if name != "calibration"}
    return artifact.to_dict() | {"details": details}


def _images(opened: Pack, preprocessing: Preprocessing) -> PreparedImages:
    try:
        pixels = np.load(opened.file(PIXELS), mmap_mode="r", allow_pickle=False)
        ids = np.asarray(json.loads(opened.file(IDS).read_text(encoding="utf-8")), dtype=np.str_)
    except (ValueError, EOFError, TypeError) as error:
        raise DataError(f"the images of the archive cannot be read ({error}); pack it again.") from error
    if pixels.dtype != np.uint8 or pixels.shape[1:] != (*preprocessing.size, 3) or ids.ndim != 1:
        raise DataError(f"the archive holds {pixels.dtype} images of shape {list(pixels.shape)}; pack it again.")
    if len(ids) != len(pixels) or len(ids) == 0:
        raise DataError(f"the archive holds {len(pixels)} images and {len(ids)} ids; pack it again.")
    return PreparedImages(pixels, ids, preprocessing)


def _executions(run: Run, artifacts: Sequence[Artifact], scratch: Path) -> list[Execution]:
    """How each artifact is executed on this machine, compiled in a folder of its own where its backend has to."""

    def built(builder: Builder, artifact: Artifact, device: str) -> Artifact:
        out = scratch / f"built-{artifact.id}"
        out.mkdir()
        run.reporter.say(f"building {artifact.label}")
        made = builder.build(artifact, out, device=device, source=None, timing_cache=None)
        return replace(artifact, root=made.root, files=made.files, details=made.details)

    asked = run.config
    return [
        execution(one, device=asked.bench.device, options=asked.backends, build=built, reporter=run.reporter)
        for one in artifacts
    ]


def _measured(running: Execution, arithmetic: Arithmetic, threads: int, batch_size: int) -> dict[str, Any]:
    return {
        "runtime": running.runtime,
        "level": running.level.value,
        "device": running.device,
        "device_name": running.device_name,
        "options": dict(running.options),
        "built_for": dict(running.built_for),
        "threads": threads,
        "batch_size": batch_size,
        "arithmetic": arithmetic.to_dict(),
    }


def _measure(
    run: Run, executions: Sequence[Execution], images: PreparedImages, answered: Sequence[Predictions]
) -> LatencyReport:
    batch, _threads = combination(run.config.bench)
    count = min(max(batch, min(INPUTS, len(images)) // batch * batch), len(images))
    expected = [known.logits[:count] for known in answered]
    return measure_executions(run, executions, expected, images.batch(np.arange(count, dtype=np.int64)))


def _require_same(run: Run, facts: Mapping[str, Any]) -> None:
    """Check that a result was made from entries of this workspace."""
    data = facts["data"]
    found = [(one["id"], artifact_named(run.workspace, one["id"]).digest, one["digest"]) for one in facts["artifacts"]]
    for kind in (kinds.SAMPLES, kinds.PREPARED):
        name = data[kind.name]
        found.append((name, run.workspace.get(name, kind).digest, data[f"{kind.name}_digest"]))
    for name, here, packed in found:
        if here != packed:
            raise DataError(f"{name} in this workspace is not what was packed: its hash differs; pack it again.")
    if len(facts["measured"]) != len(facts["artifacts"]):
        raise DataError("the result does not say how each artifact was run; run the pack again.")


def _where(facts: Mapping[str, Any], number: int) -> str:
    return f"on {facts['measured'][number]['device_name'] or facts['machine']['cpu']}"


def _import_predictions(run: Run, opened: Pack, number: int, answers: Predictions) -> Entry[PredictionFacts]:
    facts = opened.facts
    artifact = artifact_named(run.workspace, facts["artifacts"][number]["id"])
    measured, data, machine = facts["measured"][number], facts["data"], facts["machine"]
    derivation = Derivation(
        kind=kinds.PREDICTIONS,
        slug=f"{artifact.id.rpartition('-')[0]}-{data['split']}-imported",
        determined_by={
            "artifact": artifact.digest,
            "backend": artifact.backend,
            "runtime": measured["runtime"],
            "device": measured["device"],
            "options": measured["options"],
            "built_for": measured["built_for"],
            "cpu_features": machine["features"],
            "samples": data["samples_digest"],
            "prepared": data["prepared_digest"],
            "preprocessing": facts["preprocessing"],
            "split": data["split"],
            "threads": measured["threads"],
            "batch_size": measured["batch_size"],
            "result": opened.digest,
        },
        inputs={"artifact": artifact.id, "samples": data["samples"], "prepared": data["prepared"]},
    )

    def write(out: Path) -> PredictionFacts:
        write_predictions(answers, out / PREDICTIONS)
        return PredictionFacts(
            artifact=artifact.id,
            level=measured["level"],
            where=_where(facts, number),
            images=len(answers.sample_ids),
            machine=machine,
            versions_there=facts["versions"],
            built_for=measured["built_for"],
            arithmetic=measured["arithmetic"],
            integer_sums=sums_of(Machine(**machine), measured["device"], Level(measured["level"])),
        )

    return run.produce(derivation, write, f"importing the predictions of {artifact.label} {_where(facts, number)}")


def _import_bench(
    run: Run, opened: Pack, latency: LatencyReport, entries: Sequence[Entry[PredictionFacts]]
) -> Entry[BenchFacts]:
    facts = opened.facts
    derivation = Derivation(
        kind=kinds.BENCHES,
        slug=f"{len(entries)}-artifacts-batch{latency.batch}-imported",
        determined_by={
            "artifacts": [one["digest"] for one in facts["artifacts"]],
            "predictions": [entry.digest for entry in entries],
            "options": facts["bench"],
            "machine": facts["machine"],
            "result": opened.digest,
        },
        inputs={f"artifact{number}": one["id"] for number, one in enumerate(facts["artifacts"])},
    )

    def write(out: Path) -> BenchFacts:
        latency.save(out / REPORT)
        ids = tuple(one["id"] for one in facts["artifacts"])
        return BenchFacts(artifacts=ids, where=_where(facts, 0), repeat=0)

    return run.produce(derivation, write, "importing the latency that was measured there")
