"""The rows of a run: numbered, so that none is lost in silence; as many and as they were when a checkpoint was saved."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdr_jax.core.errors import InputError
from sgdr_jax.runs.rows import RowFile, plain, read_rows

from ..helpers import seeded


def row(step: int) -> dict:
    return {"kind": "train", "stage": "ä", "step": step, "loss": 0.1 * step}


def written(path, count: int = 5) -> list[bytes]:
    path.unlink(missing_ok=True)
    file = RowFile(path)
    for step in range(count):
        file.append(row(step))
    file.close()
    return path.read_bytes().splitlines(keepends=True)


def test_rows_are_numbered_in_the_file_and_read_without(tmp_path):
    lines = written(tmp_path / "rows")
    assert [json.loads(line)["row"] for line in lines] == [0, 1, 2, 3, 4]
    assert read_rows(tmp_path / "rows") == [row(step) for step in range(5)]
    file = RowFile(tmp_path / "rows")
    file.append(row(5))
    file.close()
    assert read_rows(tmp_path / "rows") == [row(step) for step in range(6)]


@pytest.mark.parametrize("lost", [[0], [2], [1, 2, 3], [0, 1, 2, 3]])
def test_a_lost_row_is_an_error(tmp_path, lost):
    lines = written(tmp_path / "rows")
    (tmp_path / "rows").write_bytes(b"".join(line for i, line in enumerate(lines) if i not in lost))
    with pytest.raises(InputError, match=rf"line {lost[0] + 1} has number {lost[-1] + 1}, not {lost[0]}: rows are lost"):
        read_rows(tmp_path / "rows")


def test_rows_that_are_repeated_exchanged_or_nested_too_deeply_are_errors(tmp_path):
    lines = written(tmp_path / "rows")
    for wrong in ([*lines[:2], *lines[1:]], [lines[1], lines[0], *lines[2:]], [*lines, b"[" * 100_000 + b"\n"]):
        (tmp_path / "rows").write_bytes(b"".join(wrong))
        with pytest.raises(InputError, match="line"):
            read_rows(tmp_path / "rows")


def test_a_file_of_an_early_version_goes_on_with_numbers(tmp_path):
    early = [json.dumps(row(step)).encode() + b"\n" for step in range(3)]
    (tmp_path / "rows").write_bytes(b"".join(early))
    file = RowFile(tmp_path / "rows")
    file.append(row(3))
    file.close()
    assert read_rows(tmp_path / "rows") == [row(step) for step in range(4)]
    lines = (tmp_path / "rows").read_bytes().splitlines(keepends=True)
    for lost in range(3):
        (tmp_path / "rows").write_bytes(b"".join(line for i, line in enumerate(lines) if i != lost))
        with pytest.raises(InputError, match="rows are lost"):
            read_rows(tmp_path / "rows")


@seeded
@given(count=st.integers(0, 6), more=st.integers(0, 3), again=st.booleans(), data=st.data())
def test_a_mark_holds_while_its_rows_are_there_unchanged(tmp_path_factory, count, more, again, data):
    path = tmp_path_factory.mktemp("rows") / "rows"
    written(path, count)
    file = RowFile(path)
    mark = file.mark()
    for step in range(more):
        file.append(row(10 + step))
    if again:  # another process
        file.close()
        file = RowFile(path)
    assert mark[0] == count and file.holds(*mark)
    assert file.truncate(count) == more and file.mark() == mark and file.truncate(count) == 0
    file.append(row(99))
    assert file.holds(*mark) and len(file.rows()) == count + 1
    file.close()
    content = bytearray(path.read_bytes())
    if count:
        content[data.draw(st.integers(0, len(b"".join(content.splitlines(keepends=True)[:count])) - 1))] ^= 1
        path.write_bytes(content)
        file = RowFile(path)
        file.close()
        assert not file.holds(*mark)


def test_a_mark_is_flushed_to_the_disk(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr("os.fsync", flushed.append)
    file = RowFile(tmp_path / "rows")
    file.append(row(0))
    assert not flushed
    file.mark()
    file.close()
    assert flushed


def test_bytes_of_names_are_written_as_escapes():
    """A command line may have any bytes, which environment.json could not hold."""
    assert plain({"command": ["train", "bad\udcff.py"]}) == {"command": ["train", "bad\\udcff.py"]}
