"""One pass over the calibration images: extremes, histogram and channel means of every activation, per group."""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.errors import DataError
from fqbench.machine import usable_cores
from fqbench.onnx_graph import copied, producers, with_outputs
from fqbench.quant import graph
from fqbench.quant.activations import SAMPLE, activations
from fqbench.quant.histogram import BINS, Histograms, Seen
from fqbench.quant.layout import Layout
from fqbench.quant.record import CalibrationRecord
from fqbench.reference_executor import reference_session
from fqbench.reporter import Reporter, Silent
from fqbench.storage import read_arrays, text_digest, write_arrays
from fqbench.workspace.kinds import RECORDS

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto

    from fqbench.contracts.artifacts import ExportedModel
    from fqbench.quant.calibration import CalibrationSet

    _Begun = tuple[NDArray[np.int64], NDArray[np.float32], list[Future[tuple[Seen, bool]]]]

BATCH = 8
RUN = 2  # images: what few of them leave behind still is in the caches when it is looked at, and takes less memory
KEEP_EVERY = 20.0
STATE = "observed.npz"


def observe(
    model: ExportedModel,
    calibration: CalibrationSet,
    *,
    rewritten: ModelProto | None = None,
    batch_size: int = BATCH,
    threads: int | None = None,
    sample: int = SAMPLE,
    scratch: Path | None = None,
    keep_every: float = KEEP_EVERY,
    reporter: Reporter | None = None,
) -> CalibrationRecord:
    """Run the FP32 model once over the calibration images and record what ranges are computed from.

    Memory does not depend on the number of images, and the result does not depend on ``batch_size`` or ``threads``
    beyond the last bits of the activations themselves. A batch is run in parts, side by side with a thread each: a
    thread need not wait for others after every operator, and what it computes is in its core's cache when extremes and
    samples are taken. Parts are folded in the order of the images.

    Parameters
    ----------
    model : ExportedModel
        The FP32 model.
    calibration : CalibrationSet
        The images, and the group of each.
    rewritten : ModelProto, optional
        A cleaned graph with the model's answers, to be observed in its place.
    batch_size : int
        Images that are run side by side and folded at once.
    threads : int, optional
        That run the model; as many as cores by default.
    sample : int
        About how many values of each activation are sampled from an image for the histograms; 0 takes all. Extremes
        are exact in any case.
    scratch : Path, optional
        Folder for progress, so that an interrupted observation can resume.
    keep_every : float
        Seconds between two keepings.
    reporter : Reporter, optional
        Shown progress.

    Raises
    ------
    DataError
        A group has no image, or an activation is NaN or infinite; the message names the tensor and the image.
    """
    groups, codes = groups_of(calibration)
    cleaned = graph.cleaned(model.path) if rewritten is None else copied(rewritten)
    found = activations(cleaned, sample=sample)
    layout = Layout.of(found.observed)
    histograms = Histograms(layout, len(groups))
    order = np.argsort(codes, kind="stable")  # a batch of one group is folded in one go
    keeper = _Keeper(scratch, _identity(model, calibration, sample), keep_every)
    done = keeper.restore(histograms)
    threads = threads or usable_cores()
    workers = min(threads, batch_size)
    session = _Session(cleaned, graph.augment(cleaned, found.observed), threads // workers)
    del cleaned  # as large as the model
    with (reporter or Silent()).track(f"observing {model.name}", len(order), "images") as advance:
        advance(done)
        batches = _batches(calibration, order[done:], batch_size)
        for rows, images, parts in _begun(session, batches, workers, min(RUN, math.ceil(batch_size / workers))):
            seen, finite = zip(*(part.result() for part in parts), strict=True)
            if not all(finite):
                raise _not_finite(
                    rewritten or graph.cleaned(model.path), images, [calibration.sample_id(int(row)) for row in rows]
                )
            histograms.fold(Seen.joined(seen), codes[rows])  # while the next batch runs
            done += len(rows)
            keeper.keep(histograms, done)
            advance(len(rows))
    return CalibrationRecord(
        model_digest=model.digest,
        images_digest=calibration.digest,
        groups=groups,
        population=dict(calibration.population) or calibration.group_counts,
        observed=found.observed,
        aliases=found.aliases,
        arrays={**histograms.state(), "channel_start": layout.channel_start},
    )


class _Session:
    def __init__(self, model: ModelProto, outputs: graph.Outputs, threads: int) -> None:
        import onnx

        with tempfile.TemporaryDirectory(prefix="fqbench-observe-") as scratch:
            path = Path(scratch) / "augmented.onnx"
            onnx.save(model, path)
            self._session = reference_session(path, threads=threads)
        self._input = self._session.get_inputs()[0].name
        self._outputs = outputs
        self._asked = [self._session.get_outputs()[0].name, *outputs.names]

    def run(self, images: NDArray[np.float32]) -> tuple[Seen, bool]:
        """Return the augmented graph's outputs for these images, and whether all are finite.

        A NaN that a pooling loses, as the runtime may choose, is met again in the sample or in the logits.
        """
        found = self._session.run(self._asked, {self._input: images})
        finite = all(np.isfinite(values).all() for values in found)
        return self._outputs.seen(found[1:]), finite


class _Keeper:
    """Save progress in a folder from time to time; that of another observation is ignored."""

    def __init__(self, folder: Path | None, identity: str, every: float) -> None:
        self.file = None if folder is None else folder / STATE
        self.identity, self.every = identity, every
        self.last = time.monotonic()

    def restore(self, histograms: Histograms) -> int:
        """Restore saved histograms, and return the number of images in them."""
        if self.file is None or not self.file.is_file():
            return 0
        try:
            kept = read_arrays(self.file)
        except (OSError, ValueError):
            return 0
        if str(kept.pop("identity")) != self.identity:
            return 0
        done = int(kept.pop("done"))
        histograms.restore(kept)
        return done

    def keep(self, histograms: Histograms, done: int) -> None:
        """Write the histograms if it is time."""
        if self.file is None or time.monotonic() - self.last < self.every:
            return
        state = {**histograms.state(), "identity": np.array(self.identity), "done": np.array(done)}
        write_arrays(self.file, state)
        self.last = time.monotonic()


def groups_of(calibration: CalibrationSet) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the groups by name, and the group of each image."""
    counts = dict.fromkeys(sorted(calibration.population), 0) | calibration.group_counts
    missing = [group for group, count in counts.items() if not count]
    if missing:
        listed = ", ".join(f"{group}: {count}" for group, count in sorted(counts.items()))
        raise DataError(
            f"no calibration image for group(s) {', '.join(missing)} (chosen by {calibration.sampler!r}: {listed}); "
            "raise --calib-n, use --calib balanced, or group by fewer features with --calib-by."
        )
    groups = tuple(sorted(counts))
    code = {group: number for number, group in enumerate(groups)}
    return groups, np.array([code[str(group)] for group in calibration.frame["group"]], dtype=np.int64)


def _batches(
    calibration: CalibrationSet, order: NDArray[np.int64], size: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Yield positions in the calibration set and their pictures; the next batch is read in the background."""
    parts = [order[start : start + size] for start in range(0, len(order), size)]
    with ThreadPoolExecutor(1, thread_name_prefix="observe-batch") as ahead:
        upcoming = [ahead.submit(calibration.images.batch, calibration.rows[part]) for part in parts[:1]]
        for number, part in enumerate(parts):
            current = upcoming.pop()
            if number + 1 < len(parts):
                upcoming.append(ahead.submit(calibration.images.batch, calibration.rows[parts[number + 1]]))
            yield part, current.result()


def _begun(
    session: _Session, batches: Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]], workers: int, size: int
) -> Iterator[_Begun]:
    """Yield each batch with its runs, of ``size`` images each, when those of the next batch wait for a free worker."""
    begun: deque[_Begun] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="observe-run") as running:
        for rows, images in batches:
            starts = range(0, len(images), size)
            begun.append((rows, images, [running.submit(session.run, images[at : at + size]) for at in starts]))
            if len(begun) > 1:
                yield begun.popleft()
        yield from begun


def _identity(model: ExportedModel, calibration: CalibrationSet, sample: int) -> str:
    parts: list[Any] = [RECORDS.version, BINS, model.digest, calibration.digest, sample]
    return text_digest(json.dumps(parts))


def _not_finite(cleaned: ModelProto, images: NDArray[np.float32], names: list[str]) -> DataError:
    """Run the images one by one with every activation as output, and name the first that is not finite."""
    given = cleaned.graph.input[0].name
    session = reference_session(with_outputs(cleaned, producers(cleaned.graph)).SerializeToString(), optimize=False)
    order = {name: number for number, name in enumerate(name for node in cleaned.graph.node for name in node.output)}
    outputs = sorted((output.name for output in session.get_outputs()), key=lambda name: order[name])
    for name, image in zip(names, images, strict=True):
        values = dict(zip(outputs, session.run(outputs, {given: image[None]}), strict=True))
        for tensor, value in ({given: image} | values).items():
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                what = "NaN" if np.isnan(value).any() else "infinite"
                return DataError(
                    f"the activation {tensor!r} is {what} for the image {name!r}; check the model and its "
                    "preprocessing, or remove this image from the table."
                )
    return DataError(f"an activation is NaN or infinite for one of the images {', '.join(names)}; check the model.")
