"""Does augmentation help, and how much of it?"""

from pathlib import Path

from sgdr_jax import load_experiment
from sgdr_jax.augment import trivial_augment
from sgdr_jax.sweeps import Sweep, arms

base = load_experiment(Path(__file__).with_name("base.py"))

sweep = Sweep(
    "augmentation",
    base,
    axes=(
        arms(
            {
                "recipe": {},
                "none": {"stages.*.augment": False},
                "half the strength": {"stages.*.strength": 0.5},
                "trivial_augment": {"augment": trivial_augment()},
            }
        ),
    ),
    seeds=(0, 1, 2, 3, 4),
    question=__doc__,
)
