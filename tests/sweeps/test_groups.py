"""Workers that are groups of processes: each run once, with the numbers of a single process, though a process is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from sgdr_jax.runs.folder import read
from sgdr_jax.sweeps.shared_queue import open_queue
from sgdr_jax.sweeps.spec import expand
from sgdr_jax.sweeps.sweep_record import run_folder

from ..jobs.workers import GROUPED
from .test_shared_queue import ROOT

TEXT = "from tests.jobs.workers import GROUPED as sweep\n"
RUNS = expand(GROUPED)


def start(file: Path, folder: Path, *words: str) -> subprocess.Popen:
    cache = file.parent / "cache"  # a process that is killed may leave half a program there
    own = {"XDG_CACHE_HOME": str(cache), "JAX_COMPILATION_CACHE_DIR": str(cache / "compiled"), "PYTHONPATH": str(ROOT)}
    own |= {"XLA_FLAGS": "--xla_force_host_platform_device_count=1", "JAX_ENABLE_X64": "1", "JAX_NUMPY_DTYPE_PROMOTION": "standard"}
    command = (sys.executable, "-m", "sgdr_jax", "sweep", str(file), "--dir", str(folder), "--pace", "0", "--keep", "all", *words)
    with (file.parent / f"{folder.name}.log").open("a") as log:
        return subprocess.Popen(command, cwd=file.parent, env=os.environ | own, stdout=log, stderr=log)


def begun(folder: Path) -> tuple[int, Path]:
    """Wait for the first checkpoint of a second stage; return the process that leads the run, and the run's folder."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        for checkpoint in folder.glob("runs/*/checkpoints/stage-1-step-*"):
            run = checkpoint.parents[1]
            if not (run / "summary.json").exists():
                return int(read(run).start["process"].split()[1]), run
        time.sleep(0.01)
    raise AssertionError("no worker has come so far")


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["leader", "other"])
def test_of_two_workers_of_two_processes_one_process_is_killed(tmp_path, victim):
    file, folder, log = tmp_path / "shared.py", tmp_path / "sweep", tmp_path / "sweep.log"
    file.write_text(TEXT)
    alone = start(file, tmp_path / "alone")
    assert alone.wait(300) == 1, (tmp_path / "alone.log").read_text()  # two runs fail, here as there
    store = str(tmp_path / "sweep.journal")
    workers = [start(file, folder, "--processes", "2", "--store", store, "--grace", "10") for _ in range(2)]
    leader, killed = begun(folder)
    group = psutil.Process(leader).parent()
    doomed = leader if victim == "leader" else next(p.pid for p in group.children() if p.pid != leader)
    os.kill(doomed, signal.SIGKILL)
    codes = {worker.pid: worker.wait(400) for worker in workers}
    assert codes.pop(group.pid) == 128 + signal.SIGKILL and list(codes.values()) == [1], log.read_text()
    for wanted in RUNS[:4]:
        ours, theirs = (read(run_folder(tmp_path / name, wanted.hash)) for name in ("sweep", "alone"))
        keys, others = ([(row["kind"], row["stage"], row["step"]) for row in run.rows] for run in (ours, theirs))
        assert len(set(keys)) == len(keys) and keys == others
        np.testing.assert_allclose([row["loss"] for row in ours.rows], [row["loss"] for row in theirs.rows], rtol=1e-6)
        for split in ("valid", "test"):
            assert ours.summary[split]["accuracy"] == theirs.summary[split]["accuracy"]
            np.testing.assert_allclose(ours.summary[split]["loss"], theirs.summary[split]["loss"], rtol=1e-6)
        starts = json.loads((ours.path / "environment.json").read_text())["starts"]
        assert len(starts) == 1 + (ours.path == killed)
    with open_queue(store, folder, GROUPED.name, RUNS).alive() as look:
        tries = {key: [trial.state.name for trial in trials] for key, trials in look._tries().items()}
    assert tries == {r.hash: ["FAIL"] if r.number > 3 else ["FAIL"] * (killed.name == r.hash) + ["COMPLETE"] for r in RUNS}
