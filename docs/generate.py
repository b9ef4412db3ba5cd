"""Write the generated parts of the documentation, or check that they are up to date.

Usage: python docs/generate.py [--check]
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "docs" / "cli.md", ROOT / "docs" / "study.md", ROOT / "README.md")
BLOCK = re.compile(r"(<!-- generated: (?P<what>[a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def help_texts() -> str:
    """Return every verb's ``--help-all``, as a user sees it on a terminal of 100 columns."""
    os.environ.update({"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1"})
    from fqbench.cli import app
    from fqbench.cli.help import COMPLETE

    def walk(command: object, path: tuple[str, ...]) -> list[str]:
        context = command.context_class(command, info_name=" ".join(path), terminal_width=100, max_content_width=100)  # type: ignore[attr-defined]
        context.meta[COMPLETE] = True
        text = f"## `{' '.join(path)}`\n\n```text\n{command.get_help(context).rstrip()}\n```\n"  # type: ignore[attr-defined]
        children = getattr(command, "commands", {})
        return [text, *(part for name, child in children.items() for part in walk(child, (*path, name)))]

    return "\n".join(walk(app, ("fqbench",)))


def support_table() -> str:
    """Return the table of runtimes and bits, from what each installed backend says it supports."""
    from fqbench import plugins
    from fqbench.contracts.scheme import Method, Scheme

    schemes = {
        "FP32": Scheme.float32(),
        "bf16": Scheme.cast("bf16"),
        "fp16": Scheme.cast("fp16"),
        **{f"{bits} bits, static": Scheme(bits=bits) for bits in (8, 4, 2)},
        "8 bits, dynamic": Scheme(method=Method.PTQ_DYNAMIC, range_rule="none"),
        "8 bits, QAT": Scheme(method=Method.QAT),
    }
    lines = ["| backend | " + " | ".join(schemes) + " |", "|---" * (len(schemes) + 1) + "|"]
    for name in plugins.installed(plugins.BACKENDS):
        levels = [plugins.backend(name).supports(scheme).level.value for scheme in schemes.values()]
        lines.append(f"| {name} | " + " | ".join(levels) + " |")
    return "\n".join(lines) + "\n"


def study_columns() -> str:
    """Return the columns of a study's table."""
    from fqbench.study.table import COLUMNS

    lines = ["| column | type | meaning |", "|---|---|---|"]
    lines += [f"| `{name}` | {column.dtype} | {column.meaning} |" for name, column in COLUMNS.items()]
    return "\n".join(lines) + "\n"


GENERATORS = {"cli-help": help_texts, "support-table": support_table, "study-columns": study_columns}


def main() -> int:
    """Return 1 if a page is out of date and only a check was asked for."""
    check, stale = "--check" in sys.argv[1:], 0
    for page in PAGES:
        old = page.read_text(encoding="utf-8")
        new = BLOCK.sub(lambda match: match[1] + "\n" + GENERATORS[match["what"]]() + "\n" + match[3], old)
        if new == old:
            continue
        if check:
            sys.stdout.writelines(
                difflib.unified_diff(old.splitlines(True), new.splitlines(True), str(page), "generated")
            )
            stale += 1
        else:
            page.write_text(new, encoding="utf-8")
    if stale:
        sys.stdout.write("\nthe documentation is out of date; run: make docs\n")
    return min(stale, 1)


if __name__ == "__main__":
    sys.exit(main())
