"""Do larger images help, and larger ones for the last two of seven epochs?"""

from dataclasses import replace
from pathlib import Path

from sgdr_jax import Sgdr, lesson2, load_experiment
from sgdr_jax.sweeps import Sweep, arms

base = load_experiment(Path(__file__).with_name("base.py"))

LARGER = replace(base.stages[-1], name="larger", size=96, schedule=Sgdr(cycle_len=2, warmup=0.1))

sweep = Sweep(
    "sizes",
    base,
    axes=(
        arms(
            {
                "64 px": {},
                "48 px": {"stages.*.size": 48},
                "96 px": {"stages.*.size": 96},
                "64, then 96 px": {"stages": (*lesson2(size=64, views=4, cycle_len=5), LARGER)},
            }
        ),
    ),
    seeds=(0, 1, 2, 3, 4),
    question=__doc__,
)
