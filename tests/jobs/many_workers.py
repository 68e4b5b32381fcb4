"""Simulated workers of a sweep as threads of a process: python -m tests.jobs.many_workers FOLDER STORE THREADS WORKERS.

Each has its own view of the store, takes runs and trials until none is left, and executes one by making a file of its name, which fails
where the file is there, and the summary without which a run counts as lost. Their first run lasts until all WORKERS of all processes have
one, since real runs take longer than it takes the last worker to start; so they go on to the search at the same time too.
"""

import os
import random
import sys
import threading
import time
from pathlib import Path

from sgdr_jax import Sgd
from sgdr_jax.sweeps import Categorical, LogUniform, Search, Sweep, grid
from sgdr_jax.sweeps.optuna_study import Study
from sgdr_jax.sweeps.shared_queue import open_queue
from sgdr_jax.sweeps.spec import SweepRun, expand
from sgdr_jax.sweeps.sweep_record import run_folder

from .workers import BASE

SPACE = {"stages.all.lr": LogUniform(1e-4, 0.1), "optimizer": Categorical((Sgd(0.8), Sgd(0.95)))}
SWEEP = Sweep("many", BASE, (grid({"batch_size": tuple(range(2, 42))}),), seeds=tuple(range(10)), search=Search(SPACE, 200, "random", None))
RUNS = expand(SWEEP)
SECONDS = 400
"""Most that workers wait for each other."""


def execute(folder: Path, run: SweepRun) -> float:
    (folder / "done" / run.hash).touch(exist_ok=False)
    results = run_folder(folder, run.hash)
    results.mkdir(parents=True, exist_ok=True)
    (results / "summary.json").write_text('{"seconds": 0.5, "valid": {"accuracy": 0.5, "loss": 1.0}}')
    time.sleep(random.uniform(0, 0.02))
    return 0.5


def meeting(folder: Path, threads: int, workers: int) -> threading.Barrier:
    """Return a barrier of the threads of this process, which opens when those of all processes are there."""
    here = folder / "with a run"

    def wait() -> None:
        here.mkdir(exist_ok=True)
        (here / str(os.getpid())).touch()
        deadline = time.monotonic() + SECONDS
        while len(list(here.iterdir())) * threads < workers:
            assert time.monotonic() < deadline
            time.sleep(0.2)

    return threading.Barrier(threads, wait, SECONDS)


def worker(folder: Path, store: str, barrier: threading.Barrier) -> None:
    with open_queue(store, folder, SWEEP.name, RUNS, grace=120).alive() as queue:
        waited = False
        while queue.left(RUNS):
            while run := queue.take(RUNS):
                waited = waited or barrier.wait() >= 0
                queue.finish(run, execute(folder, run))
            time.sleep(0.5)
        with Study(queue, SWEEP, folder) as study:
            while study.left():
                while run := study.take():
                    study.finish(run, execute(folder, run))
                time.sleep(0.5)


if __name__ == "__main__":
    folder, store, own, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    errors: list[BaseException] = []
    barrier = meeting(folder, own, count)

    def guarded() -> None:
        try:
            worker(folder, store, barrier)
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=guarded) for _ in range(own)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.exit(bool(errors))
