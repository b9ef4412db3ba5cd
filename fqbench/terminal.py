"""Where results and progress go: data to stdout, progress and log lines to stderr, plain without a terminal."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
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
    stderr().print(f"error: {line}", style="bold red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(exit_code)


def _console(*, to_stderr: bool) -> Console:
    from rich.console import Console

    watched = (sys.stderr if to_stderr else sys.stdout).isatty()
    known = watched or os.environ.get("COLUMNS", "").isdecimal()
    return Console(stderr=to_stderr, width=None if known else PLAIN_WIDTH)
