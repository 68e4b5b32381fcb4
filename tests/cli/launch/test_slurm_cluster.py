"""A real Slurm: a run of two tasks is preempted, queued again, goes on, and ends with the numbers of one that was left alone; with fewer
nodes too; the workers of a sweep are an array of jobs, of one node or two, that do each run once.

make test-cluster
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from sgdr_jax.cli.launch import Slurm
from sgdr_jax.core.errors import InputError

from .slurm_cluster import cluster

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[3]

EXPERIMENT = """
import time
from sgdr_jax import AdamW, Eval, Experiment, Stage
from sgdr_jax.runs import run as recipe
from sgdr_jax.augment import side_on
from sgdr_jax.datasets import Synthetic
from sgdr_jax.schedules import Constant
from tests.helpers import Tiny

experiment = Experiment(
    "preempted",
    data=Synthetic(classes=3, train=61, valid=21, test=19, side=16),
    model=Tiny(),
    batch_size=16,
    augment=side_on(),
    optimizer=AdamW(),
    checkpoint_steps=3,
    evaluate=Eval(batch_size=16, tta_views=1),
    stages=(
        Stage("head", size=16, train="head", lr=0.01, schedule=Constant(1), views=2, precompute=True),
        Stage("all", size=16, lr=0.003, schedule=Constant(4)),
    ),
)

real = recipe.open_stage
def open_stage(*args):
    stage = real(*args)
    def update(*words):
        time.sleep(0.3)  # so that there is time to preempt it
        return stage.update(*words)
    return stage._replace(update=update)
recipe.open_stage = open_stage
"""

SWEEP = """
from sgdr_jax import Eval, Experiment, Stage
from sgdr_jax.sweeps import Sweep, grid
from sgdr_jax.augment import side_on
from sgdr_jax.datasets import Synthetic
from sgdr_jax.schedules import Sgdr
from tests.helpers import Tiny

base = Experiment(
    "small",
    data=Synthetic(classes=3, train=61, valid=21, test=19, side=16),
    model=Tiny(),
    batch_size=16,
    augment=side_on(),
    evaluate=Eval(batch_size=16, tta_views=1),
    stages=(Stage("all", size=16, lr=0.01, schedule=Sgdr(2)),),
)
sweep = Sweep("four", base, (grid({"stages.0.lr": (0.003, 0.01)}),), seeds=(0, 1))
"""


@pytest.fixture(scope="module")
def slurm() -> Iterator[dict[str, str]]:
    """A cluster of this machine, in the environment of this process too."""
    assert shutil.which("slurmctld") and shutil.which("munged"), "needs slurm-wlm and munge: make test-cluster"
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # paths of sockets are short
    with cluster(folder) as environment, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", environment["SLURM_CONF"])
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=1")
        yield environment
    shutil.rmtree(folder)


def until(what: Callable[[], Any], seconds: float, show: Path) -> Any:
    """What is true at last; fails with the logs after so many seconds."""
    end = time.monotonic() + seconds
    while not (found := what()):
        if time.monotonic() > end:
            logs = "\n".join(f"== {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in sorted(show.glob("*_log.*")))
            raise AssertionError(f"not within {seconds} s: {facts('')}\n{logs}")
        time.sleep(0.5)
    return found


def launch(target: str, file: Path, run: Path, *words: str) -> str:
    command = [sys.executable, "-m", "sgdr_jax", "launch", target, str(file), "--run", str(run), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=file.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def facts(job: str) -> dict[str, str]:
    """What Slurm knows of a job."""
    text = subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True, check=True).stdout
    return dict(pair.split("=", 1) for pair in text.split() if "=" in pair)


def rows(run: Path) -> list[dict[str, Any]]:
    path = run / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_preempted_run_goes_on_and_ends_as_one_left_alone(slurm: dict[str, str], tmp_path: Path) -> None:
    file, run = tmp_path / "preempted.py", tmp_path / "run"
    file.write_text(EXPERIMENT)
    text = launch("slurm", file, run, "--tasks-per-node", "2", "--minutes", "30")
    found = re.search(r"job (\d+), 1 machines with 2 processes each", text)
    assert found, text
    job, logs = found[1], run / "launch"
    until(lambda: sum(row["kind"] == "train" for row in rows(run)) >= 14, 120, logs)  # in the middle of the second stage
    for signal in ("TERM", "USR2"):  # as Slurm itself does it
        subprocess.run(["scancel", f"--signal={signal}", job], check=True)
    until(lambda: facts(job)["Restarts"] == "1", 60, logs)
    assert not (run / "summary.json").exists()
    until(lambda: facts(job)["JobState"] in ("COMPLETED", "FAILED"), 180, logs)
    assert facts(job)["JobState"] == "COMPLETED" and facts(job)["Restarts"] == "1", (logs / f"{job}_0_log.err").read_text()[-3000:]
    assert "preempted: saved after update" in "".join(path.read_text() for path in logs.glob(f"{job}_*_log.*"))
    assert len(json.loads((run / "environment.json").read_text())["starts"]) == 2
    launch("local", file, tmp_path / "alone", "-n", "2")
    for name in ("loss", "stage", "step", "kind"):
        assert [row[name] for row in rows(run)] == [row[name] for row in rows(tmp_path / "alone")], name
    ours, alone = (json.loads((folder / "summary.json").read_text()) for folder in (run, tmp_path / "alone"))
    assert ours["valid"] == alone["valid"] and ours["test"] == alone["test"]


def test_an_elastic_run_goes_on_with_the_nodes_that_are_left(
    slurm: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float64: where a gradient is rounding alone, as of what comes before a normalisation, AdamW makes a full step of it."""
    file, run = tmp_path / "preempted.py", tmp_path / "run"
    file.write_text(EXPERIMENT.replace("batch_size=16,", 'batch_size=16, compute="float64",', 1))
    monkeypatch.setenv("JAX_ENABLE_X64", "1")
    monkeypatch.setenv("JAX_NUMPY_DTYPE_PROMOTION", "standard")
    text = launch("slurm", file, run, "--nodes", "1-2", "--minutes", "30")
    found = re.search(r"job (\d+), 1-2 machines with 1 processes each", text)
    assert found, text
    job, logs = found[1], run / "launch"
    until(lambda: sum(row["kind"] == "train" for row in rows(run)) >= 10, 240, logs)
    assert facts(job)["NumNodes"] == "2"
    other = socket.gethostname().partition(".")[0] + "-b"
    try:
        subprocess.run(["scontrol", "update", f"NodeName={other}", "State=DRAIN", "Reason=test"], check=True)
        for signal in ("TERM", "USR2"):
            subprocess.run(["scancel", f"--signal={signal}", job], check=True)
        until(lambda: facts(job)["Restarts"] == "1", 90, logs)
        until(lambda: facts(job)["JobState"] in ("COMPLETED", "FAILED"), 300, logs)
        assert facts(job)["JobState"] == "COMPLETED" and facts(job)["NumNodes"] == "1"
    finally:
        subprocess.run(["scontrol", "update", f"NodeName={other}", "State=RESUME"], check=True)
    launch("local", file, tmp_path / "alone", "-n", "1")
    ours, alone = rows(run), rows(tmp_path / "alone")
    assert [(row["stage"], row["step"], row["kind"]) for row in ours] == [(row["stage"], row["step"], row["kind"]) for row in alone]
    np.testing.assert_allclose([row["loss"] for row in ours], [row["loss"] for row in alone], rtol=1e-9)


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_sweep_as_an_array_of_jobs_does_each_run_once_with_the_numbers_of_a_local_one(
    slurm: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nodes: int
) -> None:
    file = tmp_path / "four_runs.py"
    file.write_text(SWEEP)
    if nodes > 1:  # float32 sums over two processes, taken in another order, change losses by 2e-6
        file.write_text(SWEEP.replace("batch_size=16,", 'batch_size=16, compute="float64",', 1))
        monkeypatch.setenv("JAX_ENABLE_X64", "1")
        monkeypatch.setenv("JAX_NUMPY_DTYPE_PROMOTION", "standard")

    def sweep(folder: Path, *words: str) -> str:
        command = [sys.executable, "-m", "sgdr_jax", "sweep", str(file), "--dir", str(folder), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    words = ("--launch", "slurm", "--workers", "2", "--minutes", "20", "--nodes", str(nodes))
    text = " ".join(sweep(tmp_path / "far", *words).split())
    found = re.search(r"job (\d+), 2 workers", text)
    assert found, text
    jobs, logs = [f"{found[1]}_{i}" for i in range(2)], tmp_path / "far" / "launch"
    until(lambda: all(facts(job)["JobState"] in ("COMPLETED", "FAILED") for job in jobs), 600, logs)
    assert [(facts(job)["JobState"], facts(job)["Restarts"]) for job in jobs] == [("COMPLETED", "0")] * 2
    sweep(tmp_path / "near")
    far, near = (sorted((tmp_path / name / "runs").iterdir()) for name in ("far", "near"))
    assert [run.name for run in far] == [run.name for run in near] and len(far) == 4
    for run, local in zip(far, near, strict=True):
        assert len(json.loads((run / "environment.json").read_text())["starts"]) == 1  # nobody else had begun it
        for name in ("stage", "step", "kind"):
            assert [row[name] for row in rows(run)] == [row[name] for row in rows(local)], name
        tolerance = 0 if nodes == 1 else 1e-9
        np.testing.assert_allclose([row["loss"] for row in rows(run)], [row["loss"] for row in rows(local)], rtol=tolerance)
        ours, its = (json.loads((folder / "summary.json").read_text()) for folder in (run, local))
        for split in ("valid", "test"):
            np.testing.assert_allclose(
                [ours[split][n] for n in ("loss", "accuracy")], [its[split][n] for n in ("loss", "accuracy")], tolerance
            )
    said = " ".join(path.read_text(errors="replace") for path in logs.glob("*_log.out"))
    assert said.count(": validation accuracy") == 4  # one line for each run that a worker did


def test_an_array_of_commands_runs_each_once(slurm: dict[str, str], tmp_path: Path) -> None:
    write = "import os, sys; open(sys.argv[1], 'x').write(os.environ['SLURM_ARRAY_TASK_ID'])"
    commands = [[sys.executable, "-c", write, str(tmp_path / name)] for name in ("a", "b", "c")]
    jobs = Slurm(minutes=5).submit(commands, tmp_path / "logs", "several")
    assert len(jobs) == 3
    until(lambda: all((tmp_path / name).exists() and (tmp_path / name).read_text() for name in "abc"), 60, tmp_path / "logs")
    assert [(tmp_path / name).read_text() for name in "abc"] == ["0", "1", "2"]


def test_what_slurm_refuses_is_one_line(slurm: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Slurm rejects the job: .*partition"):
        Slurm(partition="nowhere").submit([["true"]], tmp_path, "x")
    assert os.environ["SLURM_CONF"] == slurm["SLURM_CONF"]


def test_a_cluster_leaves_nothing_behind(tmp_path: Path) -> None:
    def steps() -> set[psutil.Process]:
        alive = (process for process in psutil.process_iter(["name", "status"]) if process.info["status"] != psutil.STATUS_ZOMBIE)
        return {process for process in alive if process.info["name"].startswith(("slurmstepd", "srun", "sleep"))}

    folder, before = Path(tempfile.mkdtemp(prefix="slurm-")), steps()
    with cluster(folder) as environment:
        words = ["sbatch", "--wrap", f"srun sh -c 'touch {tmp_path}/begun; exec sleep 600'"]
        subprocess.run(words, env=environment, cwd=tmp_path, check=True, capture_output=True)
        end = time.monotonic() + 60
        while not (tmp_path / "begun").exists():
            assert time.monotonic() < end, (tmp_path / "slurm-1.out").read_text()
            time.sleep(0.1)
        begun = steps() - before
        assert len(begun) >= 4  # two steps, the command that has begun the second one, and its task
    assert not steps() & begun
    shutil.rmtree(folder)
