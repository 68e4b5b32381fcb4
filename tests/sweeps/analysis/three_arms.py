"""A sweep of three arms, of which one is worse than the baseline."""

from typing import Any

from sgdr_jax.sweeps import Sweep, arms
from sgdr_jax.sweeps.analysis.compare import Comparison

from ...helpers import experiment

SKILL = {"recipe": 1.2, "without": 0.7, "same": 1.2}
SWEEP = Sweep(
    "three",
    experiment(),
    (arms({"recipe": {}, "without": {"label_smoothing": 0.1}, "same": {"label_smoothing": 0.2}}),),
    seeds=(0, 1, 2, 3, 4, 5),
    question="Does it help?\n\nAnd | how?",
)
LEFT_OUT = {"skip": (8, 9)}  # of "without" the seeds 2 and 3


def of(found: Comparison, name: str) -> Any:
    return next(arm for arm in found.arms if arm.name == name)
