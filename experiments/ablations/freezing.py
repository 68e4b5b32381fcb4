"""What should train, when is it unfrozen, should batch statistics move? Seven epochs after the solved head in every arm but the last."""

from pathlib import Path

from sgdr_jax import Sgdr, lesson2, load_experiment
from sgdr_jax.sweeps import Sweep, arms

base = load_experiment(Path(__file__).with_name("base.py"))

sweep = Sweep(
    "freezing",
    base,
    axes=(
        arms(
            {
                "all groups, stored statistics": {},
                "trained statistics": {"stages.all.bn": "train"},
                "first group stays": {"stages.all.train": 1},
                "unfrozen step by step": {"stages": lesson2(size=64, views=4, head_cycles=1, gradual=Sgdr(warmup=0.1), budget=7)},
                "the solved head alone": {"stages": base.stages[:1]},
            }
        ),
    ),
    seeds=(0, 1, 2, 3, 4),
    question=__doc__,
)
