"""Lanes of whole networks against the same runs alone, in float64 and float32; test_lanes.py runs it in a process of its own.

python -m tests.lanes_job OUT    writes OUT/DTYPE.json: for each optimizer the losses of all updates and runs, of "lanes" and "alone"
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # before jax is imported; the test runner reads this file too
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["JAX_NUMPY_DTYPE_PROMOTION"] = "standard"  # what is float32 by its nature, as the weight of an example, meets float64

import jax

from sgdr_jax import AdamW, Eval, Experiment, Sgd, Stage, Sweep, grid, lanes
from sgdr_jax.augment import side_on
from sgdr_jax.contest import Verdict
from sgdr_jax.datasets import Synthetic
from sgdr_jax.logbook import read
from sgdr_jax.schedules import Constant
from sgdr_jax.sweep import expand, run_folder
from sgdr_jax.workers import work

from .devices_job import Smooth

OPTIMIZERS = {"SGD": Sgd(), "AdamW": AdamW()}
DATA = Synthetic(classes=3, train=58, valid=21, test=19, side=16)
STAGE = Stage("all", size=16, lr=(1e-3, 3e-3, 1e-2), schedule=Constant(10))


def losses(optimizer: str, folder: Path, width: int | None) -> list[list[float]]:
    """Training losses of all updates, of each run."""
    how: dict[str, Any] = {"evaluate": Eval(batch_size=16, tta_views=0), "compute": "float64" if jax.config.jax_enable_x64 else "float32"}
    how |= {"optimizer": OPTIMIZERS[optimizer], "augment": side_on(), "batch_size": 16}
    base = Experiment("s", data=DATA, model=Smooth(), stages=(STAGE,), **how)
    sweep = Sweep("s", base, (grid({"stages.0.lr": ((1e-3, 3e-3, 1e-2), (3e-3, 1e-2, 3e-2))}),), seeds=(0, 1))
    assert [entry.state for entry in work(sweep, folder, lanes=width)] == ["finished"] * 4
    rows = [read(run_folder(folder, run.hash)).rows for run in expand(sweep)]
    return [[row["loss"] for row in run if row["kind"] == "train"] for run in rows]


if __name__ == "__main__":
    out = Path(sys.argv[1])
    lanes.contest = lambda *_: Verdict(True, 1, 1, 0, "")  # vectorised, whether that is faster or not
    for wide in (True, False):
        jax.config.update("jax_enable_x64", wide)
        dtype = "float64" if wide else "float32"
        ways = (("lanes", None), ("alone", 1))
        found = {name: {way: losses(name, out / f"{dtype}-{name}-{way}", n) for way, n in ways} for name in OPTIMIZERS}
        (out / f"{dtype}.json").write_text(json.dumps(found))
