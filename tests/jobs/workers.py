"""A worker of a sweep as a process of its own: python -m tests.jobs.workers FOLDER STORE GRACE [searched]."""

import dataclasses
import sys
from pathlib import Path

from sgdr_jax import Eval, Experiment, Sgd, Stage
from sgdr_jax.datasets import Synthetic
from sgdr_jax.schedules import Sgdr
from sgdr_jax.sweeps import Categorical, LogUniform, Median, Search, Sweep, grid

from ..helpers import Tiny

STAGES = (
    Stage("cached", size=16, train="head", lr=0.01, schedule=Sgdr(2), precompute=True, augment=False),
    Stage("all", size=16, lr=(0.001, 0.003, 0.01), schedule=Sgdr(3)),
)
DATA = Synthetic(classes=3, train=58, valid=21, test=19, side=16)
COMMON = {"optimizer": Sgd(), "batch_size": 16, "evaluate": Eval(batch_size=16, tta_views=0)}
BASE = Experiment("small", data=DATA, model=Tiny(), stages=STAGES, **COMMON)
SWEEP = Sweep("shared", BASE, (grid({"stages.0.lr": (0.01, 0.03, 1e30)}),), seeds=(0, 1))
"""Four runs that finish and two that fail."""
GROUPED = dataclasses.replace(SWEEP, base=dataclasses.replace(BASE, compute="float64"))
"""The same in float64: the order of float32 sums over two hosts changes losses by 3e-6 where a feature hardly varies within a batch."""
SPACE = {"stages.all.lr": LogUniform(1e-4, 0.1), "optimizer": Categorical((Sgd(0.8), Sgd(0.95)))}
SEARCHED = Sweep("searched", BASE, seeds=(0, 1), search=Search(SPACE, 6, "random", Median(startup=2)))
"""The base twice, six trials, and the best of them once more."""

if __name__ == "__main__":
    from sgdr_jax.core.console import Console
    from sgdr_jax.sweeps.options import WorkerOptions
    from sgdr_jax.sweeps.runner import work

    folder, store, grace = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    options = WorkerOptions(keep="all", pace=0, store=store, grace=grace)
    done = work(SEARCHED if "searched" in sys.argv else SWEEP, folder, options, ui=Console())
    print("states", *(entry.state for entry in done), flush=True)
