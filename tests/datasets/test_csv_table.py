"""Strict reading of CSV files: against the strict reading of the csv module, and with quotes taken away."""

import csv
import io
import tempfile
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sgdr_jax.core.errors import InputError
from sgdr_jax.datasets.csv_table import ImageTable, read_table

from ..helpers import seeded

cells = st.text('ab, "\n', max_size=5)
tables = st.integers(2, 4).flatmap(lambda width: st.lists(st.lists(cells, min_size=width, max_size=width), min_size=1, max_size=5))


def read(text: str) -> ImageTable:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "labels.csv")
        path.write_bytes(text.encode())
        return read_table(path)


def header(width: int) -> str:
    return ",".join("pqrs"[:width]) + "\n"


def filled(rows: list[list[str]]) -> list[list[str]]:
    return [row for row in rows if any(cell.strip() for cell in row)]


@seeded
@given(tables, st.sampled_from(["\n", "\r\n"]), st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]))
def test_what_is_written_is_read_with_its_lines(rows, end, quoting):
    assume(filled(rows))
    text = io.StringIO()
    csv.writer(text, lineterminator=end, quoting=quoting).writerows(rows)
    table = read(header(len(rows[0])) + text.getvalue())
    assert [record.cells for record in table.records] == filled(rows)
    assert not any(record.stray for record in table.records)
    lines, line = [], 2
    for row in rows:
        if any(cell.strip() for cell in row):
            lines.append(line)
        line += 1 + sum(cell.count("\n") for cell in row)
    assert [record.line for record in table.records] == lines
    assert [bool(record.text) for record in table.records] == ["\n" in "".join(row) for row in filled(rows)]


@seeded
@given(st.text('ab",\n\r ', max_size=40))
def test_any_text_is_read_as_the_strict_csv_module_reads_it_or_refused_with_its_line(text):
    text = f"p,q\na,b\n{text}"
    try:
        strict = filled(list(csv.reader(io.StringIO(text, newline=""), strict=True)))[1:]
    except csv.Error:
        strict = None
    if strict is None or any(len(row) < 2 or any(cell.strip() for cell in row[2:]) for row in strict):
        with pytest.raises(InputError, match=r"^labels.csv line \d+[: ]") as error:
            read(text)
        assert "\n" not in str(error.value)
    else:
        assert [record.cells for record in read(text).records] == [row[:2] for row in strict]


@seeded
@given(st.lists(st.lists(st.text("ab, ", max_size=4), min_size=2, max_size=2), min_size=1, max_size=6), st.data())
def test_a_quote_taken_away_is_noticed_with_its_line(rows, data):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows([["p", "q"], *rows])
    whole = text.getvalue()
    place = data.draw(st.sampled_from([i for i, letter in enumerate(whole) if letter == '"']))
    line = 1 + whole[:place].count("\n")
    broken = whole[:place] + whole[place + 1 :]
    try:
        table = read(broken)
    except InputError as error:
        named = str(error).startswith(f"labels.csv line {line}")
        assert named or "needs a header line" in str(error)
    else:  # without its opening quote a cell is read, and marked
        assert line == 1 or any(record.line == line and (record.stray or record.cells != rows[line - 2]) for record in table.records)


def test_a_quote_open_over_many_lines_is_found_where_it_opens():
    rows = "".join(f"i{i},x\n" for i in range(50_000))
    with pytest.raises(InputError, match=r"labels.csv line 3: a quote is not closed"):
        read(f'p,q\na,b\nc,"d\n{rows}')
    with pytest.raises(InputError, match=r"labels.csv line 4: a quote is not closed"):
        read('p,q\na,"two\nlines"\nc,"d\ne,f\n')
    assert read('p,q\na,"two\nlines"\nc,d\n').records[0].opened == 2
    assert read('p,q,r\na,b,"two\nlines"\nc,d,\n').records[1].line == 4
