"""core/machine: free memory, file systems, processes."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from sgdr_jax.core import machine


def test_free_memory_is_at_most_what_the_machine_has() -> None:
    assert 0 < machine.free_memory() < psutil.virtual_memory().total


def test_free_memory_of_a_control_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups, own = tmp_path / "sys/fs/cgroup", tmp_path / "proc/self/cgroup"
    (groups / "job/step").mkdir(parents=True)
    own.parent.mkdir(parents=True)
    own.write_text("0::/job/step\n")
    for folder, limit, current in ((groups / "job", "5000", "2000"), (groups / "job/step", "max", "1000")):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{current}\n")
    monkeypatch.setattr(machine, "Path", lambda place: tmp_path / place.lstrip("/"))
    assert machine.free_memory() == 3000


def test_the_file_system_of_a_path_is_that_of_the_innermost_mount(monkeypatch: pytest.MonkeyPatch) -> None:
    table = (("/", "ext4"), ("/home", "nfs4"), ("/home/me/own disk", "xfs"), ("/scratch", "ext4"), ("/scratch", "lustre"))
    mounts = [SimpleNamespace(mountpoint=point, fstype=kind) for point, kind in table]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounts)
    kinds = {"/x": "ext4", "/home/me/a.db": "nfs4", "/homes/a.db": "ext4", "/home/me/own disk/a": "xfs", "/scratch": "lustre"}
    assert {path: machine.file_system(Path(path)) for path in kinds} == kinds
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: [])
    assert machine.file_system(Path("/x")) == ""


def test_the_file_system_of_a_real_path_is_known(tmp_path: Path) -> None:
    assert machine.file_system(tmp_path) not in ("", "nfs4")


def test_a_process_exists_until_it_ends() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert machine.process_exists(os.getpid()) and not machine.process_exists(ended.pid)
