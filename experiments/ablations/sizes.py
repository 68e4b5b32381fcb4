"""Do sizes that grow during training help?"""

from pathlib import Path

from sgdr_jax import load_experiment
from sgdr_jax.sweeps import Sweep, arms

base = load_experiment(Path(__file__).with_name("base.py"))

sweep = Sweep(
    "sizes",
    base,
    axes=(
        arms(
            {
                "48 px": {},
                "32 px": {"stages.*.size": 32},
                "64 px": {"stages.*.size": 64},
                "32, then 48 px": {"stages.head.size": 32},
                "48, then 64 px": {"stages.body.size": 64},
            }
        ),
    ),
    seeds=(0, 1, 2, 3, 4),
    question=__doc__,
)
