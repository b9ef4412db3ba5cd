"""Errors carry the exit code of the command line; hints name the nearest thing."""

from __future__ import annotations

import pytest

from fqbench import errors


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.GateFailed, 1),
        (errors.InputError, 2),
        (errors.SchemeNotSupported, 2),
        (errors.WorkspaceError, 2),
        (errors.PluginError, 2),
        (errors.UnavailableError, 3),
        (errors.DataError, 4),
    ],
)
def test_exit_codes_are_those_of_the_design(kind: type[errors.FqbenchError], code: int) -> None:
    assert issubclass(kind, errors.FqbenchError)
    assert kind.exit_code == code


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("resnet5", ["vit_small", "resnet50"], "did you mean 'resnet50'?"),
        ("zzz", ["b", "a"], "choose one of: a, b."),
        ("zzz", [], "none is installed."),
    ],
)
def test_did_you_mean(name: str, known: list[str], hint: str) -> None:
    assert errors.did_you_mean(name, known) == hint


def test_hint_does_not_depend_on_the_order_of_the_names() -> None:
    assert errors.did_you_mean("ab", ["abx", "aby"]) == errors.did_you_mean("ab", ["aby", "abx"])
