"""Refit: the experiment that trains on all images with the rates, stages and cycles that the validation images chose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..core.experiment import Experiment
from ..core.lengths import Images, Steps, lengths
from ..core.plan import StagePlan
from ..data.load import canvas_side
from ..datasets import TrainAndValid
from ..schedules import FirstCycles
from .records import StageSummary


def settled(experiment: Experiment, stages: Sequence[StageSummary], plans: Sequence[StagePlan]) -> Experiment:
    """Return the experiment on the training and validation images together, as its first training turned out best.

    It has the stages that were kept, each at its given or found rates, times the share at which one that diverged went on
    (`on_divergence`), up to the cycle whose network was kept. Lengths stay as they are: epochs of more images are more updates unless
    `epoch_steps` fixes their number; all of them, where the first training had a share (`first_epoch_share`). A solved head is solved
    again, its strength chosen anew.

    Args:
        experiment: the experiment of the first training.
        stages: summaries of its stages.
        plans: plans of its stages.
    """
    kept = [
        stage if stage.solve else replace(stage, lr=final_rates(summary), schedule=_up_to(p, summary["cycles"]), patience=None)
        for stage, summary, p in zip(experiment.stages, stages, plans, strict=True)
        if summary["kept"] or not experiment.keep_best
    ]
    again = replace(experiment, data=TrainAndValid(experiment.data), stages=tuple(kept), keep_best=False, refit=False)
    # Whatever stages are left, the network sees images as the first training stored them.
    side = canvas_side(experiment.canvas, experiment.largest_size)
    return again if canvas_side(again.canvas, again.largest_size) == side else replace(again, canvas=side)


def _up_to(p: StagePlan, cycles: int) -> FirstCycles:
    """Return the schedule of a stage up to the end of a cycle.

    A schedule whose length is a number of updates or images keeps it, but its cycles are epochs, of more updates with more images: it ends
    at the same share of its updates instead.
    """
    schedule = p.stage.schedule
    if not any(isinstance(length, Steps | Images) for length in lengths(schedule)):
        return FirstCycles(schedule, cycles)
    return FirstCycles(schedule, cycles, np.searchsorted(p.table.cycle, cycles).item() / p.steps)


def final_rates(stage: StageSummary) -> tuple[float, ...]:
    """Return the peak rates of a stage as it ended with them: lower than it began with where it diverged and went back."""
    return tuple(stage.get("lr_scale", 1.0) * rate for rate in stage["lr"])


def loss_warnings(experiment: Experiment, again: Sequence[StageSummary], first: Sequence[StageSummary]) -> list[str]:
    """Return a line for each stage whose refit ends at a much higher training loss, 2 L + 0.1, than the first training at L.

    No held-out images judge a refit. Losses are means over the last epoch, which a fifth more images raise a little: of 22 runs on eight
    sets the largest sound pairs were 0.177 and 0.217, 0.015 and 0.035; one whose test accuracy was four points lower than that of other
    seeds had 0.016 and 0.293. All of these had as many updates before as after; a shorter first training (`first_epoch_share`) has the
    higher loss, so that less is warned of. Heads that are solved are left out: another weight decay moves their loss.

    Args:
        experiment: as returned by `settled`.
        again: summaries of its stages.
        first: those of the first training's stages.
    """
    before = {stage["name"]: stage["train_loss"] for stage in first}
    return [
        f"the refit of stage {stage.name!r} ended at a training loss of {summary['train_loss']:.3f}, the first training at "
        f"{before[stage.name]:.3f}: the final network may be worse than the validation figures; try another seed, or no refit (--no-refit)"
        for stage, summary in zip(experiment.stages, again, strict=True)
        if not stage.solve and not summary["train_loss"] <= 2 * before[stage.name] + 0.1  # warns of NaN too
    ]
