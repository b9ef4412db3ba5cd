"""Objectives in the training stage: groups that are needed, ids that stay, and options in the id."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from fqbench.errors import InputError
from fqbench.run import Run
from fqbench.stages.train import features_for, train

pytest.importorskip("torch")

MakeRun = Callable[..., Run]
NETWORK = {"onnx": None, "mean": None, "std": None, "model": "test_resnet", "size": 32, "epochs": 1, "batch_size": 16}


def test_a_group_objective_needs_sensitive_features() -> None:
    nobody = SimpleNamespace(features=lambda by: ())
    assert features_for(nobody, None, "erm", "--objective") == ()  # type: ignore[arg-type]
    with pytest.raises(
        InputError, match="--objective group-dro needs groups, but these data have no sensitive feature"
    ):
        features_for(nobody, None, "group-dro", "--objective")  # type: ignore[arg-type]


def test_only_own_options_make_another_checkpoint(make_run: MakeRun) -> None:
    plain = train(make_run(**NETWORK))
    assert plain.manifest.determined_by["options"]["objective"] == "erm"
    assert "objective_options" not in plain.manifest.determined_by["options"]
    one = train(make_run(**NETWORK, objective="worst-group", worst_share=0.4))
    other = train(make_run(**NETWORK, objective="worst-group", worst_share=0.6))
    same = train(
        make_run(**NETWORK, objective="worst-group", worst_share=0.6, qat_objective="group-dro", group_step=1.0)
    )
    assert len({plain.id, one.id, other.id}) == 3
    assert same.id == other.id
    assert one.facts.training is not None
    assert set(one.facts.training.objective["averages"]) == {"dark×old", "dark×young", "light×old", "light×young"}
