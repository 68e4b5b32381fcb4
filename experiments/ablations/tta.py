"""Which test-time views help? Compare with `--tta`."""

from pathlib import Path

from sgdr_jax import load_experiment
from sgdr_jax.sweeps import Sweep, arms

base = load_experiment(Path(__file__).with_name("base.py"))

sweep = Sweep(
    "tta",
    base,
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
