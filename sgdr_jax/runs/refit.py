"""Training once more on every image: what the held-out images decided, as an experiment in which nothing is left to decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..core.experiment import Experiment
from ..datasets import TrainAndValid
from ..schedules import FirstCycles


def settled(experiment: Experiment, stages: Sequence[Mapping[str, Any]]) -> Experiment:
    """The experiment on the training and the held-out images together, as its first training found best.

    Its stages are those that were kept, each at the rates that were given or found, up to the cycle whose network was kept. Epochs stay
    epochs: with more images they are more updates.

    Args:
        experiment: with `refit`.
        stages: summaries of its stages: "lr" rates, "kept", "cycles" until the network that was kept.
    """
    kept = [
        replace(stage, lr=tuple(told["lr"]), schedule=FirstCycles(stage.schedule, told["cycles"]), patience=None)
        for stage, told in zip(experiment.stages, stages, strict=True)
        if told["kept"] or not experiment.keep_best
    ]
    return replace(experiment, data=TrainAndValid(experiment.data), stages=tuple(kept), keep_best=False, refit=False)
