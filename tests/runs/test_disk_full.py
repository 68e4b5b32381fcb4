"""A full disk: one line with path and bytes, the older state kept, and room made before giving up."""

import asyncio
import errno
import gc
import logging
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from sgdr_jax.core.errors import InputError
from sgdr_jax.core.files import write_atomically
from sgdr_jax.runs import checkpoint
from sgdr_jax.runs.rows import RowFile

Usage = namedtuple("Usage", "total used free")
TREE = {"a": np.arange(1 << 18, dtype=np.float32)}


def full(monkeypatch, free) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(0, 0, free()))


def test_a_checkpoint_without_room_is_one_line_and_the_one_before_stays(tmp_path: Path, monkeypatch):
    first, second = checkpoint.step_name(0, 1), checkpoint.step_name(0, 2)
    checkpoint.save(tmp_path, first, TREE)
    full(monkeypatch, lambda: 1000)
    with pytest.raises(
        InputError, match=rf"^free space of {tmp_path} is '1,000 bytes'; checkpoint {second} needs 2,097,152 bytes; free some"
    ):
        checkpoint.save(tmp_path, second, TREE)
    assert checkpoint.names(tmp_path) == (first,) and not list(tmp_path.glob(".saving*"))
    np.testing.assert_array_equal(checkpoint.restore(tmp_path, first, TREE)["a"], TREE["a"])


def test_older_checkpoints_make_room(tmp_path: Path, monkeypatch):
    for step in (1, 2):
        checkpoint.save(tmp_path, checkpoint.step_name(0, step), TREE)
    full(monkeypatch, lambda: 1000 if len(checkpoint.names(tmp_path)) > 1 else 1 << 30)
    checkpoint.save(tmp_path, checkpoint.step_name(0, 3), TREE)
    assert checkpoint.names(tmp_path) == (checkpoint.step_name(0, 2), checkpoint.step_name(0, 3))


def test_a_disk_that_fills_while_saving_is_told_too(tmp_path: Path, monkeypatch):
    free = [1 << 30, 1 << 30, 5]
    full(monkeypatch, lambda: free.pop(0))

    def fails(path: Path) -> None:
        raise ValueError("RESOURCE_EXHAUSTED: " + 600 * "No space left on device\n")

    monkeypatch.setattr(checkpoint, "flush_tree", fails)
    with pytest.raises(InputError, match="is '5 bytes'; checkpoint"):
        checkpoint.save(tmp_path, checkpoint.step_name(0, 1), TREE)
    assert not list(tmp_path.iterdir())


WRITES = """
import resource, sys
import numpy as np
from sgdr_jax.runs import checkpoint
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
for step in range(12):
    try:
        checkpoint.save(sys.argv[1], "x", {f"a{i}": np.random.default_rng(i).random((90, 50 + step)) for i in range(8)})
    except Exception as error:
        print(type(error).__name__, str(error).splitlines()[0][-60:])
"""


def test_what_fails_in_threads_of_orbax_is_raised_and_not_printed(tmp_path: Path):
    """By a limit of the sizes of files, since nothing but root can make a disk."""
    done = subprocess.run([sys.executable, "-c", WRITES, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    assert [line.split()[0] for line in done.stdout.splitlines()] == 12 * ["InputError"], done.stdout


def test_a_write_that_fails_after_another_is_not_told_and_others_are(caplog):
    async def fails() -> None:
        raise OSError("full")

    async def forgets(name: str) -> None:
        task = asyncio.create_task(fails(), name=name)
        await asyncio.sleep(0)
        del task

    def collected(name: str) -> list[str]:
        caplog.clear()
        asyncio.run(forgets(name))
        gc.collect()
        return [record.getMessage().split("name=")[1].split("'")[1] for record in caplog.records]

    logger, hook = logging.getLogger("asyncio"), sys.unraisablehook
    assert collected("orbax") == ["orbax"]
    with checkpoint._raised_only():
        assert collected("orbax") == [] and collected("another") == ["another"]
    assert collected("orbax") == ["orbax"] and sys.unraisablehook is hook
    try:
        with pytest.raises(ValueError, match="first"), checkpoint._raised_only():
            raise ValueError("first")
        assert collected("orbax") == [] and collected("another") == ["another"]
    finally:
        logger.removeFilter(checkpoint._unless_raised)
        logging.getLogger("absl").removeFilter(checkpoint._unless_raised)
        sys.unraisablehook = hook


def test_files_without_room_are_named(tmp_path: Path, monkeypatch):
    def fsync(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    write_atomically(tmp_path / "a", "old")
    monkeypatch.setattr("os.fsync", fsync)
    with pytest.raises(OSError, match="No space left on device; free some") as error:
        write_atomically(tmp_path / "a", "new")
    assert error.value.filename == str(tmp_path / "a") and (tmp_path / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_rows_without_room_are_named(tmp_path: Path):
    rows = RowFile(tmp_path / "rows")
    rows._file.close()
    with open("/dev/full", "wb", buffering=0) as rows._file, pytest.raises(OSError, match=r"No space left on device: .*rows"):
        rows.append({"kind": "bn", "stage": "a", "step": 0, "drift": {}})


def test_a_row_that_fits_in_part_is_taken_back(tmp_path: Path, monkeypatch):
    row = {"kind": "bn", "stage": "a", "step": 0, "drift": {}}
    rows = RowFile(tmp_path / "rows")
    rows.append(row)
    whole, file = (tmp_path / "rows").read_bytes(), rows._file

    class Short:
        """A file on a disk with room for ten bytes."""

        fileno = file.fileno

        def write(self, line: bytes) -> int:
            return file.write(line[:10])

    rows._file = Short()
    with pytest.raises(OSError, match=r"No space left on device: .*rows"):
        rows.append(row)
    assert (tmp_path / "rows").read_bytes() == whole
    rows._file = file
    rows.append(row)
    assert (tmp_path / "rows").read_bytes().count(b"\n") == 2 and rows.holds(*rows.mark())
    rows.close()


def test_a_disk_that_fills_within_a_save_and_has_room_again_is_one_line(tmp_path: Path, monkeypatch):
    def fails(path: Path) -> None:
        raise ValueError("UNKNOWN: Failed writing manifest:\n No space left on device [os_error_code='28']")

    monkeypatch.setattr(checkpoint, "flush_tree", fails)
    with pytest.raises(InputError, match=r"^free space of .* bytes; it filled up while checkpoint stage-0-step-000001 of [^\n]*$"):
        checkpoint.save(tmp_path, checkpoint.step_name(0, 1), TREE)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(checkpoint, "flush_tree", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        checkpoint.save(tmp_path, checkpoint.step_name(0, 1), TREE)
