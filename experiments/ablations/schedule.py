"""Do warm restarts help, and which cycles? Three epochs of the body in all arms.

Where there are no restarts, the state with the best validation accuracy at an epoch's end is kept, where there are, at a cycle's end."""

from pathlib import Path

from sgdr_jax import load_experiment
from sgdr_jax.schedules import Constant, Cosine, OneCycle, Sgdr, StepDecay
from sgdr_jax.sweeps import Sweep, arms

base = load_experiment(Path(__file__).with_name("base.py"))

sweep = Sweep(
    "schedule",
    base,
    axes=(
        arms(
            {
                "cycles of 1, 2 epochs": {},
                "cycles of 1, 1, 1": {"stages.body.schedule": Sgdr(cycles=3)},
                "six cycles of 1/2": {"stages.body.schedule": Sgdr(cycles=6, cycle_len=0.5)},
                "cosine": {"stages.body.schedule": Cosine(epochs=3)},
                "steps": {"stages.body.schedule": StepDecay(epochs=3, at=(1, 2))},
                "constant": {"stages.body.schedule": Constant(epochs=3)},
                "one cycle": {"stages.body.schedule": OneCycle(epochs=3)},
            }
        ),
    ),
    seeds=(0, 1, 2, 3, 4),
    question=__doc__,
)
