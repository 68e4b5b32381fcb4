"""Names as data: hostile names in every kind of output."""

import csv
import io
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.progress import Progress
from rich.table import Table

from sgdr_jax.core import text
from sgdr_jax.core.console import Console, plain_console

HOSTILE = (
    "[/red]",
    "[bold]x",
    ":smile:",
    "\x1b[31mred",
    "\x9b31m",
    "a\rb",
    "\x00",
    "=cmd|' /C calc'!A0",
    "<script>",
    "| a | b |",
    "back\\slash",
    "[a](b)",
)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_terminal_shows_names_as_they_are(name, capsys):
    table = Table(name, "n")
    table.add_row(name, "1")
    console = Console()
    console.say(f"class {name}")
    console.say(table)
    with console.bar(name, 1) as tick:
        tick(1, name)
    out = capsys.readouterr().out
    assert not set("\x1b\x9b\r\x00") & set(out)
    assert out.count(text.lines(name)) == 5


def test_a_live_bar_takes_no_markup_from_names(monkeypatch):
    file = io.StringIO()
    console = plain_console(file)
    monkeypatch.setattr("sgdr_jax.core.console.plain_console", lambda: console)
    console._force_terminal = True
    with Console().bar("[/red] {x}", 2) as tick:
        tick(1, "[/blue] {y}")
    assert "[/red] {x}" in file.getvalue() and isinstance(Progress, type)


@given(st.lists(st.lists(st.text(st.characters(codec="utf-8")), min_size=1), min_size=1))
def test_tsv_fields_come_back(rows):
    assert text.tsv_rows(text.tsv_text(rows)) == [row for row in rows if row != [""]]


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0") | st.sampled_from("\r\n,;\"'=+"))


@given(st.lists(st.lists(CELLS, min_size=2)))
def test_csv_cells_come_back_and_none_is_a_formula(rows):
    read = list(csv.reader(io.StringIO(text.csv_text(rows), newline="")))
    assert [[text.csv_value(cell) for cell in row] for row in read] == rows
    for cell in itertools.chain(*read):
        assert cell[:1] not in ("=", "+", "-", "@", "\t", "\r") or isinstance(float(cell), float)


@given(st.lists(CELLS, min_size=1), st.sampled_from(" ;|,"))
def test_a_list_in_a_cell_comes_back(names, delimiter):
    assert next(csv.reader(io.StringIO(text.csv_list(names, delimiter), newline=""), delimiter=delimiter)) == names
    assert text.csv_text([["photo\r=cmd()", "two\nlines"]]) == '"photo\r=cmd()","two\nlines"\n'


def test_numbers_stay_numbers():
    assert text.csv_text([["-0.5", -1e-3, "+1", "-x", None]]) == "-0.5,-0.001,+1,'-x,\n"


@pytest.mark.parametrize("name", HOSTILE)
def test_markdown_shows_names_as_they_are(name):
    shown = text.markdown(name)
    unescaped = shown.replace("\\\\", "\0")
    for sign in "<>|`*_[]&":
        assert unescaped.count(sign) == unescaped.count("\\" + sign)
    assert "\n" not in text.markdown(f"{name}\n{name}")
