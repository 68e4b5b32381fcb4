"""Do sizes that grow during training help?"""

from pathlib import Path

from sgdr_jax import Sweep, arms
from sgdr_jax.experiment_file import load

base = load(Path(__file__).with_name("base.py"))

sweep = Sweep(
    "sizes",
    base,
    axes=(
        arms(
            {
                "32 px": {},
                "24 px": {"stages.*.size": 24},
                "16, 24, 32 px": {"stages.body.size": (16, 24, 32)},
                "32, 32, 40 px": {"stages.body.size": (32, 32, 40)},
            }
        ),
    ),
    seeds=(0, 1, 2, 3, 4),
)
