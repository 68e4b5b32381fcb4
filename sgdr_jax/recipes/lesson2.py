"""The eight-step recipe of fast.ai's lesson 2: its settings and its stages."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, Literal

from ..core.experiment import Stage
from ..core.learning_rates import Find
from ..core.optimizers import Optimizer
from ..core.types import Schedule
from ..core.validation import require
from ..schedules import Sgdr

CACHED = Sgdr(cycles=4, cycle_len=2, cycle_mult=2)
"""Thirty epochs for the head on cached activations. They take moments, and a head trained for fewer is behind a logistic regression on the
same activations."""

HEAD = Find("valley", steps=100, orders=3, epochs=10)
BODY = Find(start=1e-5, stop=0.5, steps=22, orders=2, epochs=10, lowest=3e-4)
"""Once the head has memorised its images, the loss has little left to fall and the finder can choose a rate a hundred times too low; with
this lower bound such a stage trains: 0.902 instead of 0.895 on scikit-learn's digits."""


@dataclass(frozen=True)
class Lesson2:
    """Settings of the eight-step recipe; `stages` builds it.

    Steps 1–3, stage "cached head": computes the activations of the frozen body once on augmented images, finds the learning rate, and
    trains the head on them. Step 4, stage "head": trains the head on fresh augmentation at the same rate. Steps 5–8, stage "all":
    unfreezes everything, gives each earlier layer group a rate 10x (images like ImageNet's) or 3x (others) below the next one's, finds
    the rate again, and trains with `cycle_mult` 2 until the network overfits: the stage stops at a cycle end once the validation loss
    has not improved `patience` times in a row, and keeps the best cycle. `gradual` adds a stage between steps 4 and 5.

    Source: fast.ai "Practical Deep Learning for Coders" part 1 (2018), lesson 2; gradual unfreezing: Howard & Ruder 2018.

    Example:
        >>> [stage.name for stage in Lesson2(96, gradual=Sgdr()).stages()]
        ['cached head', 'head', 'gradual', 'all']
    """

    size: int
    """Side in pixels that the network sees."""
    similar_to_imagenet: bool = True
    """Whether the images are photographs of everyday things; decides the ratio of the groups' rates."""
    _: KW_ONLY
    cached: Schedule = CACHED
    """Schedule of the head on cached activations, whose epochs cost next to nothing on a small set."""
    views: int = 1
    """Augmented copies of each image in the cache, used in turn; 0 caches the plain images."""
    head_cycles: int = 2
    """Epochs of the head on fresh augmentation; 0 leaves step 4 out."""
    gradual: Schedule | None = None
    """Schedule of a stage that trains all but the first layer group before everything is unfrozen; None for no such stage. The activations
    of the first group are the largest, so this is also the cheaper half of the work."""
    cycles: int = 3
    """Cycles of the last stage."""
    cycle_len: float = 1
    """Epochs of its first cycle."""
    cycle_mult: float = 2
    """Length of each of its cycles relative to the one before."""
    bn: Literal["train", "frozen"] | tuple[str, ...] = "train"
    """Batch normalisation of the unfrozen body; "frozen" keeps the stored statistics (small sets)."""
    budget: float | None = None
    """Epochs of steps 4–8, cached ones not counted; replaces `cycles` and `cycle_len`, see `fit_cycles`. None: as they are."""
    patience: int | None = 1
    """Cycle ends in a row without improvement after which the last stage stops; None runs all cycles."""
    optimizer: Optimizer | None = None
    """Overrides the experiment's optimizer."""
    find: Find | None = None
    """Settings of the finder; the recipe replaces their ratio in the unfrozen stages. None: `HEAD` for the cached head and `BODY`, with
    fewer updates since these cost more, for the unfrozen stages; both may last ten epochs of a small set."""

    def stages(self) -> tuple[Stage, ...]:
        """Return the stages in order, ready for `Experiment.stages`; append a stage with a larger size to go on.

        Raises:
            InputError: the budget is spent before the last stage.
        """
        cached = Stage(
            "cached head",
            self.size,
            train="head",
            lr=self.find or HEAD,
            schedule=self.cached,
            precompute=True,
            augment=self.views > 0,
            views=self.views,
            optimizer=self.optimizer,
        )
        everything = Stage(
            "all",
            self.size,
            lr=replace(self.find or BODY, ratio=10.0 if self.similar_to_imagenet else 3.0),
            schedule=self._last_schedule(),
            bn=self.bn,
            patience=self.patience,
            optimizer=self.optimizer,
        )
        between: list[Stage] = []
        if self.head_cycles:
            schedule = Sgdr(self.head_cycles)
            between.append(Stage("head", self.size, train="head", lr=None, schedule=schedule, optimizer=self.optimizer))
        if self.gradual:
            between.append(replace(everything, name="gradual", train=1, schedule=self.gradual))
        return (cached, *between, everything)

    def _last_schedule(self) -> Sgdr:
        cycles, cycle_len = self.cycles, self.cycle_len
        if self.budget is not None:
            spent = self.head_cycles + (len(self.gradual.table(1000).scale) / 1000 if self.gradual else 0)
            fix = f"the stages before the last take {spent:g} epochs; give more, or shorten them"
            require(self.budget > spent, "budget", self.budget, fix)
            cycles, cycle_len = fit_cycles(self.budget - spent, self.cycle_mult)
        return Sgdr(cycles, cycle_len, self.cycle_mult)


def _with_fields_of[**P, R](kind: Callable[P, object]) -> Callable[[Callable[..., R]], Callable[P, R]]:
    """Give a function the signature of a dataclass, for editors, type checkers and `help`."""

    def decorate(function: Callable[..., R]) -> Callable[P, R]:
        function.__signature__ = inspect.signature(kind)  # pyright: ignore[reportFunctionMemberAccess]
        return function

    return decorate


@_with_fields_of(Lesson2)
def lesson2(*args: Any, **fields: Any) -> tuple[Stage, ...]:
    """Return the stages of the eight-step recipe; `Lesson2` documents the settings.

    Example:
        >>> [stage.name for stage in lesson2(96, similar_to_imagenet=False)]
        ['cached head', 'head', 'all']
    """
    return Lesson2(*args, **fields).stages()


def fit_cycles(epochs: float, cycle_mult: float = 2) -> tuple[int, float]:
    """Return number of cycles and length of the first that fill a budget and end with it.

    There are as many cycles (at most 16) as fit with a first one of at least one epoch; the first is then stretched to fill the budget. A
    budget that ended inside a cycle would be spent on a network at a high rate.

    Example:
        >>> fit_cycles(7), fit_cycles(10), fit_cycles(3, 1)
        ((3, 1.0), (3, 1.4285714285714286), (3, 1.0))
    """
    ends = list(itertools.accumulate(cycle_mult**i for i in range(16)))
    cycles = max(sum(end <= epochs for end in ends), 1)
    return cycles, epochs / ends[cycles - 1]
