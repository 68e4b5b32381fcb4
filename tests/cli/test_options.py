"""Options that several commands share."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from sgdr_jax.cli.main import main
from sgdr_jax.core.files import write_output

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


OUTPUTS = {
    "report": (("report", "RUN", "--experiment", "FILE"), "--out", b"<!doctype html>"),
    "show-batch": (("show-batch", "FILE", "--count", "2", "--data.root", "DATA"), "--out", b"\x89PNG"),
    "plan": (("plan", "FILE", "--train-size", "99"), "--csv", b"stage,"),
    "eval": (("eval", "RUN", "--experiment", "FILE"), "--out", b"name,"),
}
"""Commands that write a file that was asked for: the words, the option, how the file begins."""


@pytest.mark.parametrize("name", OUTPUTS)
def test_every_command_writes_into_a_pipe_and_through_a_link(name: str, place: Path, run_folder: Path, tmp_path: Path) -> None:
    """`report --out /dev/null` put a page in place of the device."""
    known, (words, option, start) = {"RUN": run_folder, "FILE": place / "photos.py", "DATA": place / "data"}, OUTPUTS[name]
    given = [str(known.get(word, word)) for word in words]
    pipe, link, target = (tmp_path / f"{stem}.png" for stem in ("pipe", "link", "target"))
    os.mkfifo(pipe)
    link.symlink_to(target)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    main([*given, option, str(pipe)])
    assert pipe.is_fifo()
    reader.join(30)
    assert read[0].lower().startswith(start.lower())
    main([*given, option, str(link)])
    assert link.is_symlink() and target.read_bytes() == read[0]
