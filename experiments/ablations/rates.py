"""Should earlier layer groups train at lower rates than later ones, and does the finder choose better ones than 3e-4?"""

from pathlib import Path

from sgdr_jax import Decay, Find, load_experiment
from sgdr_jax.sweeps import Sweep, arms

base = load_experiment(Path(__file__).with_name("base.py"))

sweep = Sweep(
    "rates",
    base,
    axes=(
        arms(
            {
                "3e-4, one rate": {},
                "1e-4": {"stages.all.lr": 1e-4},
                "1e-3": {"stages.all.lr": 1e-3},
                "3e-4, ratio 3": {"stages.all.lr": Decay(3e-4, 1 / 3)},
                "3e-4, ratio 10": {"stages.all.lr": Decay(3e-4, 1 / 10)},
                "1e-3, ratio 3": {"stages.all.lr": Decay(1e-3, 1 / 3)},
                "found by minimum": {"stages.all.lr": Find("minimum", steps=40)},
                "found by valley": {"stages.all.lr": Find("valley", steps=40)},
            }
        ),
    ),
    seeds=(0, 1, 2, 3, 4),
    question=__doc__,
)
