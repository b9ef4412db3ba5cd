"""Throughput of several sessions, energy, and MLPerf's load generator."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fqbench.errors import DataError, InputError, UnavailableError
from fqbench.latency.energy import EnergyMeter, energy_meter, measure_energy
from fqbench.latency.mlperf import logged, read_result, run_loadgen
from fqbench.latency.throughput import measure_throughput
from fqbench.plugins import Arithmetic, SessionBase

IMAGES = np.random.default_rng(0).standard_normal((6, 3, 4, 4)).astype(np.float32)


class Sleeper(SessionBase):
    """Answers after a while, and lets other threads run meanwhile, as a runtime does."""

    arithmetic = Arithmetic(0, 1)

    def __init__(self, seconds: float = 0.004, then: Callable[[], None] = lambda: None) -> None:
        self.seconds, self.then = seconds, then

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        time.sleep(self.seconds)
        self.then()
        return images.mean(axis=(2, 3))


def test_two_sessions_answer_more_than_one_and_every_call_is_kept() -> None:
    one, two = (
        measure_throughput([Sleeper], IMAGES, batch=2, sessions=sessions, seconds=0.3)[0] for sessions in (1, 2)
    )
    assert two.images_per_second.value > 1.5 * one.images_per_second.value
    assert sum(images for images, _ in two.windows) == 2 * len(two.calls_ns)
    assert two.images_per_second.low <= two.images_per_second.value <= two.images_per_second.high
    assert len(two.windows) == 10
    assert all(elapsed >= 0.03e9 for _, elapsed in two.windows), "a window ends after its time, not before"


def test_each_artifact_is_loaded_as_often_as_there_are_sessions() -> None:
    loaded: list[str] = []

    def loader(name: str) -> Callable[[], Sleeper]:
        def load() -> Sleeper:
            loaded.append(name)
            return Sleeper(0.0005)

        return load

    found = measure_throughput([loader("a"), loader("b")], IMAGES, batch=1, sessions=3, seconds=0.05)
    assert loaded == ["a"] * 3 + ["b"] * 3
    assert [one.sessions for one in found] == [3, 3]


def test_an_error_in_a_session_is_raised() -> None:
    calls = iter(range(100))

    def fail_later() -> None:
        if next(calls) > 10:
            raise RuntimeError("the runtime broke")

    with pytest.raises(RuntimeError, match="the runtime broke"):
        measure_throughput([lambda: Sleeper(0.0005, fail_later)], IMAGES, batch=1, sessions=2, seconds=1.0)
    with pytest.raises(InputError, match="cannot be fed from 6 image"):
        measure_throughput([Sleeper], IMAGES, batch=7, sessions=1, seconds=0.1)


class Counters:
    """A package that takes 10 W idle and 2 J for each batch, on a clock of its own."""

    def __init__(self, folder: Path, start: int = 0, span: int = 10**12) -> None:
        self.zone = folder / "intel-rapl:0"
        self.zone.mkdir(parents=True)
        (folder / "intel-rapl:0:0").mkdir()  # a part of the package: not to be counted again
        (self.zone / "max_energy_range_uj").write_text(str(span))
        self.now, self.joules, self.start, self.span = 0.0, 0.0, start, span
        self.write()

    def write(self) -> None:
        (self.zone / "energy_uj").write_text(str((self.start + round(self.joules * 1e6)) % self.span))

    def pass_by(self, seconds: float) -> None:
        self.now += seconds
        self.joules += 10 * seconds
        self.write()

    def answer(self) -> None:
        self.pass_by(0.1)
        self.joules += 2
        self.write()


@pytest.mark.parametrize(("start", "span"), [(0, 10**12), (990_000_000, 1_000_000_000)])
def test_energy_an_image_and_idle_power(start: int, span: int, tmp_path: Path) -> None:
    counters = Counters(tmp_path, start, span)  # the second one overflows while the session answers
    meter = energy_meter(tmp_path)
    assert isinstance(meter, EnergyMeter)
    assert len(meter.zones) == 1
    session = Sleeper(0.0, counters.answer)
    found = measure_energy(
        session, [IMAGES[:2]], seconds=2, meter=meter, clock=lambda: counters.now, sleep=counters.pass_by
    )
    assert found.idle_watts == pytest.approx(10)
    assert found.joules_per_image == pytest.approx((2 + 10 * 0.1) / 2)
    assert found.images == pytest.approx(2 * found.seconds / 0.1)


def test_without_counters_the_reason_is_said(tmp_path: Path) -> None:
    reason = energy_meter(tmp_path / "nowhere")
    assert isinstance(reason, str)
    assert "no energy counters" in reason
    found = measure_energy(Sleeper(), [IMAGES], seconds=2, meter=reason)
    assert (found.joules_per_image, found.reason) == (None, reason)
    (tmp_path / "intel-rapl:0").mkdir()
    unreadable = energy_meter(tmp_path)
    assert isinstance(unreadable, str)
    assert "cannot be read" in unreadable


def test_the_detailed_log_of_the_load_generator_is_read() -> None:
    lines = [
        "noise",
        ':::MLLOG {"key": "loadgen_version", "value": "6.0.17 @ d6147c7eb7"}',
        ':::MLLOG {"key": "result_90.00_percentile_latency_ns", "value": 2143547}',
        ':::MLLOG {"key": "result_validity", "value": "VALID"}',
    ]
    found = read_result("single-stream", logged(lines), "summary")
    assert (found.value, found.unit, found.valid, found.version) == (2.143547, "ms", True, "6.0.17")
    with pytest.raises(DataError, match="wrote no result_samples_per_second for offline; raise --seconds"):
        read_result("offline", logged(lines), "")


@pytest.mark.parametrize("scenario", ["single-stream", "offline"])
def test_the_load_generator_times_the_session(scenario: str) -> None:
    pytest.importorskip("mlperf_loadgen", reason="mlcommons-loadgen is not installed")
    found = run_loadgen(Sleeper(0.004), IMAGES, scenario=scenario, seconds=0.3, batch=2, images_per_second=2 / 0.004)
    assert "MLPerf Results Summary" in found.summary
    if scenario == "offline":
        assert 50 < found.value <= 500, "two images in four milliseconds are 500 a second at most"
    else:
        assert 4 <= found.value < 100


def test_without_the_load_generator_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", None)
    with pytest.raises(UnavailableError, match=r"fqbench\[mlperf\]"):
        run_loadgen(Sleeper(), IMAGES, scenario="offline", seconds=1, images_per_second=1)
