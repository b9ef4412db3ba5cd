"""Times of kernels: medians of the last runs, under the name of the operator that is executed."""

from __future__ import annotations

from typing import Any

import pytest
from fqbench.backends.ort.layer_times import times_of


def event(name: str, microseconds: int) -> dict[str, Any]:
    return {"cat": "Node", "name": name, "dur": microseconds}


def test_times_are_medians_of_the_last_runs_by_operator() -> None:
    events = [
        event("stem/Conv_token_1_kernel_time", 9000),  # a run that warms up
        event("stem/Conv_token_1_fence_before", 5),
        {"cat": "Session", "name": "model_run_kernel_time", "dur": 7},
    ]
    for conv, add in ((100, 10), (300, 30), (200, 20)):
        events += [event("stem/Conv_token_1_kernel_time", conv), event("block/Add_kernel_time", add)]
    assert times_of(events, runs=3) == pytest.approx({"stem/Conv": 0.2, "block/Add": 0.02})


def test_kernels_of_one_operator_are_summed() -> None:
    events = [event("head/Gemm_kernel_time", 40), event("head/Gemm_nchwc_kernel_time", 2)]
    assert times_of(events, runs=1) == pytest.approx({"head/Gemm": 0.042})
