"""Do the networks at cycle ends help, together or averaged? Four cycles of two epochs. Compare with `--networks`.

Each run answers as its final network, the cycle end that the validation images like best, and again as its last one, as a moving average
of the weights, as ensembles of cycle ends and as averages of their weights, whose batch statistics are measured anew on all training
images; the figures are for the same seeds, so only what is made of a training differs."""

from pathlib import Path

from sgdr_jax import AdamW, Snapshots, load_experiment
from sgdr_jax.schedules import Sgdr
from sgdr_jax.sweeps import Sweep, with_values

base = load_experiment(Path(__file__).with_name("base.py"))

sweep = Sweep(
    "snapshots",
    with_values(
        base,
        (
            ("stages.all.schedule", Sgdr(cycles=4, cycle_len=2, warmup=0.1)),
            ("snapshots", Snapshots(last=4)),
            ("optimizer", AdamW(ema=0.99)),
        ),
    ),
    seeds=(0, 1, 2, 3, 4),
    question=__doc__,
)
