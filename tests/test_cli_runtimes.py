"""The command line over several runtimes: quantize, bench and compare, and what each refusal says."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from fqbench.machine import usable_cores
from tests.conftest import Invoke

QUICK = ("--rounds", 5, "--seconds", 0)


@pytest.fixture
def own(photos: Path, classifier: Path) -> tuple[str, ...]:
    data = ("--data", "folder", "--root", str(photos), "--onnx", str(classifier))
    return (*data, "--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25", "--calib-n", "16", "--range-rule", "minmax")


@pytest.mark.slow
def test_openvino_from_quantize_to_one_table_of_all_combinations(invoke: Invoke, own: tuple[str, ...]) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    code, out, err = invoke("quantize", "--backend", "openvino", "--reduce-range", *own)
    assert code == 0, err
    assert out.startswith("artifacts/bright-openvino-int8-7bit")
    code, out, err = invoke(
        "bench", "--backend", "openvino", *own, "--reduce-range", *QUICK, "--batch", "1,2", "--plot", "p.svg", "--json"
    )
    assert code == 0, err
    measured = json.loads(out)["measurements"]
    assert [one["batch"] for one in measured] == [1, 2]
    assert {subject["facts"]["backend"] for one in measured for subject in one["subjects"]} == {"openvino"}
    assert all(len(subject["facts"]["cold_starts"]) == 1 for one in measured for subject in one["subjects"])
    assert len(list(ElementTree.parse("p.svg").getroot().iter("{http://www.w3.org/2000/svg}polyline"))) == 4


@pytest.mark.slow
def test_all_backends_are_compared_and_what_is_refused_is_listed(
    invoke: Invoke, own: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fqbench import plugins

    installed = plugins.finding.installed
    kept = ("ort", "openvino", "trt")
    monkeypatch.setattr(
        plugins, "installed", lambda group: {name: one for name, one in installed(group).items() if name in kept}
    )
    code, out, err = invoke("bench", "--all-backends", *own, *QUICK, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert "trt" in found["left_out"] or any(name.startswith("trt") for name in found["left_out"])
    assert "no fp16 kernels" in found["left_out"]["ort fp16"] or "fp16" not in found["left_out"]["ort fp16"]
    labels = [subject["label"] for subject in found["latency"][0]["subjects"]]
    assert labels[0] == "ort fp32"
    assert any(label.startswith("ort int8") for label in labels)
    assert found["front"], "something is on the front"
    fastest = min(found["latency"][0]["subjects"], key=lambda subject: subject["p50_ms"]["value"])
    assert fastest["id"] in found["front"], "nothing is faster than the fastest"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("bench", "--threads", usable_cores() + 1), 2, "is more than the"),
        (("bench", "--all-backends", "some-id"), 2, "--all-backends makes its own artifacts"),
        (("quantize", "--backend", "ort", "--method", "cast", "--precision", "bf16"), 2, "try --precision fp16"),
        (("quantize", "--reduce-range", "--method", "ptq_dynamic"), 2, "--reduce-range is for --method ptq_static"),
        (("quantize", "--backend", "openvino", "--act-bits", 4), 2, "take 8-bit activations"),
        (("bench", "--device", "cuda"), 3, "CUDAExecutionProvider"),
        (("eval", "--backend", "ort", "--method", "cast", "--precision", "fp16"), 3, "no fp16 kernels here"),
    ],
)
def test_a_refusal_is_one_sentence_and_an_exit_code(
    arguments: tuple[object, ...], code: int, said: str, invoke: Invoke, own: tuple[str, ...]
) -> None:
    found, out, err = invoke(*arguments, *(one for one in own))
    last = err.strip().splitlines()[-1]
    assert (found, out) == (code, ""), err
    assert last.startswith("error: ")
    assert said in err.replace("\n", " ")


def test_a_missing_openvino_is_exit_code_3(
    invoke: Invoke, own: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "openvino", None)
    code, _out, err = invoke("bench", "--backend", "openvino", *own, *QUICK)
    assert code == 3, err
    assert "fqbench[openvino]" in err


def test_a_cpu_without_the_instructions_of_a_cast_is_exit_code_3(
    invoke: Invoke, own: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    from fqbench.backends.openvino import session

    monkeypatch.setattr(session, "float_precisions", lambda _compiled: frozenset({"fp32"}))
    cast = ("--backend", "openvino", "--method", "cast", "--precision", "bf16")
    code, out, err = invoke("bench", *cast, *own, *QUICK)
    assert (code, out) == (3, ""), err
    assert "no bf16 kernels for this CPU" in err.replace("\n", " ")


def test_a_missing_load_generator_is_refused_before_anything_is_measured(
    invoke: Invoke, own: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "mlperf_loadgen", None)
    code, out, err = invoke("bench", "--mlperf", "offline", *own, *QUICK)
    assert (code, out) == (3, ""), err
    assert "fqbench[mlperf]" in err
    assert "warming up" not in err


def test_several_batch_sizes_are_not_for_the_gate(invoke: Invoke, own: tuple[str, ...]) -> None:
    Path("limits.yaml").write_text("limits: {min_speedup: 1.0}\n", encoding="utf-8")
    code, _out, err = invoke("gate", "--limits", "limits.yaml", "--batch", "1,2", *own, *QUICK)
    assert code == 2
    assert "one batch size and one number of threads" in err.replace("\n", " ")
