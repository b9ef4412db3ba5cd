"""YAML as a user writes it: the words and numbers of YAML 1.2, and no key twice.

PyYAML follows YAML 1.1, where ``no`` and ``off`` are false, ``1e-3`` is text, ``1:30`` is 90, and the last of two equal
keys wins without a word. Classes are called ``no``, options take ``off``, and a limit that is set twice is a mistake.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from fqbench.errors import InputError

LARGEST = 100_000  # values in a file, those behind every use of an anchor counted again
TAG = "tag:yaml.org,2002:"
WORDS = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?(?:0|[1-9][0-9_]*)|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (
        r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
}
DROPPED = {f"{TAG}{word}" for word in (*WORDS, "timestamp")}


def read_yaml(file: Path, what: str, flag: str) -> Any:
    """Read a YAML file that the user named with ``flag``; ``what`` names it in errors.

    Raises
    ------
    InputError
        It cannot be read, or is not YAML.
    """
    try:
        return parse_yaml(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{what} {file} cannot be read ({error.strerror}); check {flag}.") from error
    except ValueError as error:  # UnicodeDecodeError is one, too
        raise InputError(f"{what} {file} is not YAML ({error}); mend the file.") from error


def read_mapping(file: Path, what: str, flag: str, otherwise: str) -> dict[Any, Any]:
    """Read a YAML file that holds a mapping; ``otherwise`` ends the sentence about one that does not.

    Raises
    ------
    InputError
        It cannot be read, is not YAML, or is empty or something else.
    """
    values = read_yaml(file, what, flag)
    if not isinstance(values, dict):
        raise InputError(f"{what} {file} {otherwise}")
    return values


def parse_yaml(text: str) -> Any:
    """Return the values of a YAML text.

    Raises
    ------
    ValueError
        It is not YAML, has a key twice, or its anchors make it too large; the message says where.
    """
    import yaml

    try:
        values = yaml.load(text, Loader=_loader())  # noqa: S506 - derived from SafeLoader
        if _size(values, {}) > LARGEST:
            raise ValueError(f"it has more than {LARGEST:,} values")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" in line {mark.line + 1}" if mark is not None else ""
        raise ValueError(f"{error.problem or error.context}{place}") from error
    except yaml.YAMLError as error:
        raise ValueError(str(error).splitlines()[0]) from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return values


@cache
def _loader() -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """Refuses a key that stands twice in one mapping."""

        def compose_mapping_node(self, anchor: Any) -> Any:
            node = super().compose_mapping_node(anchor)
            seen: set[tuple[str, str]] = set()
            for key, _value in node.value:
                name = (key.tag, str(key.value))
                if name in seen and key.tag != f"{TAG}merge":
                    raise yaml.MarkedYAMLError(
                        problem=f"the key {key.value!r} stands there twice", problem_mark=key.start_mark
                    )
                seen.add(name)
            return node

    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in known if tag not in DROPPED]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for word, (pattern, firsts) in WORDS.items():
        Loader.add_implicit_resolver(f"{TAG}{word}", re.compile(rf"^(?:{pattern})$"), list(firsts))
    return Loader


def _size(value: Any, known: dict[int, int]) -> int:
    """Return how many values there are if every use of an anchor is written out.

    Raises
    ------
    ValueError
        A value contains itself.
    """
    if not isinstance(value, dict | list):
        return 1
    if id(value) in known:
        if known[id(value)] == 0:
            raise ValueError("an anchor contains itself")
        return known[id(value)]
    known[id(value)] = 0
    parts = value.values() if isinstance(value, dict) else value
    known[id(value)] = 1 + sum(_size(part, known) for part in parts)
    return known[id(value)]
