"""The conditions of a measurement are read where they can be, and None where not."""

from __future__ import annotations

import json
import time
from pathlib import Path

import psutil
import pytest

from fqbench.latency import conditions as module
from fqbench.latency.conditions import conditions, timer_step


def test_conditions_of_this_machine_are_json() -> None:
    found = conditions(time.perf_counter_ns)
    assert found.timer == "perf_counter_ns"
    assert 0 < found.timer_step < 1e6
    assert json.loads(json.dumps(found.to_dict())) == found.to_dict()


def test_governors_of_the_allowed_cores_are_named_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for core, governor in enumerate(["performance", "powersave", "performance"]):
        folder = tmp_path / f"cpu{core}" / "cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_governor").write_text(governor + "\n")
    monkeypatch.setattr(module, "CPUFREQ", tmp_path)
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda _pid: {0, 2}, raising=False)
    assert conditions(time.perf_counter_ns).governor == ("performance",)
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda _pid: {0, 1, 2}, raising=False)
    found = conditions(time.perf_counter_ns)
    assert found.governor == ("performance", "powersave")
    assert found.affinity == (0, 1, 2)


def test_machine_that_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*, percpu: bool) -> None:
        raise NotImplementedError

    monkeypatch.setattr(module, "CPUFREQ", tmp_path)
    monkeypatch.setattr(psutil, "cpu_freq", refuse)
    monkeypatch.delattr(module.os, "getloadavg", raising=False)
    found = conditions(time.perf_counter_ns)
    assert (found.governor, found.frequency_mhz, found.load_average) == (None, None, None)


def test_timer_step_is_the_median_between_two_readings() -> None:
    now = iter(range(0, 10**9, 30))
    assert timer_step(lambda: next(now)) == 30
