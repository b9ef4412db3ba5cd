"""Where results and progress go: data to stdout, progress and log lines to stderr, plain without a terminal."""

from __future__ import annotations

import io
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from rich.console import Console

PLAIN_WIDTH = 140  # where nobody says how wide a line may be, tables are seldom split


QUIET_SECONDS = 10.0  # where there is no terminal, progress is a line now and then


class TerminalReporter:
    """Reports on stderr: a progress bar on a terminal, plain lines otherwise."""

    def __init__(self) -> None:
        self.start = time.monotonic()

    def say(self, line: str) -> None:
        """Print one line, with the seconds since the start."""
        stderr().print(f"[{time.monotonic() - self.start:6.1f} s] {line}", style="dim", markup=False, highlight=False)

    @contextmanager
    def track(self, what: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        """Show a bar with a rate, or a line every ten seconds."""
        console = stderr()
        if console.is_terminal:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
            )
            with Progress(*columns, console=console, transient=True) as progress:
                task = progress.add_task(what, total=total, rate="")
                begun = time.monotonic()

                def advance(done: int) -> None:
                    completed = progress.tasks[0].completed + done
                    rate = completed / max(time.monotonic() - begun, 1e-9)
                    progress.update(task, advance=done, rate=f"{rate:,.0f} {unit}/s")

                yield advance
            return
        yield self._lines(what, total, unit)

    def _lines(self, what: str, total: int, unit: str) -> Callable[[int], None]:
        begun = told = time.monotonic()
        completed = 0

        def advance(done: int) -> None:
            nonlocal completed, told
            completed += done
            now = time.monotonic()
            if now - told >= QUIET_SECONDS:
                told = now
                self.say(f"{what}: {completed}/{total} {unit}, {completed / (now - begun):,.0f} {unit}/s")

        return advance


@cache
def stdout() -> Console:
    """Return the console for data."""
    return _console(to_stderr=False)


@cache
def stderr() -> Console:
    """Return the console for progress and errors."""
    return _console(to_stderr=True)


def fail(text: str, error: BaseException | None, arguments: Sequence[str], exit_code: int) -> NoReturn:
    """Print an error as one sentence, its traceback only with ``--traceback``, and end the process."""
    if error is not None and "--traceback" in arguments:
        traceback.print_exception(error)
    line = " ".join(text.split())
    with suppress(OSError):  # the exit code counts where nobody can read the sentence
        stderr().print(f"error: {line}", style="bold red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(exit_code)


def ready_streams() -> None:
    """Let stdout and stderr take any text: as UTF-8, whatever the locale says; where one is closed, into nothing."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - until the process ends
        elif isinstance(stream, io.TextIOWrapper) and stream.encoding.lower().replace("-", "") != "utf8":
            stream.reconfigure(encoding="utf-8")


def _console(*, to_stderr: bool) -> Console:
    from rich.console import Console

    class Output(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich would exit with 1, which says that a gate failed

    watched = (sys.stderr if to_stderr else sys.stdout).isatty()
    columns = os.environ.get("COLUMNS", "")
    width = None if watched or columns.isdecimal() else PLAIN_WIDTH
    if columns.isdecimal() and not int(columns):  # as some programs that have no terminal set it
        width = shutil.get_terminal_size((PLAIN_WIDTH, 0)).columns
    return Output(stderr=to_stderr, width=width)
