"""What ``--help`` shows: short lines at any width, this verb's own options first, everything with ``--help-all``."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from fqbench.cli import app, main
from fqbench.cli.verbs import Verb, Verbs
from fqbench.config import options


def verbs(group: Verbs, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Verb]:
    found = {}
    for name, entry in group.verbs.entries.items():
        found |= verbs(entry, (*path, name)) if isinstance(entry, Verbs) else {(*path, name): entry}
    return found


VERBS = verbs(app)


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> object:
    def call(*arguments: str, columns: int = 80) -> str:
        monkeypatch.setenv("COLUMNS", str(columns))
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert not stop.value.code
        return capsys.readouterr().out

    return call


def flags_of(text: str) -> set[str]:
    """The flags that a help text explains, one at the start of a line."""
    return set(re.findall(r"^  (--[a-z0-9-]+)", text, re.MULTILINE))


@pytest.mark.parametrize("path", VERBS, ids=" ".join)
def test_help_explains_the_verbs_own_options_and_names_the_other_sections(path: tuple[str, ...], printed) -> None:  # type: ignore[no-untyped-def]
    verb, text = VERBS[path], printed(*path, "--help")
    taken = [option for option in options().values() if option.name not in verb.without]
    own = {option.spelled for option in taken if option.section in verb.own}
    more = {option.spelled for option in taken if option.section in verb.more}
    assert own <= flags_of(text)
    assert not more & flags_of(text)
    assert ("More options, explained by --help-all" in text) == bool(verb.more)
    assert {"--help", "--help-all", "--traceback"} <= flags_of(text)


@pytest.mark.parametrize("path", VERBS, ids=" ".join)
def test_help_all_explains_every_option(path: tuple[str, ...], printed) -> None:  # type: ignore[no-untyped-def]
    verb, text = VERBS[path], printed(*path, "--help-all")
    taken = [option for option in options().values() if option.name not in verb.without]
    wanted = {option.spelled for option in taken if option.section in (*verb.own, *verb.more)}
    own = {flag: parameter.hidden for parameter in verb.command.params for flag in parameter.opts if flag[:2] == "--"}
    assert wanted | {flag for flag, hidden in own.items() if not hidden} <= flags_of(text)
    assert all(flag in text for flag, hidden in own.items() if hidden), "short forms are named by --format"
    assert "More options" not in text


@pytest.mark.parametrize("columns", [80, 100])
def test_help_keeps_to_the_width_and_folds_a_section_into_one_line(columns: int, printed) -> None:  # type: ignore[no-untyped-def]
    for path, verb in VERBS.items():
        text = printed(*path, "--help", columns=columns)
        assert max(map(len, text.splitlines())) <= columns
        assert text.count("\n") <= 90, path
        folded = text.partition("More options, explained by --help-all:\n")[2].partition("\n\n")[0].splitlines()
        assert len(folded) == len(verb.more), path


def test_every_verb_fits_on_one_line_of_the_overview(printed) -> None:  # type: ignore[no-untyped-def]
    text = printed("--help")
    for path, verb in VERBS.items():
        assert len(path) == 2 or re.search(rf"^  {path[0]} +{re.escape(verb.summary)}$", text, re.MULTILINE), path
    for heading in ("Make:", "Measure:", "Run on another machine:", "Inspect:"):
        assert heading in text


def test_the_overview_imports_no_library_that_only_a_verb_needs() -> None:
    code = (
        "import sys\n"
        "from fqbench.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as stop: assert not stop.code\n"
        "print(sorted({'pydantic', 'rich', 'yaml', 'numpy', 'pandas', 'torch', 'onnxruntime'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_misspelt_verb_is_suggested(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["quantise"])
    assert stop.value.code == 2
    assert "'quantize'" in capsys.readouterr().err
