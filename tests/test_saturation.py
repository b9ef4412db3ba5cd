"""16-bit sums that saturate: who has them, what they do to 8-bit weights, and that 7-bit weights are safe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from fqbench import plugins
from fqbench.contracts.artifacts import Artifact
from fqbench.contracts.numerics import Numerics
from fqbench.contracts.runtime import Level
from fqbench.contracts.scheme import Override, Scheme
from fqbench.errors import InputError
from fqbench.machine import IntegerSums, Machine, this_machine
from fqbench.predictions import ArtifactPredictions
from fqbench.quant.plan import make_plan
from fqbench.report.health import health_document
from fqbench.run import Run
from fqbench.stages import saturation
from fqbench.stages.saturation import require_one_kind_of_sums, seven_bits_may_help, sums_of
from fqbench.testing.tiny_model import calibration_set, tiny_model

SEVEN_BITS = st.integers(-63, 63)
BYTES = st.integers(0, 255)
HEAD_AT_8 = Scheme(bits=4, overrides=(Override(role="head", bits=8),))


def saturating_sum(activations: NDArray[np.int64], weights: NDArray[np.int64]) -> int:
    """``vpmaddubsw`` and ``vpaddd``: products of neighbours are added up in 16 bits, with saturation, then in 32."""
    products = (activations * weights).reshape(-1, 2)
    return int(np.clip(products.sum(axis=1), -(2**15), 2**15 - 1).sum())


def rows(levels: NDArray[np.int8]) -> NDArray[np.int64]:
    """Rows of weights, filled up to an even length."""
    return np.pad(levels.astype(np.int64), ((0, 0), (0, levels.shape[1] % 2)))


@given(st.lists(st.tuples(BYTES, SEVEN_BITS), min_size=2, max_size=40).filter(lambda pairs: len(pairs) % 2 == 0))
def test_seven_bits_never_saturate(pairs: list[tuple[int, int]]) -> None:
    activations, weights = (np.array(side, dtype=np.int64) for side in zip(*pairs, strict=True))
    assert saturating_sum(activations, weights) == int(activations @ weights)


def test_the_plan_of_a_reduced_range_is_safe_where_the_full_one_is_not(tmp_path: Path) -> None:
    model, images = tiny_model(tmp_path), calibration_set()
    full, reduced = (
        make_plan(model, scheme, Numerics.of(scheme), images) for scheme in (Scheme(), Scheme(reduce_range=True))
    )
    broken = 0
    for name, weight in reduced.weights.items():
        assert weight.bits == 8
        assert np.abs(weight.levels).max() <= 63 or weight.levels.min() == -64
        brightest = {key: rows(plan.weights[name].rows) for key, plan in (("full", full), ("reduced", reduced))}
        for row in brightest["reduced"]:
            activations = np.where(row > 0, 255, 0)  # the largest sum that there can be
            assert saturating_sum(activations, row) == int(activations @ row)
        for row in brightest["full"]:
            activations = np.where(row > 0, 255, 0)
            broken += saturating_sum(activations, row) != int(activations @ row)
    assert broken > 0, "8-bit weights saturate for some activations"


@pytest.mark.parametrize(
    ("system", "features", "expected"),
    [
        ("Linux x86_64", ("avx2",), IntegerSums.SATURATING),
        ("Linux x86_64", ("avx2", "avx512f"), IntegerSums.SATURATING),
        ("Linux x86_64", ("avx2", "avx_vnni"), IntegerSums.EXACT),
        ("Linux x86_64", ("avx512f", "avx512_vnni"), IntegerSums.EXACT),
        ("Windows AMD64", (), IntegerSums.UNKNOWN),
        ("Linux aarch64", (), IntegerSums.EXACT),
        ("Darwin arm64", (), IntegerSums.EXACT),
    ],
)
def test_which_cpus_saturate(system: str, features: tuple[str, ...], expected: IntegerSums) -> None:
    machine = Machine("a cpu", 2, features, 2**30, system, "3.11")
    assert machine.integer_sums is expected
    assert sums_of(machine, "cpu", Level.NATIVE) is expected
    assert sums_of(machine, "cuda", Level.NATIVE) is IntegerSums.EXACT
    assert sums_of(machine, "cpu", Level.EMULATED) is IntegerSums.EXACT, "Q/DQ nodes are executed in float"


def answered(scheme: Scheme, sums: IntegerSums, backend: str = "ort") -> ArtifactPredictions:
    artifact = Artifact(backend, scheme, Path(), ("model.onnx",), reduced_range=scheme.reduce_range)
    return cast(ArtifactPredictions, SimpleNamespace(artifact=artifact, entry=SimpleNamespace(facts=Facts(sums))))


class Facts:
    def __init__(self, sums: IntegerSums) -> None:
        self.integer_sums = sums


def test_answers_of_both_kinds_of_cpu_are_not_compared() -> None:
    here, there = IntegerSums.EXACT, IntegerSums.SATURATING
    with pytest.raises(InputError, match="ort int8 was answered by a CPU whose 16-bit sums saturate, and ort int4a8"):
        require_one_kind_of_sums([answered(Scheme(), there), answered(HEAD_AT_8, here)])
    (said,) = require_one_kind_of_sums([answered(Scheme.float32(), here), answered(Scheme(), there)])
    assert "saturate" in said
    assert require_one_kind_of_sums([answered(Scheme(), here), answered(Scheme(reduce_range=True), there)]) == ()
    assert require_one_kind_of_sums([answered(Scheme(), here), answered(Scheme(bits=4), here)]) == ()
    assert require_one_kind_of_sums([answered(Scheme(), there), answered(Scheme(bits=4), here)]) != ()
    assert require_one_kind_of_sums([answered(Scheme(), there), answered(Scheme(), here, backend="trt")]) != ()


def test_doctor_says_it() -> None:
    machine = Machine("old", 2, ("avx2",), 2**30, "Linux x86_64", "3.11")
    health: Any = SimpleNamespace(machine=machine, workspace="w", plugins=(), libraries=(), to_dict=dict)
    texts = [getattr(section, "text", "") for section in health_document(health).sections]
    assert any("saturating" in text and "--reduce-range" in text for text in texts)
    assert this_machine().integer_sums in IntegerSums


def test_the_cpu_does_what_its_features_say() -> None:
    inputs = [helper.make_tensor_value_info("x", TensorProto.UINT8, ["N", 64])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.INT32, ["N", 16])]
    weights = numpy_helper.from_array(np.full((64, 16), 127, dtype=np.int8), "w")
    product = helper.make_node("MatMulInteger", ["x", "w"], ["y"])
    graph = helper.make_graph([product], "sums", inputs, outputs, [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (sums,) = session.run(None, {"x": np.full((4, 64), 255, dtype=np.uint8)})
    found = {64 * 255 * 127: IntegerSums.EXACT, 32 * (2**15 - 1): IntegerSums.SATURATING}
    (value,) = set(sums.flat)
    assert this_machine().integer_sums in {found[value], IntegerSums.UNKNOWN}


OLD = Machine("old", 2, ("avx2",), 2**30, "Linux x86_64", "3.11")
AUTO = Scheme(range_rule="auto")


@pytest.mark.parametrize(
    ("machine", "scheme", "options", "expected"),
    [
        (OLD, AUTO, {}, True),
        (replace(OLD, features=("avx2", "avx_vnni")), AUTO, {}, False),
        (OLD, AUTO, {"reduce_range": False}, False),
        (OLD, AUTO.model_copy(update={"reduce_range": True}), {}, False),
        (OLD, Scheme(), {}, False),
        (OLD, AUTO.model_copy(update={"bits": 4}), {}, False),
        (OLD, HEAD_AT_8.model_copy(update={"range_rule": "auto"}), {}, True),
    ],
    ids=["saturating", "exact", "told not to", "told to", "explicit ranges", "4 bits", "a head of 8 bits"],
)
def test_where_seven_bits_are_tried(
    machine: Machine, scheme: Scheme, options: dict[str, bool], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saturation, "this_machine", lambda: machine)
    run = Run().with_options("quantize", **options)
    assert seven_bits_may_help(run, plugins.backend("ort"), scheme) == expected
