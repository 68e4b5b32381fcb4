"""Do warm restarts help, and which cycles? Seven epochs of all layer groups in every arm.

States are judged, and the best kept, at the ends of cycles; those of "constant" and "steps" are epochs."""

from pathlib import Path

from sgdr_jax import load_experiment
from sgdr_jax.schedules import Constant, OneCycle, Sgdr, StepDecay
from sgdr_jax.sweeps import Sweep, arms

base = load_experiment(Path(__file__).with_name("base.py"))

sweep = Sweep(
    "schedule",
    base,
    axes=(
        arms(
            {
                "one cosine cycle": {},
                "without warm-up": {"stages.all.schedule": Sgdr(cycle_len=7)},
                "cycles of 1, 2, 4": {"stages.all.schedule": Sgdr(cycles=3, cycle_mult=2, warmup=0.1)},
                "seven cycles of 1": {"stages.all.schedule": Sgdr(cycles=7, warmup=0.1)},
                "steps": {"stages.all.schedule": StepDecay(epochs=7, at=(3, 5))},
                "constant": {"stages.all.schedule": Constant(epochs=7)},
                "1cycle": {"stages.all.schedule": OneCycle(epochs=7)},
            }
        ),
    ),
    seeds=(0, 1, 2, 3, 4),
    question=__doc__,
)
