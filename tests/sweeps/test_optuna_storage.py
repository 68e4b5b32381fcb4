"""Where a sweep keeps its queue: addresses, disks that do not lock, journals that a full disk or a kill leaves."""

import json
import resource
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest

from sgdr_jax import InputError
from sgdr_jax.core.errors import without_password
from sgdr_jax.sweeps.optuna_storage import address, check_disk, open_storage

from .test_shared_queue import RUNS, join, take


def test_a_full_disk_leaves_a_journal_of_whole_lines(tmp_path):
    """What Optuna had written of a line stayed, the next worker wrote behind it, and no one could read the file again."""
    queue, file = join(tmp_path, "store.journal"), tmp_path / "store.journal"
    size, limits = file.stat().st_size, resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, limits[1]))
    try:
        with pytest.raises(InputError, match=r"^--store .*store.journal cannot be written \(File too large\); make room, then repeat"):
            take(queue, RUNS, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert file.stat().st_size == size
    with file.open("ab") as torn:
        torn.write(b'{"op_code": 4, "worker')  # of a worker that was killed
    assert [run.number for run in take(join(tmp_path, "store.journal"), RUNS, 2)] == [0, 1]
    assert all(json.loads(line) for line in file.read_text().splitlines())


def test_the_lock_of_a_killed_worker_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a relative --dir the others asked for it for ever, each with all of a core."""
    monkeypatch.chdir(tmp_path)
    Path("d").mkdir()
    journal = cast(Any, open_storage("d/store.journal"))._backend
    journal._lock.acquire()  # and dies
    assert Path("d/store.journal.lock").is_symlink() and Path("d/store.journal.lock").exists()
    other = cast(Any, open_storage("d/store.journal"))._backend
    other._lock.grace_period = 0.2
    other.append_logs([{"op_code": 0, "study_name": "s", "directions": [1], "worker_id": "w"}])
    assert not Path("d/store.journal.lock").is_symlink() and len(Path("d/store.journal").read_bytes().splitlines()) == 1


def test_addresses():
    assert address("postgresql://a/b") == "postgresql://a/b" and address("x/y") == "sqlite:///x/y"
    assert without_password("--store mysql://me:p@ss:x@h/b here") == "--store mysql://me:***@h/b here"


def test_sqlite_is_refused_on_a_network_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = [
        SimpleNamespace(mountpoint=point, fstype=kind) for point, kind in (("/", "ext4"), ("/home", "nfs4"), ("/home/me/own disk", "xfs"))
    ]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounts)
    message = "--store sqlite:////home/me/a.db is SQLite on nfs4, which does not lock; use --store /home/me/a.journal, or the URL"
    with pytest.raises(InputError, match=message):
        check_disk("/home/me/a.db")
    for fine in ("/home/me/a.journal", "postgresql://me@host/base", "/x/a.db", "sqlite:////home/me/own disk/a.db"):
        check_disk(fine)
