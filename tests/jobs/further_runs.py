"""A process of a worker whose runs are stand-ins: python -m tests.jobs.further_runs FOLDER until|search [PORT INDEX], of two if given.

The stand-in leaves a summary; queue, comparison and agreement of the processes are real.
"""

import json
import sys
from pathlib import Path
from unittest import mock

import numpy as np

from sgdr_jax.distributed import hosts
from sgdr_jax.runs import run
from sgdr_jax.sweeps import Sweep, arms
from sgdr_jax.sweeps.options import WorkerOptions
from sgdr_jax.sweeps.runner import work

from .workers import BASE, SEARCHED

TWO_ARMS = Sweep("further", BASE, (arms({"plain": {}, "smoothed": {"label_smoothing": 0.1}}),), seeds=(0, 1, 2))


def stand_in(experiment, folder, **_):
    rng = np.random.default_rng([experiment.seed, int(1000 * experiment.label_smoothing)])
    figures = {"accuracy": 0.7 + 0.02 * float(rng.normal()), "loss": 1.0}
    summary = {"valid": figures, "test": figures, "stages": [], "seconds": 0.1}
    if hosts.is_leader():
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / "summary.json").write_text(json.dumps(summary))
    return summary


if __name__ == "__main__":
    folder, kind, group = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    if group:
        hosts.initialize(f"127.0.0.1:{group[0]}", 2, int(group[1]))
    sweep, until = (SEARCHED, None) if kind == "search" else (TWO_ARMS, 2.0)
    with hosts.exit_together(), mock.patch.object(run, "run", stand_in):
        done = work(sweep, folder, WorkerOptions(until=until))
    further = [entry.state for entry in done if entry.run.seed not in sweep.seeds or entry.run.arm not in {"base", "plain", "smoothed"}]
    print("further", len(further), *sorted(set(further)), flush=True)
