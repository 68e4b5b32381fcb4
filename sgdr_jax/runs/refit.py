"""Refit: the experiment that trains on all images with the rates, stages and cycles that the validation images chose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..core.experiment import Experiment
from ..datasets import TrainAndValid
from ..schedules import FirstCycles
from .records import StageSummary


def settled(experiment: Experiment, stages: Sequence[StageSummary]) -> Experiment:
    """Return the experiment on the training and validation images together, as its first training turned out best.

    It has the stages that were kept, each at its given or found rates, times the share at which one that diverged went on
    (`on_divergence`), up to the cycle whose network was kept. Lengths stay in epochs, which with more images are more updates unless
    `epoch_steps` fixes their number. A solved head is solved again, its strength chosen anew.

    Args:
        experiment: the experiment of the first training.
        stages: summaries of its stages.
    """
    kept = [
        stage
        if stage.solve
        else replace(stage, lr=final_rates(summary), schedule=FirstCycles(stage.schedule, summary["cycles"]), patience=None)
        for stage, summary in zip(experiment.stages, stages, strict=True)
        if summary["kept"] or not experiment.keep_best
    ]
    return replace(experiment, data=TrainAndValid(experiment.data), stages=tuple(kept), keep_best=False, refit=False)


def final_rates(stage: StageSummary) -> tuple[float, ...]:
    """Return the peak rates of a stage as it ended with them: lower than it began with where it diverged and went back."""
    return tuple(stage.get("lr_scale", 1.0) * rate for rate in stage["lr"])
