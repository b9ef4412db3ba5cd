"""The command line: one thin function per verb, which parses, calls and prints."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import typer

from fqbench.cli import make, measure, mend  # isort: skip  # the order of the imports is that of the verbs in --help
from fqbench.cli import study, remote, look, recipes, pages  # isort: skip
from fqbench.cli.app import app
from fqbench.errors import FqbenchError
from fqbench.terminal import fail, ready_streams

# Click's base of "no such option", "not an integer" ...; typer carries its own copy of click in some versions.
ClickException: type[Exception] = typer.BadParameter.__bases__[0].__bases__[0]
# What a machine refuses, whoever asks: permissions, disks, names and numbers of files.
REFUSED = frozenset(
    {
        *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO),
        *(errno.ENAMETOOLONG, errno.ELOOP, errno.EMFILE, errno.ENFILE),
    }
)
INTERRUPTED = 130  # 128 and the number of SIGINT, as shells have it
KEPT = "interrupted; finished stages are kept. Run the same command again to continue."
INTERNAL_ERROR = 70  # EX_SOFTWARE of sysexits.h: a bug in fqbench, none of the codes that a CI job decides on

__all__ = ["app", "look", "main", "make", "measure", "mend", "pages", "recipes", "remote", "study"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; the only place where an error becomes a line on stderr and an exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    ready_streams()
    try:
        code = app.main(given, prog_name="fqbench", standalone_mode=False) or 0
        if code == INTERRUPTED:  # which typer makes of KeyboardInterrupt
            raise KeyboardInterrupt
        sys.stdout.flush()  # a full disk or a closed pipe is found here, not while Python ends
        sys.exit(code)
    except FqbenchError as error:
        fail(str(error), error, given, error.exit_code)
    except KeyboardInterrupt:
        fail(KEPT, None, given, INTERRUPTED)
    except BrokenPipeError:
        _reader_left()
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):  # click ends with 1, which says that a gate failed
            _reader_left()
        raise
    except ClickException as error:
        error.show()  # type: ignore[attr-defined]
        sys.exit(2)
    except Exception as error:
        if _was_interrupted(error):
            fail(KEPT, None, given, INTERRUPTED)
        text, code = _unforeseen(error)
        fail(text, error, given, code)


def _reader_left() -> NoReturn:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(141)


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether an interruption lies behind an error; of one inside a serializer, pydantic keeps the text only."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt) or KeyboardInterrupt.__name__ in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _is_nowhere() -> bool:
    """Whether the folder that this process was started in has been removed."""
    try:
        os.getcwd()  # noqa: PTH109 - there may be no path
    except FileNotFoundError:
        return True
    return False


def _unforeseen(error: Exception) -> tuple[str, int]:
    """Return the sentence and the exit code of an error that no stage foresaw: the machine's refusal, or a bug."""
    if isinstance(error, OSError) and error.errno in REFUSED:
        what = error.filename or "the output"
        long = error.errno == errno.ENAMETOOLONG
        step = "give a shorter name" if long else "check its permissions and the disk, or name another"
        return f"{what} cannot be read or written ({error.strerror}); {step}.", FqbenchError.exit_code
    if isinstance(error, FileNotFoundError) and _is_nowhere():
        return "the current folder does not exist any more; change into another one with cd.", FqbenchError.exit_code
    reason = f"{type(error).__name__}: {error}"
    return f"a bug in fqbench: {reason}; please report it with the output of --traceback.", INTERNAL_ERROR
