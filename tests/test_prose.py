"""Phrases that read like a translation stay out of messages, docstrings and docs."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PLACES = ("README.md", "fqbench", "backends", "calib", "docs", "CHANGELOG.md", "CONTRIBUTING.md")
BANNED = re.compile(
    r"\banew\b|\btold from\b|\bwhom\b|\bbeside (?!=|\||:)|(?<!there )(?<!There )\bis no (?!longer\b)|"
    r"\bone (?:row|line|column|range|scale|module|test case) an? \w|\ba defect of\b"
)


def texts() -> Iterator[tuple[str, str]]:
    for place in PLACES:
        path = ROOT / place
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.suffix in {".py", ".md"}:
                yield file.relative_to(ROOT).as_posix(), file.read_text(encoding="utf-8")


def findings(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if BANNED.search(line)]


def test_no_translated_phrases() -> None:
    found = {name: lines for name, text in texts() if (lines := findings(text))}
    assert not found, f"say it in plain words (with, next to, again, is not a, per): {found}"


@pytest.mark.parametrize(
    "text",
    [
        "written anew",
        "no change is told from 0",
        "groups whom it fails",
        "a file beside the model",
        "x is no file",
        "one row an image",
    ],
)
def test_finds(text: str) -> None:
    assert findings(text)


@pytest.mark.parametrize(
    "text", ["there is no folder", "it is no longer there", "beside = {1}", "beside |= {2}", "one row per image"]
)
def test_leaves_alone(text: str) -> None:
    assert not findings(text)
