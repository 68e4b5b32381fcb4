"""core/files: atomic replacement of files."""

import os
import time
from pathlib import Path

import pytest

from sgdr_jax.core.files import keep_newest, replacing, write_atomically


@pytest.mark.parametrize(("content", "expected"), [("ä\n", "ä\n".encode()), (b"\xff", b"\xff"), ("", b"")])
def test_writes_text_as_utf_8_and_bytes(tmp_path: Path, content: str | bytes, expected: bytes) -> None:
    path = tmp_path / "a"
    path.write_text("older and longer")
    write_atomically(path, content)
    assert path.read_bytes() == expected
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("moment", ["os.fsync", "pathlib.Path.replace"])
def test_an_interrupted_write_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    path = tmp_path / "a"
    path.write_text("old")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(moment, interrupt)
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_in_the_block_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(ValueError, match="half way"), replacing(path) as file:
        file.write(b"ne")
        raise ValueError("half way")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    write_atomically(tmp_path / "a", "")
    assert os.stat(tmp_path / "a").st_mode == os.stat(tmp_path / "plain").st_mode


def test_a_folder_that_cannot_be_flushed_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def refuse_folders(file: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{file}"):
            raise OSError("Invalid argument")
        fsync(file)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    write_atomically(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "new"


def test_a_file_above_the_limit_costs_no_other_and_what_is_written_now_stays(tmp_path: Path) -> None:
    """One large set of activations had emptied the cache, itself included."""
    sizes = {"big": 20, "new": 3, "middle": 3, ".x.npy.part": 50, "old": 3, "oldest": 3, ".left.part": 1}  # newest first
    for age, (name, size) in enumerate(sizes.items()):
        (tmp_path / name).write_bytes(b"x" * size)
        os.utime(tmp_path / name, (time.time() - age * 20_000,) * 2)
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    keep_newest(tmp_path, 9)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".x.npy.part", "folder", "link", "middle", "new", "old"]
