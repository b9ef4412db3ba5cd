"""Variations of an experiment: validated, sharing what was opened, never pickled along."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest

from fqbench.errors import InputError
from fqbench.run import Run
from fqbench.stages.export import export
from fqbench.stages.prepare import prepare
from fqbench.stages.read import read

MakeRun = Callable[..., Run]


@pytest.mark.parametrize(
    ("section", "options", "flag"),
    [("quantize", {"bits": 5}, "--bits"), ("quantize", {"bitz": 4}, "bitz"), ("eval", {"confidence": 2.0}, "--conf")],
)
def test_a_variation_is_validated(make_run: MakeRun, section: str, options: dict[str, object], flag: str) -> None:
    with pytest.raises(InputError, match=flag):
        make_run().with_options(section, **options)


def test_samples_and_stores_stay_open_across_variations(make_run: MakeRun) -> None:
    run = make_run()
    other = run.with_options("quantize", bits=4).with_options("eval", by=("tone",))
    assert read(other) is read(run)
    preprocessing = export(run).preprocessing
    assert prepare(other, preprocessing) is prepare(run, preprocessing)


def test_other_data_are_read_again(make_run: MakeRun) -> None:
    run = make_run()
    assert read(run.with_options("data", seed=7)) is not read(run)


def test_a_pickled_run_carries_nothing_that_was_opened(make_run: MakeRun) -> None:
    run = make_run()
    prepare(run, export(run).preprocessing)
    text = pickle.dumps(run)
    assert len(text) < 6000
    again = pickle.loads(text)  # noqa: S301 - made above
    assert again.config == run.config
    assert again.workspace.root == run.workspace.root
    assert not again.memory
