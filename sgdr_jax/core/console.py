"""Progress bars and notes on the terminal, or silence."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any


class NullConsole:
    """Shows nothing; what libraries and tests use."""

    def say(self, text: Any) -> None:
        """Shows a line of text (or anything rich can draw)."""

    @contextlib.contextmanager
    def bar(self, title: str, total: int) -> Iterator[Callable[..., None]]:
        """A progress bar of `total` units while the block runs; the block calls what it gets with the units done since, and a note."""
        yield lambda done, note="": None


class Console(NullConsole):
    """Shows notes and one bar at a time with rich; on a pipe or in a log file only the notes and one line per finished bar."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(stderr=False, highlight=False)

    def say(self, text: Any) -> None:
        """Shows a line of text (or anything rich can draw)."""
        self.console.print(text, soft_wrap=isinstance(text, str))

    @contextlib.contextmanager
    def bar(self, title: str, total: int) -> Iterator[Callable[..., None]]:
        """A progress bar; see `NullConsole.bar`."""
        import time

        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description:<28}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        start = time.perf_counter()
        last = ""
        with Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as progress:
            task = progress.add_task(title, total=total, note="")

            def tick(done: int, note: str = "") -> None:
                nonlocal last
                last = note
                progress.update(task, advance=done, note=note)

            yield tick
        self.console.print(f"  {title:<28} {time.perf_counter() - start:6.1f} s  {last}", markup=False)
