"""Progress bars and notes on the terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import IO, TYPE_CHECKING, Any, Protocol

from .text import lines, one_line

if TYPE_CHECKING:
    import rich.console


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
    """Return a rich console that prints text literally, in tables too: no markup, no control characters."""
    from rich.console import Console
    from rich.text import Text

    class Plain(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(lines(text), **options)

    # In a notebook rich would show there what is meant for the file.
    return Plain(file=file, force_jupyter=None if file is None else False, highlight=False, markup=False, emoji=False)


class Console(NullConsole):
    """Console that shows notes and one bar at a time with rich; on a pipe or in a log file, notes and a line per finished bar."""

    def __init__(self) -> None:
        self.console = plain_console()

    def say(self, text: object) -> None:
        """Show a line of text, or anything that rich can render."""
        self.console.print(text, soft_wrap=isinstance(text, str))

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
