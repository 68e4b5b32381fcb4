"""Options that several commands share."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sgdr_jax.cli.options import write_output

Fails = Callable[..., str]


def test_outputs_that_cannot_be_written_are_refused_first(place: Path, run_folder: Path, tmp_path: Path, fails: Fails) -> None:
    nowhere = tmp_path / "nowhere" / "x.png"
    assert str(nowhere) in fails("find-lr", place / "photos.py", "--out", nowhere)
    assert str(nowhere) in fails("predict", place / "data", "--run", run_folder, "--out", nowhere)
    assert str(nowhere) in fails("plan", place / "photos.py", "--csv", nowhere)
    assert "--run" in fails("train", place / "photos.py", "--resume")
    assert not nowhere.parent.exists()


def test_an_output_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk left half a table in place of the old one."""
    file, link = tmp_path / "out.csv", tmp_path / "link.csv"
    write_output(file, "old\udc80\n")
    link.symlink_to(file)
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    for path in (file, link):
        with pytest.raises(OSError, match="No space left"):
            write_output(path, "new")
    assert file.read_bytes() == b"old\x80\n" and sorted(tmp_path.iterdir()) == [link, file]
    monkeypatch.undo()
    write_output(link, "new")
    assert link.is_symlink() and file.read_text() == "new"


def test_devices_and_pipes_stay_what_they_are(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_output(pipe, "table")
    write_output(Path("/dev/null"), "table")
    assert os.read(reader, 99) == b"table" and pipe.is_fifo() and Path("/dev/null").is_char_device()
    os.close(reader)
