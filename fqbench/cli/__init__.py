"""The command line: one thin function per verb, which parses, calls and prints."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

from fqbench.cli import make, measure, mend  # isort: skip  # the order of the imports is that of the verbs in --help
from fqbench.cli import study, remote, look, recipes, pages  # isort: skip
from fqbench.cli.app import app
from fqbench.errors import FqbenchError
from fqbench.terminal import fail

# Click's base of "no such option", "not an integer" ...; typer carries its own copy of click in some versions.
ClickException: type[Exception] = typer.BadParameter.__bases__[0].__bases__[0]
INTERNAL_ERROR = 70  # EX_SOFTWARE of sysexits.h: a bug in fqbench, none of the codes that a CI job decides on

__all__ = ["app", "look", "main", "make", "measure", "mend", "pages", "recipes", "remote", "study"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; the only place where an error becomes a line on stderr and an exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        sys.exit(app.main(given, prog_name="fqbench", standalone_mode=False) or 0)
    except FqbenchError as error:
        fail(str(error), error, given, error.exit_code)
    except KeyboardInterrupt:
        fail("interrupted; finished stages are kept. Run the same command again to continue.", None, given, 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except ClickException as error:
        error.show()  # type: ignore[attr-defined]
        sys.exit(2)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        fail(
            f"a bug in fqbench: {reason}; please report it with the output of --traceback.",
            error,
            given,
            INTERNAL_ERROR,
        )
