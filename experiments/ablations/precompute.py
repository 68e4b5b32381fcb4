"""Does the head lose by being fitted to cached activations, and how many augmented copies does the cache need? The head alone."""

from dataclasses import replace
from pathlib import Path

from sgdr_jax import load_experiment
from sgdr_jax.schedules import Sgdr
from sgdr_jax.sweeps import Sweep, arms, with_values

base = load_experiment(Path(__file__).with_name("base.py"))

SOLVED = base.stages[0]
TRAINED = replace(SOLVED, solve=None, lr=3e-3, schedule=Sgdr(cycle_len=10))

sweep = Sweep(
    "precompute",
    with_values(base, (("name", "head"), ("stages", (SOLVED,)))),
    axes=(
        arms(
            {
                "solved, 4 cached copies": {},
                "solved, 2 cached copies": {"stages.0.views": 2},
                "solved, 1 cached copy": {"stages.0.views": 1},
                "solved, plain images": {"stages.0.augment": False, "stages.0.views": 0},
                "trained, 4 cached copies": {"stages": (TRAINED,)},
                "trained, fresh augmentation": {"stages": (replace(TRAINED, precompute=False, views=0),)},
            }
        ),
    ),
    seeds=(0, 1, 2, 3, 4),
    question=__doc__,
)
