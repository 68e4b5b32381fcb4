"""The eight steps of the lesson-2 recipe as stages, and a whole experiment around them."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any, Literal

from ..augment import side_on
from ..core.experiment import Eval, Experiment, Stage
from ..core.learning_rates import Find
from ..core.optimizers import AdamW, Optimizer
from ..core.types import Dataset, Model, Schedule
from ..core.validation import require
from ..schedules import Sgdr

CACHED = Sgdr(cycles=4, cycle_len=2, cycle_mult=2)
"""Thirty epochs for the head on cached activations. An epoch of them takes a moment, and a head that has had too few is behind a logistic
regression on the same activations."""

HEAD = Find("valley", steps=100, orders=3, epochs=10)
BODY = Find(start=1e-5, stop=0.5, steps=22, orders=2, epochs=10, lowest=3e-4)
"""After a head that has learned its images by heart the loss has little left to fall, and the finder's choice can be a hundred times too
low; with this bound such a stage trains: 0.902 instead of 0.895 on scikit-learn's digits."""


def lesson2(
    size: int,
    similar_to_imagenet: bool = True,
    *,
    cached: Schedule = CACHED,
    views: int = 1,
    head_cycles: int = 2,
    gradual: Schedule | None = None,
    cycles: int = 3,
    cycle_len: float = 1,
    cycle_mult: float = 2,
    bn: Literal["train", "frozen"] | tuple[str, ...] = "train",
    budget: float | None = None,
    patience: int | None = 1,
    optimizer: Optimizer | None = None,
    find: Find | None = None,
) -> tuple[Stage, ...]:
    """The stages of the eight-step recipe, and between its fourth and fifth step one of gradual unfreezing where it is asked for.

    Steps 1–3, stage "cached head": augmentation on, activations of the frozen body computed once, learning rate found, head trained.
    Step 4, stage "head": head trained on fresh augmentation, at the same rate. Steps 5–8, stage "all": everything unfrozen, each
    earlier group at a rate 10x (images like ImageNet's) or 3x (others) below the next one's, rate found again, `cycle_mult` 2 until
    it overfits: stopped at a cycle end once the validation loss has not improved `patience` times running, the best cycle kept.

    Args:
        size: side in pixels that the network sees.
        similar_to_imagenet: whether the images are photographs of everyday things; decides the ratio of the groups' rates.
        cached: schedule of the head on cached activations, whose epochs cost next to nothing on a small set.
        views: augmented copies of each image in the cache, gone through in turn; 0 caches the plain images.
        head_cycles: epochs of the head on fresh augmentation; 0 leaves step 4 out.
        gradual: schedule of a stage that trains all but the first layer group before everything is unfrozen; None for no such stage.
            The first group's images are the largest, so this is also the cheaper half of the work.
        cycles, cycle_len, cycle_mult: restarts of the last stage.
        budget: epochs that steps 4–8 may take, cached ones not counted; decides `cycles` and `cycle_len`, see `fit_cycles`.
        bn: batch normalisation of the unfrozen body; "frozen" keeps the stored statistics (small sets).
        patience: cycle ends without improvement until the last stage stops; None runs all cycles.
        optimizer: overrides the experiment's.
        find: settings of the finder; its ratio is replaced by the recipe's in the unfrozen stages. None takes `HEAD` for the cached head
            and `BODY`, of fewer updates since these cost more, for the unfrozen stages; both may go on for ten epochs of a small set.

    Returns:
        Three stages (two without step 4, one more with `gradual`), ready for `Experiment.stages`; add a stage with a larger size to go on.

    Source: fast.ai "Practical Deep Learning for Coders" part 1 (2018), lesson 2; gradual unfreezing: Howard & Ruder 2018.

    Example:
        >>> [stage.name for stage in lesson2(96, similar_to_imagenet=False)]
        ['cached head', 'head', 'all']
    """
    common = {"size": size, "optimizer": optimizer}
    first = Stage(
        "cached head",
        train="head",
        lr=find or HEAD,
        schedule=cached,
        precompute=True,
        augment=views > 0,
        views=views,
        **common,
    )
    head = Stage("head", train="head", lr=None, schedule=Sgdr(head_cycles), **common) if head_cycles else None
    body = replace(find or BODY, ratio=10.0 if similar_to_imagenet else 3.0)
    upper = Stage("gradual", train=1, lr=body, schedule=gradual, bn=bn, patience=patience, **common) if gradual else None
    if budget is not None:
        spent = head_cycles + (_epochs(gradual) if gradual else 0)
        require(budget > spent, "budget", budget, f"the stages before the last take {spent:g} epochs; give more, or shorten them")
        cycles, cycle_len = fit_cycles(budget - spent, cycle_mult)
    everything = Stage("all", train="all", lr=body, schedule=Sgdr(cycles, cycle_len, cycle_mult), bn=bn, patience=patience, **common)
    return tuple(stage for stage in (first, head, upper, everything) if stage)


def gradually(stage: Stage, groups: int, each: Schedule) -> tuple[Stage, ...]:
    """A stage that trains everything, with stages before it that unfreeze one more layer group each, from the last one down.

    Args:
        stage: the last of them; the others differ from it in name, in what trains, and in their schedule.
        groups: layer groups of the model, at least 1; the first stage trains the last group alone.
        each: schedule of the stages before the last.

    Source: Howard & Ruder 2018, "Universal Language Model Fine-tuning" (one epoch each).

    Example:
        >>> [(s.name, s.train) for s in gradually(Stage("all", schedule=Sgdr(2)), 3, Sgdr())]
        [('all, last 1', -1), ('all, last 2', -2), ('all', 'all')]
    """
    lr = None if isinstance(stage.lr, tuple) else stage.lr  # one rate for each group fits the last stage only
    before = (replace(stage, name=f"{stage.name}, last {k}", train=-k, schedule=each, lr=lr or Find()) for k in range(1, groups))
    return (*before, stage)


def _epochs(schedule: Schedule) -> float:
    return len(schedule.table(1000).scale) / 1000


def fit_cycles(epochs: float, cycle_mult: float = 2) -> tuple[int, float]:
    """Number of cycles, and length of the first, that fill a budget and end with it: as many as there can be with a first cycle of at least
    one epoch (at most 16), stretched to fill it.

    A budget that ends inside a cycle would be spent on a network at a high rate.

    >>> fit_cycles(7), fit_cycles(10), fit_cycles(3, 1)
    ((3, 1.0), (3, 1.4285714285714286), (3, 1.0))
    """
    ends = list(itertools.accumulate(cycle_mult**i for i in range(16)))
    cycles = max(sum(end <= epochs for end in ends), 1)
    return cycles, epochs / ends[cycles - 1]


def fine_tune(name: str, data: Dataset, model: Model, size: int = 224, similar_to_imagenet: bool = True, **fields: Any) -> Experiment:
    """The eight steps as an experiment: photographs taken from the side, four TTA views, AdamW, rates by the finder.

    Args:
        size, similar_to_imagenet: as in `lesson2`.
        fields: of `Experiment`, in place of these.

    Example:
        >>> from sgdr_jax.datasets import Synthetic
        >>> from sgdr_jax.models import ResNet34
        >>> fine_tune("rings", Synthetic(), ResNet34(), size=96, batch_size=32).batch_size
        32
    """
    stages = lesson2(size, similar_to_imagenet, views=2, head_cycles=1)
    common = {"augment": side_on(zoom=1.1), "stages": stages, "optimizer": AdamW(), "evaluate": Eval(tta_views=4)}
    return Experiment(**{"name": name, "data": data, "model": model} | common | fields)
