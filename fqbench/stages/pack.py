"""Pack, run elsewhere, import: an artifact goes to the machine that has its runtime, and comes back measured there."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fqbench import pack as archives
from fqbench import plugins, predictions
from fqbench.config import Preprocessing
from fqbench.contracts.artifacts import Artifact
from fqbench.contracts.scheme import Method, Scheme
from fqbench.data.images import PreparedImages
from fqbench.errors import DataError, InputError
from fqbench.latency.file import read_latency, write_latency
from fqbench.latency.memory import peak_memory
from fqbench.latency.protocol import Subject, measure
from fqbench.latency.results import LatencyReport
from fqbench.latency.zero_weights import refuse_zero_weights
from fqbench.machine import installed_versions, this_machine, usable_cores
from fqbench.pack import Pack
from fqbench.plugins import Builder, Session
from fqbench.predictions import PREDICTIONS, Predictions, read_predictions, write_predictions
from fqbench.run import Run
from fqbench.stages.bench import INPUTS, REPORT, with_phases
from fqbench.stages.bench import STAGE_VERSION as BENCH_VERSION
from fqbench.stages.build import device_for, usable
from fqbench.stages.prepare import Prepared, prepare
from fqbench.stages.quantize import model_of, open_artifact
from fqbench.stages.read import read, read_entry
from fqbench.workspace import Entry, Recipe

PIXELS, IDS = "images.npy", "sample_ids.json"
CARRIED = ("backend", "files", "id", "digest", "sampler", "model_id", "model_digest")


@dataclass(frozen=True)
class Imported:
    """What an import brought into the workspace: predictions of each artifact, and one measurement of them all."""

    predictions: tuple[Entry, ...]
    bench: Entry
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
        The archive; beside the working directory's other files by default.

    Raises
    ------
    InputError
        Artifacts of several models.
    DataError
        A model is not trained: weights that are all zero are no subject for a clock.
    """
    if not artifacts:
        raise InputError("there is nothing to pack; make an artifact with `fqbench quantize` first.")
    models = {artifact.model_id: model_of(run.workspace, artifact) for artifact in artifacts}
    if len(models) > 1:
        raise InputError("these artifacts are of several models; pack each model's apart.")
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
        The result; beside ``file`` by default.

    Raises
    ------
    UnavailableError
        A runtime that the artifacts need is not available here, either.
    InputError, DataError
        The archive is none, or damaged.
    """
    with tempfile.TemporaryDirectory(prefix="fqbench-run-pack-") as scratch:
        (Path(scratch) / "pack").mkdir()
        opened = archives.read_pack(file, archives.PACK, Path(scratch) / "pack")
        artifacts = [_unpacked(opened, number) for number in range(len(opened.facts["artifacts"]))]
        for artifact in artifacts:
            usable(plugins.backend(artifact.backend))
        ready = [_ready(run, artifact, Path(scratch) / f"built{number}") for number, artifact in enumerate(artifacts)]
        images = _images(opened)
        answered = [_answer(run, artifact, images, opened.facts["batch_size"]) for artifact in ready]
        files = {}
        for number, (answers, _facts) in enumerate(answered):
            files[f"predictions{number}.parquet"] = Path(scratch) / f"predictions{number}.parquet"
            write_predictions(answers, files[f"predictions{number}.parquet"])
        files[REPORT] = Path(scratch) / REPORT
        write_latency(_measure(run, ready, images, [answers for answers, _facts in answered]), files[REPORT])
        facts = {
            "pack": opened.digest,
            **{key: opened.facts[key] for key in ("artifacts", "data", "preprocessing", "batch_size")},
            "measured": [facts for _answers, facts in answered],
            "machine": this_machine().to_dict(),
            "versions": installed_versions(),
            "bench": run.config.bench.model_dump(mode="json"),
        }
        name = file.name.removesuffix(".zip").removesuffix(".fqpack")
        target = out or file.with_name(f"{name}.fqresult.zip")
        archives.write_pack(target, archives.RESULT, facts, files)
    return target


def import_results(run: Run, file: Path) -> Imported:
    """Bring a result into the workspace as runs that were measured on the other machine.

    Raises
    ------
    InputError
        The artifacts or data that it was made of are not in this workspace.
    DataError
        It is damaged, or was made of other contents under the same names.
    """
    with tempfile.TemporaryDirectory(prefix="fqbench-import-") as scratch:
        opened = archives.read_pack(file, archives.RESULT, Path(scratch))
        facts = opened.facts
        _require_same(run, facts)
        ids = None
        entries = []
        for number in range(len(facts["artifacts"])):
            source = opened.file(f"predictions{number}.parquet")
            answers = read_predictions(source, expected=ids)
            ids = answers.sample_ids.tolist()
            entries.append(_import_predictions(run, opened, number, answers))
        latency = read_latency(opened.file(REPORT))
        bench = _import_bench(run, opened, latency, entries)
    return Imported(tuple(entries), bench, read_latency(bench.file(REPORT)))


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
    values = {key: getattr(artifact, key) for key in CARRIED}
    scheme = artifact.scheme.model_dump(mode="json")
    # What calibration did to each group is for those who have the groups; no runtime reads it.
    details = {name: value for name, value in artifact.details.items() if name != "calibration"}
    return {**values, "files": list(artifact.files), "scheme": scheme, "details": details}


def _unpacked(opened: Pack, number: int) -> Artifact:
    facts = opened.facts["artifacts"][number]
    return Artifact(
        **{key: facts[key] for key in CARRIED if key != "files"},
        files=tuple(facts["files"]),
        scheme=Scheme.model_validate(facts["scheme"]),
        root=opened.file(f"artifact{number}"),
        details=facts["details"],
    )


def _images(opened: Pack) -> PreparedImages:
    pixels = np.load(opened.file(PIXELS), mmap_mode="r", allow_pickle=False)
    ids = np.asarray(json.loads(opened.file(IDS).read_text(encoding="utf-8")), dtype=np.str_)
    if len(ids) != len(pixels) or len(ids) == 0:
        raise DataError(f"the archive holds {len(pixels)} images and {len(ids)} ids; pack it anew.")
    return PreparedImages(pixels, ids, Preprocessing.model_validate(opened.facts["preprocessing"]))


def _ready(run: Run, artifact: Artifact, out: Path) -> Artifact:
    """The artifact, compiled for this machine where its backend has to."""
    backend = plugins.backend(artifact.backend)
    device = device_for(run, backend)
    if not isinstance(backend, Builder) or backend.built_here(artifact, device):
        return artifact
    out.mkdir()
    run.reporter.say(f"building {artifact.label}")
    made = backend.build(artifact, out, options=run.config.build, device=device)
    return replace(artifact, root=made.root, files=made.files, details=made.details)


def _load(run: Run, artifact: Artifact, threads: int) -> Session:
    backend = plugins.backend(artifact.backend)
    return backend.load(artifact, threads=threads, device=device_for(run, backend))


def _answer(
    run: Run, artifact: Artifact, images: PreparedImages, batch_size: int
) -> tuple[Predictions, dict[str, Any]]:
    backend, threads = plugins.backend(artifact.backend), usable_cores()
    session = _load(run, artifact, threads)
    size = 1 if artifact.scheme.method is Method.PTQ_DYNAMIC else batch_size
    rows = np.arange(len(images), dtype=np.int64)
    what = f"predicting {artifact.label}"
    answers = predictions.predict(session, images, rows, batch_size=size, what=what, reporter=run.reporter)
    arithmetic = session.arithmetic
    engine = artifact.details.get("engine")
    return answers, {
        "runtime": backend.availability().version,
        "device": device_for(run, backend),
        "threads": threads,
        "batch_size": size,
        "engine": engine if isinstance(engine, Mapping) else None,
        "arithmetic": {
            "integer_macs": arithmetic.integer_macs,
            "total_macs": arithmetic.total_macs,
            "uncounted": list(arithmetic.uncounted),
        },
    }


def _measure(
    run: Run, artifacts: Sequence[Artifact], images: PreparedImages, answers: Sequence[Predictions]
) -> LatencyReport:
    asked = run.config.bench
    count = max(asked.batch, min(INPUTS, len(images)) // asked.batch * asked.batch)
    subjects = []
    for artifact, known in zip(artifacts, answers, strict=True):
        backend = plugins.backend(artifact.backend)
        device = device_for(run, backend)
        memory = peak_memory(artifact, images.input_shape, batch=asked.batch, threads=asked.threads, device=device)
        facts = {
            "bytes": artifact.size_on_disk,
            "threads": asked.threads,
            "backend": artifact.backend,
            "runtime": backend.availability().version,
            "peak_memory": memory.to_dict(),
        }
        session = _load(run, artifact, asked.threads)
        subjects.append(Subject(artifact.id, artifact.label, session, known.logits[:count], facts))
    report = measure(
        subjects,
        images.batch(np.arange(min(count, len(images)), dtype=np.int64)),
        batch=asked.batch,
        rounds=asked.rounds,
        seconds=asked.seconds,
        seed=asked.seed,
        reference=next((artifact.id for artifact in artifacts if artifact.scheme.label == "fp32"), None),
        reporter=run.reporter,
    )
    return with_phases(report, subjects)


def _require_same(run: Run, facts: Mapping[str, Any]) -> None:
    """Check that what came back was made of what lies in this workspace."""
    wanted = [("artifacts", one["id"], one["digest"]) for one in facts["artifacts"]]
    data = facts["data"]
    wanted += [(kind, data[kind], data[f"{kind}_digest"]) for kind in ("samples", "prepared")]
    for kind, name, digest in wanted:
        if run.workspace.get(name, kind).digest != digest:
            raise DataError(f"{kind}/{name} in this workspace is not what was packed: its hash differs; pack it anew.")
    if len(facts["measured"]) != len(facts["artifacts"]):
        raise DataError("the result does not say how each artifact was run; run the pack again.")


def _where(facts: Mapping[str, Any], number: int) -> str:
    engine = facts["measured"][number]["engine"]
    return f"on {engine['gpu'] if engine else facts['machine']['cpu']}"


def _import_predictions(run: Run, opened: Pack, number: int, answers: Predictions) -> Entry:
    facts = opened.facts
    artifact = open_artifact(run.workspace.get(facts["artifacts"][number]["id"], "artifacts"))
    measured, data, machine = facts["measured"][number], facts["data"], facts["machine"]
    recipe = Recipe(
        kind="predictions",
        slug=f"{artifact.id.rpartition('-')[0]}-{data['split']}-imported",
        version=predictions.STAGE_VERSION,
        determined_by={
            "artifact": artifact.digest,
            "backend": artifact.backend,
            "runtime": measured["runtime"],
            "device": measured["device"],
            "engine": measured["engine"],
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

    def write(out: Path) -> Mapping[str, object]:
        write_predictions(answers, out / PREDICTIONS)
        return {
            "artifact": artifact.id,
            "level": "",
            "where": _where(facts, number),
            "images": len(answers.sample_ids),
            "machine": machine,
            "versions_there": facts["versions"],
            "engine": measured["engine"],
            "arithmetic": measured["arithmetic"],
        }

    return run.produce(recipe, write, f"importing the predictions of {artifact.label} {_where(facts, number)}")


def _import_bench(run: Run, opened: Pack, latency: LatencyReport, entries: Sequence[Entry]) -> Entry:
    facts = opened.facts
    recipe = Recipe(
        kind="benches",
        slug=f"{len(entries)}-artifacts-batch{latency.batch}-imported",
        version=BENCH_VERSION,
        determined_by={
            "artifacts": [one["digest"] for one in facts["artifacts"]],
            "predictions": [entry.digest for entry in entries],
            "options": facts["bench"],
            "machine": facts["machine"],
            "result": opened.digest,
        },
        inputs={f"artifact{number}": one["id"] for number, one in enumerate(facts["artifacts"])},
    )

    def write(out: Path) -> Mapping[str, object]:
        write_latency(latency, out / REPORT)
        return {"artifacts": [one["id"] for one in facts["artifacts"]], "where": _where(facts, 0), "repeat": 0}

    return run.produce(recipe, write, "importing the latency that was measured there")
