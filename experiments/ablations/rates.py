"""How far below the head's rate should the body's be, and does the finder choose better ones?"""

from pathlib import Path

from sgdr_jax import Find, load_experiment
from sgdr_jax.sweeps import Sweep, arms

base = load_experiment(Path(__file__).with_name("base.py"))

sweep = Sweep(
    "rates",
    base,
    axes=(
        arms(
            {
                "fixed, body 1/3": {},
                "fixed, body 1/1": {"stages.body.lr": (2e-3, 2e-3)},
                "fixed, body 1/10": {"stages.body.lr": (2e-4, 2e-3)},
                "found by minimum": {"stages.body.lr": Find("minimum", ratio=3, start=1e-5, stop=1, steps=40)},
                "found by valley": {"stages.body.lr": Find("valley", ratio=3, start=1e-5, stop=1, steps=40)},
            }
        ),
    ),
    seeds=(0, 1, 2, 3, 4),
    question=__doc__,
)
