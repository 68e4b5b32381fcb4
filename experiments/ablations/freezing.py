"""What should train, and whose batch statistics should move?"""

from pathlib import Path

from sgdr_jax import load_experiment
from sgdr_jax.sweeps import Sweep, arms

base = load_experiment(Path(__file__).with_name("base.py"))

sweep = Sweep(
    "freezing",
    base,
    axes=(
        arms(
            {
                "last blocks train": {},
                "their statistics frozen": {"stages.body.bn": "frozen"},
                "the head alone": {"stages.body.train": "head", "stages.body.lr": 2e-3},
            }
        ),
    ),
    seeds=(0, 1, 2, 3, 4),
    question=__doc__,
)
