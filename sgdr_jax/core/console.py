"""Progress bars and notes on the terminal."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Generator
from typing import IO, TYPE_CHECKING, Any, Protocol

from .text import lines, one_line

if TYPE_CHECKING:
    import rich.console
    import rich.table

_WIDE = 10_000
"""Columns of what is no terminal: a log or a pipe has lines of any length."""
_NAME = 12
"""Columns that a name may be folded to."""


class Tick(Protocol):
    """Advances a progress bar."""

    def __call__(self, done: int, note: str = "") -> None:
        """Advance by `done` units and show a note."""


class NullConsole:
    """Console that shows nothing, for libraries and tests."""

    def say(self, text: object) -> None:
        """Show a line of text, or anything that rich can render."""

    @contextlib.contextmanager
    def bar(self, title: str, total: int) -> Generator[Tick]:
        """Show a progress bar of `total` units while the block runs; the block calls the value with units done and a note."""

        def tick(done: int, note: str = "") -> None:
            pass

        yield tick


def plain_console(file: IO[str] | None = None) -> rich.console.Console:
    """Return a rich console that prints text literally, in tables too: no markup, no control characters.

    Lines have the width of the terminal, or any length where stdout is none. When the reader of a pipe ends, the console goes quiet.
    """
    from rich.console import Console
    from rich.text import Text

    class Plain(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(lines(text), **options)

        def on_broken_pipe(self) -> None:
            self.quiet = True
            silence(self.file)

    limited = "COLUMNS" in os.environ or (sys.stdout is not None and sys.stdout.isatty())
    # In a notebook rich would show there what is meant for the file.
    jupyter = None if file is None else False
    return Plain(file=file, force_jupyter=jupyter, highlight=False, markup=False, emoji=False, width=None if limited else _WIDE)


def show(console: rich.console.Console, part: object) -> None:
    """Print a line of text, or anything that rich can render. In a table that is too wide names fold, but figures stay whole."""
    from rich.table import Table

    if isinstance(part, Table):
        _fit(console, part)
    console.print(part, soft_wrap=isinstance(part, str), crop=False)


def _fit(console: rich.console.Console, table: rich.table.Table) -> None:
    """Give each column of a table its least width: of its figures, which are aligned to the right, or of a part of its names."""
    for column in table.columns:
        header, widest = console.measure(column.header), max((console.measure(cell).maximum for cell in column.cells), default=0)
        if column.no_wrap or column.justify == "right":
            least = max(widest, header.maximum if column.no_wrap else header.minimum)
        else:
            least, column.overflow = min(max(widest, header.minimum), _NAME), "fold"
        column.min_width = max(least, column.min_width or 0)


def write_text(stream: IO[str] | None, text: str) -> None:
    """Write text to stdout or stderr at once. When the reader of a pipe has ended, what follows goes nowhere, and the work goes on.

    Without a stream, as after `>&-`, nothing is written.
    """
    if stream is None:
        return
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        silence(stream)


def silence(stream: IO[str]) -> None:
    """Discard what is written to a stream from now on."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


class Console(NullConsole):
    """Console that shows notes and one bar at a time with rich; on a pipe or in a log file, notes and a line per finished bar."""

    def __init__(self) -> None:
        self.console = plain_console()

    def say(self, text: object) -> None:
        """Show a line of text, or anything that rich can render."""
        show(self.console, text)

    @contextlib.contextmanager
    def bar(self, title: str, total: int) -> Generator[Tick]:
        """Show a progress bar; see `NullConsole.bar`."""
        import time

        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description:<28}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        start = time.perf_counter()
        last = ""
        with Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as progress:
            task = progress.add_task(one_line(title), total=total, note="")

            def tick(done: int, note: str = "") -> None:
                nonlocal last
                last = note
                progress.update(task, advance=done, note=one_line(note))

            yield tick
        self.console.print(f"  {title:<28} {time.perf_counter() - start:6.1f} s  {last}")
