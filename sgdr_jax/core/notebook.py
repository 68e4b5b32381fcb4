"""Display in notebooks: tables as HTML, progress bars, and results that show themselves. IPython is imported only where it runs."""

# pyright: reportMissingImports=false, reportUnknownVariableType=false
# IPython is there only in notebooks.

from __future__ import annotations

import base64
import contextlib
import html
import inspect
import io
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .console import Console, NullConsole, Tick, plain_console, show

if TYPE_CHECKING:
    from rich.table import Table


def without_private_arguments[T: type](kind: T) -> T:
    """Leave arguments that begin with _ out of the signature that `help` and notebooks show of a class."""
    initialize: Any = kind.__init__
    whole = inspect.signature(initialize)
    initialize.__signature__ = whole.replace(parameters=[p for name, p in whole.parameters.items() if not name.startswith("_")])
    return kind


@dataclass(frozen=True, repr=False)
class Shown[T]:
    """Result of a call, which shows itself as HTML in a notebook and as text elsewhere.

    Example:
        >>> Shown({"accuracy": 0.9}, ("accuracy 0.9",))
        accuracy 0.9
    """

    value: T
    """The result as data."""
    parts: tuple[object, ...]
    """What is shown, in order: lines of text, tables of rich, figures of matplotlib."""

    def __repr__(self) -> str:
        text = io.StringIO()
        console = plain_console(text)
        for part in self.parts:
            show(console, part)
        return text.getvalue().rstrip("\n")

    def _repr_html_(self) -> str:
        return "\n".join(to_html(part) for part in self.parts)


def to_html(part: object) -> str:
    """Return a line of text, a table of rich or a figure as HTML. Texts are shown as they are, never taken for markup.

    Example:
        >>> to_html("<b> of 3")
        '<div>&lt;b&gt; of 3</div>'
    """
    from rich.table import Table

    if isinstance(part, Table):
        return _table(part)
    if picture := getattr(part, "_repr_png_", None):
        return f'<img style="max-width: 48em; width: 100%" src="data:image/png;base64,{base64.b64encode(picture()).decode()}">'
    return f"<div>{html.escape(str(part))}</div>"


def _table(table: Table) -> str:
    columns = table.columns

    def row(kind: str, cells: list[Any]) -> str:
        aligned = zip(columns, cells, strict=True)
        texts = (f'<{kind} style="text-align: {_side(c.justify)}">{html.escape(str(cell))}</{kind}>' for c, cell in aligned)
        return f"<tr>{''.join(texts)}</tr>"

    head = row("th", [column.header for column in columns])
    body = "".join(row("td", list(cells)) for cells in zip(*(column.cells for column in columns), strict=True))
    return f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"


def _side(justify: str) -> str:
    return "right" if justify == "right" else "left"


def in_notebook() -> bool:
    """Return whether a notebook's kernel runs this process."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


def console() -> NullConsole:
    """Return the console that suits this process: of a notebook, or of the terminal."""
    return NotebookConsole() if in_notebook() else Console()


class NotebookConsole(NullConsole):
    """Console of a notebook: lines of text, tables as HTML, and one bar at a time, which becomes a line when it is done."""

    interval = 0.2
    """Least seconds between two updates of a bar."""

    def say(self, text: object) -> None:
        """Show a line of text, a table or a figure."""
        if isinstance(text, str):
            print(text)
        else:
            _display(to_html(text))

    @contextlib.contextmanager
    def bar(self, title: str, total: int) -> Generator[Tick]:
        """Show a progress bar; see `NullConsole.bar`."""
        start = shown = time.perf_counter()
        finished, last = 0, ""
        handle = _display(_bar(title, 0, total, "", 0.0))

        def tick(done: int, note: str = "") -> None:
            nonlocal finished, last, shown
            finished, last, now = finished + done, note, time.perf_counter()
            if now - shown >= self.interval:
                shown = now
                _update(handle, _bar(title, finished, total, note, now - start))

        try:
            yield tick
        finally:
            _update(handle, f"<div>{html.escape(title)}: {time.perf_counter() - start:.1f} s &nbsp; {html.escape(last)}</div>")


def _bar(title: str, done: int, total: int, note: str, seconds: float) -> str:
    left = f"{seconds * (total - done) / done:.0f} s left" if done else ""
    words = f"{title} {done:,}/{total:,} {left} {note}"
    return f'<div><progress value="{done}" max="{max(total, 1)}" style="width: 16em"></progress> {html.escape(words)}</div>'


def _display(markup: str) -> Any:
    """Show HTML, and return the handle that replaces it."""
    from IPython.display import HTML, display

    return display(HTML(markup), display_id=True)


def _update(handle: Any, markup: str) -> None:
    from IPython.display import HTML

    handle.update(HTML(markup))
