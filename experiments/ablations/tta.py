"""Which test-time views help? The head alone trained, so that the evaluation is the larger part. Compare with `--tta`."""

from pathlib import Path

from sgdr_jax import load_experiment
from sgdr_jax.schedules import Sgdr
from sgdr_jax.sweeps import Sweep, arms, with_values

base = load_experiment(Path(__file__).with_name("base.py"))

sweep = Sweep(
    "tta",
    with_values(base, (("name", "head"), ("stages", base.stages[:1]), ("stages.head.schedule", Sgdr(cycles=4)))),
    axes=(
        arms(
            {
                "plain view": {},
                "flip": {"evaluate.tta_views": 1, "evaluate.tta_kind": "flip", "evaluate.tta_weight": None},
                "2 random views": {"evaluate.tta_views": 2},
                "4 random views": {"evaluate.tta_views": 4},
                "corners and centre": {"evaluate.tta_views": 5, "evaluate.tta_kind": "five"},
            }
        ),
    ),
    seeds=(0, 1, 2, 3, 4),
    question=__doc__,
)
