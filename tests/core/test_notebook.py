"""What a notebook shows: texts as they are, tables, pictures, and bars that move."""

import builtins
import sys
from html.parser import HTMLParser
from types import ModuleType
from typing import Any

import pytest
from rich.table import Table

from sgdr_jax.core import notebook
from sgdr_jax.core.console import Console
from sgdr_jax.core.notebook import NotebookConsole, Shown, console, in_notebook, to_html
from sgdr_jax.report import style


class Handle:
    def __init__(self, shown: list[str], place: int) -> None:
        self.shown, self.place = shown, place

    def update(self, markup: str) -> None:
        self.shown[self.place] = markup


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the cell shows, by a stand-in for IPython in a kernel."""
    shown: list[str] = []

    def display(markup: str, display_id: bool) -> Handle:
        shown.append(markup)
        return Handle(shown, len(shown) - 1)

    class Shell:
        kernel = object()

    ipython, inner = ModuleType("IPython"), ModuleType("IPython.display")
    ipython.get_ipython = Shell  # type: ignore[attr-defined]
    inner.display, inner.HTML = display, str  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", inner)
    return shown


class Cells(HTMLParser):
    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


NAMES = ("<script>alert(1)</script>", "[red]x[/red]", "=cmd|'/c calc'", "🌷 é", "\u202eabc", "a&b")


def test_texts_are_shown_as_they_are_in_tables_and_lines() -> None:
    table = Table("class")
    table.add_column("images", justify="right")
    for name in NAMES:
        table.add_row(name, "1")
    cells = Cells(to_html(table))
    assert cells.texts == ["class", "images", *(text for name in NAMES for text in (name, "1"))]
    assert set(cells.tags) == {"table", "thead", "tbody", "tr", "th", "td"}
    assert to_html(table).count("text-align: right") == 1 + len(NAMES)
    for name in NAMES:
        assert Cells(to_html(name)).texts == [name] and Cells(to_html(name)).tags == ["div"]
    text = repr(Shown(None, (table, *NAMES)))
    assert all(text.count(name) == 2 for name in NAMES if "\u202e" not in name)


def test_figures_are_pictures() -> None:
    figure = style.figure(1, 1, dpi=20)
    assert Cells(to_html(figure)).tags == ["img"] and "data:image/png;base64,iVBOR" in to_html(figure)


def test_the_console_suits_the_process(shown: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert in_notebook() and isinstance(console(), NotebookConsole)
    monkeypatch.delitem(sys.modules, "IPython")
    assert not in_notebook() and isinstance(console(), Console)


def test_a_bar_moves_and_becomes_a_line(shown: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = [0.0]
    monkeypatch.setattr(notebook.time, "perf_counter", lambda: clock[0])
    ui, seen = NotebookConsole(), []
    with ui.bar("fit <all>", 4) as tick:
        for seconds in (0.1, 1.0, 1.1, 2.0):
            clock[0] = seconds
            tick(1, note="loss 0.5")
            seen.append(shown[0])
    assert [Cells(markup).tags for markup in seen] == [["div", "progress"]] * 4
    assert seen[0] != seen[1] == seen[2] != seen[3]  # no faster than five times a second
    assert 'value="2" max="4"' in seen[1] and Cells(seen[1]).texts[-1].split() == ["fit", "<all>", "2/4", "1", "s", "left", "loss", "0.5"]
    assert Cells(shown[0]).tags == ["div"] and Cells(shown[0]).texts[0].startswith("fit <all>: 2.0 s") and len(shown) == 1
    ui.say("a line")
    ui.say(Table("class"))
    assert capsys.readouterr().out == "a line\n" and "<table>" in shown[1]


def test_a_bar_ends_when_its_block_fails(shown: list[str]) -> None:
    with pytest.raises(KeyboardInterrupt), NotebookConsole().bar("fit", 4):
        raise KeyboardInterrupt
    assert "progress" not in shown[0]


def test_the_text_of_a_result_is_text_in_a_notebook_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rich shows in the notebook itself, and writes nothing, what is printed to a file there."""

    class ZMQInteractiveShell:
        pass

    monkeypatch.setattr(builtins, "get_ipython", ZMQInteractiveShell, raising=False)
    text = repr(Shown(None, ("three images", Table("class"))))
    assert text.startswith("three images\n") and "class" in text
