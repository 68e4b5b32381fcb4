"""Does the head lose by being trained on cached activations, and how many augmented copies does the cache need? The head alone."""

from pathlib import Path

from sgdr_jax import load_experiment
from sgdr_jax.schedules import Sgdr
from sgdr_jax.sweeps import Sweep, arms, with_values

base = load_experiment(Path(__file__).with_name("base.py"))

sweep = Sweep(
    "precompute",
    with_values(base, (("name", "head"), ("stages", base.stages[:1]), ("stages.head.schedule", Sgdr(cycles=4)))),
    axes=(
        arms(
            {
                "2 cached copies": {},
                "4 cached copies": {"stages.head.views": 4},
                "1 cached copy": {"stages.head.views": 1},
                "plain images cached": {"stages.head.augment": False},
                "fresh augmentation": {"stages.head.precompute": False, "stages.head.views": 0},
            }
        ),
    ),
    seeds=(0, 1, 2, 3, 4),
    question=__doc__,
)
