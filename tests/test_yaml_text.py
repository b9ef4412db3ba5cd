"""YAML as a user writes it: words stay words, keys stand once, and what is wrong is named with its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fqbench.config import configure, read_yaml
from fqbench.config.yaml_text import parse_yaml
from fqbench.errors import InputError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("off", "off"),
        ("Yes", "Yes"),
        ("true", True),
        ("False", False),
        ("1e-3", 1e-3),
        ("5E+2", 500.0),
        ("-2.5e-1", -0.25),
        (".5", 0.5),
        ("12", 12),
        ("-1_000", -1000),
        ("0x1F", 31),
        ("007", "007"),
        ("1:30", "1:30"),
        ("3-9", "3-9"),
        ("2026-13-45", "2026-13-45"),
        ("2026-11-27", "2026-11-27"),
        ("null", None),
        ("~", None),
        ("{no: 3, off: [4]}", {"no": 3, "off": [4]}),
        ("\ufeffa: 1\r\nb: 2\r\n", {"a": 1, "b": 2}),
        ("a: &x {k: 1}\nb: {<<: *x, k: 2}\n", {"a": {"k": 1}, "b": {"k": 2}}),
        # An anchor that is merged itself before its own turn comes.
        (
            "c: &c {k: 1}\nf: {x: &a {<<: *c, k: 2}}\ns: {<<: *a, k: 3}\n",
            {"c": {"k": 1}, "f": {"x": {"k": 2}}, "s": {"k": 3}},
        ),
    ],
)  # fmt: skip
def test_words_and_numbers(text: str, value: Any) -> None:
    found = parse_yaml(text)
    assert found == value
    assert type(found) is type(value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    )
)
def test_what_is_dumped_comes_back(value: Any) -> None:
    assert parse_yaml(yaml.safe_dump(value)) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "the key 'a' stands there twice in line 3"),
        ("limits: {x: 1, x: 2}", "the key 'x' stands there twice in line 1"),
        ("a:\n\tb: 1\n", "found character .* in line 2"),
        ("a: [1,\nb: }", "in line 2"),
        ("a: *nothing", "undefined alias 'nothing' in line 1"),
        ("a: 1\n---\nb: 2\n", "but found another document in line 2"),
        ("!!python/object:os.system {}", "could not determine a constructor"),
        ("? [a]\n: 1", "unhashable key"),
        ("a: &a [*a]", "an anchor contains itself"),
        ("a: &a {b: *a}", "an anchor contains itself"),
        ("[" * 3000 + "]" * 3000, "nested too deeply"),
        ("a: \x01", "special characters are not allowed"),
        (
            "a: &a [0,0,0,0,0,0,0,0,0,0]\n"
            + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcde", "bcdef", strict=True)),
            "more than 100,000 values",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=rf"the study .*x\.yaml is not YAML \(.*{message}.*\); mend the file"):
        read_yaml(path, "the study", "its path")


def test_options_take_words_and_refuse_truth_values(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("quantize: {bias_correction: off, rescaling: on}\neval: {positive: no, intersect: no}\n")
    config = configure(path)
    assert (config.quantize.bias_correction, config.quantize.rescaling) == ("off", "on")
    assert (config.eval.positive, config.eval.intersect) == ("no", False)
    for text, message in (
        ("quantize: {calib_n: true}", "--calib-n in .*: Input should be a number or a name, not True"),
        ("quantize: {calib_n: yes}", "--calib-n in .*: Input should be a valid integer"),
        ("train: {learning_rate: .inf}", "--learning-rate in .*finite number"),
        ("train: {learning_rate: .nan}", "--learning-rate in .*finite number"),
        ("train: {weight_decay: .inf}", "--weight-decay in .*finite number"),
        ("data: {seed: 99999999999999999999999999}", "--seed|data.seed"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            configure(path)
