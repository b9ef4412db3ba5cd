"""Throughput: several sessions of an artifact answer at the same time, in windows that take turns with the others'."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fqbench.errors import InputError
from fqbench.latency.interval import Interval, divide
from fqbench.latency.modes import Throughput

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fqbench.plugins import Session

NANOSECONDS_A_SECOND = 1e9
WINDOWS = 10
WARMUPS = 3


def measure_throughput(
    loaders: Sequence[Callable[[], Session]],
    images: NDArray[np.float32],
    *,
    batch: int,
    sessions: int,
    seconds: float,
    seed: int = 0,
    confidence: float = 0.95,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> list[Throughput]:
    """Measure images a second of several sessions at a time, for each of some artifacts.

    Each artifact is loaded ``sessions`` times. In a window all sessions of one artifact answer batches until its time
    is over; windows of all artifacts take turns in random order, so that drift of the machine hits all alike. A window
    lasts until its last call is answered, so no call is cut off.

    Parameters
    ----------
    loaders : sequence of callable
        Load a session, once per call.
    images : ndarray of float32, shape (K, 3, H, W)
        Prepared inputs.
    batch : int
        Images a call.
    sessions : int
        How many at a time.
    seconds : float
        Of all windows of one artifact together.
    seed : int
        Of the order and the bootstrap.
    confidence : float
        Of the interval.
    clock : callable
        Returns nanoseconds.

    Raises
    ------
    InputError
        No session, or fewer images than one batch.
    """
    if sessions < 1 or not 1 <= batch <= len(images):
        raise InputError(f"{sessions} session(s) of batch {batch} cannot be fed from {len(images)} image(s).")
    inputs = [images[start : start + batch] for start in range(0, len(images) - batch + 1, batch)]
    generator = np.random.default_rng(seed)
    loaded = [[load() for _ in range(sessions)] for load in loaders]
    for group in loaded:
        for session in group:
            for number in range(WARMUPS):
                session.run(inputs[number % len(inputs)])
    windows: list[list[tuple[int, int]]] = [[] for _ in loaded]
    calls: list[list[int]] = [[] for _ in loaded]
    for _ in range(WINDOWS):
        for index in generator.permutation(len(loaded)):
            found, elapsed = _window(loaded[index], inputs, seconds / WINDOWS, clock)
            calls[index] += found
            windows[index].append((len(found) * batch, elapsed))
    return [
        Throughput(sessions, _rate(own, confidence, seed), tuple(own), tuple(times))
        for own, times in zip(windows, calls, strict=True)
    ]


def _window(
    sessions: Sequence[Session], inputs: Sequence[NDArray[np.float32]], seconds: float, clock: Callable[[], int]
) -> tuple[list[int], int]:
    """Let all sessions answer for a while; return the times of their calls, and of the whole window."""
    together = threading.Barrier(len(sessions) + 1)
    times: list[list[int]] = [[] for _ in sessions]
    errors: list[BaseException] = []

    def work(number: int) -> None:
        run, own = sessions[number].run, times[number]
        try:
            together.wait()
            end = clock() + int(seconds * NANOSECONDS_A_SECOND)
            turn = number
            while True:
                start = clock()
                run(inputs[turn % len(inputs)])
                stop = clock()
                own.append(stop - start)
                turn += 1
                if stop >= end:
                    return
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(len(sessions))]
    for thread in threads:
        thread.start()
    together.wait()
    begin = clock()
    for thread in threads:
        thread.join()
    elapsed = clock() - begin
    if errors:
        raise errors[0]
    return [each for own in times for each in own], elapsed


def _rate(windows: Sequence[tuple[int, int]], confidence: float, seed: int, replicates: int = 2000) -> Interval:
    r"""Images over time of all windows, :math:`\sum_w n_w / \sum_w t_w`, with a bootstrap over windows."""
    counts, times = np.array(windows, dtype=np.float64).T
    drawn = np.random.default_rng(seed).integers(len(counts), size=(replicates, len(counts)))
    rates = counts[drawn].sum(axis=1) / times[drawn].sum(axis=1) * NANOSECONDS_A_SECOND
    tail = (1 - confidence) / 2
    low, high = np.quantile(rates, [tail, 1 - tail])
    return Interval(divide(float(counts.sum()) * NANOSECONDS_A_SECOND, float(times.sum())), float(low), float(high))
