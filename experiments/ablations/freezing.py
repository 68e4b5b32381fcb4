"""What should train, and whose batch statistics should move?"""

from pathlib import Path

from sgdr_jax import Sweep, arms
from sgdr_jax.experiment_file import load

base = load(Path(__file__).with_name("base.py"))

sweep = Sweep(
    "freezing",
    base,
    axes=(
        arms(
            {
                "first group frozen": {},
                "and all statistics": {"stages.body.bn": "frozen"},
                "first group's statistics": {"stages.body.train": "all", "stages.body.lr": (2e-3 / 9, 2e-3 / 3, 2e-3)},
                "nothing frozen": {"stages.body.train": "all", "stages.body.lr": (2e-3 / 9, 2e-3 / 3, 2e-3), "stages.body.bn": "train"},
            }
        ),
    ),
    seeds=(0, 1, 2, 3, 4),
)
