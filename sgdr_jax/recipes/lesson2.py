"""The eight-step recipe of fast.ai's lesson 2: its settings and its stages."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, Literal

from ..core.experiment import Stage
from ..core.kinds import Config
from ..core.learning_rates import Decay, Find, Spread
from ..core.lengths import lengths
from ..core.optimizers import Optimizer
from ..core.solve import Solve
from ..core.types import Length, Schedule
from ..core.validation import finite, require
from ..schedules import Sgdr

type Rates = float | tuple[float, ...] | Spread | Decay | Find
"""Peak rates of a stage's layer groups, as in `Stage.lr`."""
HEAD = Find("valley", steps=100, orders=3, epochs=10)
"""Finder of a head that is trained on cached activations: hundreds of updates there take a moment."""


@dataclass(frozen=True)
class Lesson2(Config):
    """Settings of the eight-step recipe; `stages` builds it.

    Steps 1–3, stage "cached head": computes the activations of the frozen body once on augmented images and solves the linear head on
    them, which has one optimum, or trains it. Step 4, stage "head": trains the head on fresh augmentation. Steps 5–8, stage "all", or
    "unfrozen" where `train` names less: trains what it unfreezes, at one rate for all layer groups or each earlier group `ratio` times
    slower than the next, in cosine cycles, with warm restarts between them if there are several. `gradual` adds a stage between steps 4
    and 5.

    A head that has memorised its images leaves gradients that are noise, along which the first updates move the whole body; one
    that is solved, with the penalty that cross-validation chooses, does not. Rates, ratio, cycles and statistics are those that
    `experiments/bench/bodies.py` found best on eleven sets; `lr=Find()` lets the finder choose, `cycles=3, cycle_len=1` restarts as the
    lesson did.

    Source: fast.ai "Practical Deep Learning for Coders" part 1 (2018), lesson 2; gradual unfreezing: Howard & Ruder 2018; the head first:
    Kumar et al. 2022, "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution".

    Example:
        >>> [stage.name for stage in Lesson2(96, head_cycles=1, gradual=Sgdr()).stages()]
        ['cached head', 'head', 'gradual', 'all']
    """

    size: int
    """Side in pixels that the network sees."""
    similar_to_imagenet: bool = True
    """Whether the body needs little change: photographs of everyday things, or few images. Decides the rate."""
    _: KW_ONLY
    lr: Rates | None = None
    """Peak learning rate of the head in steps 4–8, with `ratio=1` also those of all groups, as in `Stage.lr`; or the finder that chooses
    it, whose ratio is replaced; None: 3e-4 for images like ImageNet's, 1e-3 for others."""
    ratio: float = 1.0
    """Ratio of a layer group's rate to that of the group before it. On eleven small sets 3 was 0.5 ± 0.4 points behind 1."""
    cached: Schedule | None = None
    """Schedule of the head on cached activations, at a found rate; None: it is solved, which needs a linear one (`hidden=0`)."""
    views: int = 2
    """Augmented copies of each image in the cache; 0 caches the plain images."""
    head_cycles: int = 0
    """Epochs of the head on fresh augmentation; 0 leaves step 4 out."""
    gradual: Schedule | None = None
    """Schedule of a stage that trains all but the first layer group before everything is unfrozen; None for no such stage. The activations
    of the first group are the largest, so this is also the cheaper half of the work."""
    cycles: int = 1
    """Cycles of the last stage; 0 leaves it out, and the body as it came with the weights. Three of 1, 2 and 4 epochs, the lesson's own,
    were as good or a little behind one of seven."""
    cycle_len: float | Length = 7
    """Epochs of its first cycle."""
    cycle_mult: float = 2
    """Length of each of its cycles relative to the one before."""
    train: int | str | tuple[str, ...] = "all"
    """What the last stage trains, as in `Stage.train`. 1 leaves the first layer group as it came with the weights: its activations are the
    largest, so an update takes three fifths of the time on a CPU."""
    warmup: float | Length = 0.1
    """Linear warm-up at the beginning of an unfrozen stage, as a share of its first cycle: Adam's first steps are full-sized wherever the
    gradient points."""
    bn: Literal["train", "frozen"] | tuple[str, ...] = "frozen"
    """Batch normalisation of the unfrozen body; "frozen" keeps the stored statistics, "train" is better from a few thousand images on."""
    budget: float | None = None
    """Epochs of steps 4–8, cached ones not counted, which needs `gradual` in epochs too; replaces `cycle_len`, so that the cycles end with
    it. None: as they are."""
    patience: int | None = None
    """Cycle ends in a row without improvement after which the last stage stops; None runs all cycles."""
    optimizer: Optimizer | None = None
    """Overrides the experiment's optimizer."""

    def _label(self, name: str) -> str:
        return name

    def __post_init__(self) -> None:
        require(finite(self.ratio) and self.ratio >= 1, "ratio", self.ratio, "use 1 for one rate, or more")
        alone = self.ratio == 1 or self.lr is None or isinstance(self.lr, int | float | Find)
        require(alone, "lr", self.lr, f"ratio={self.ratio:g} makes the rates of the groups from one; give one rate, or leave the ratio out")

    def stages(self) -> tuple[Stage, ...]:
        """Return the stages in order, ready for `Experiment.stages`; append a stage with a larger size to go on.

        Raises:
            InputError: the budget is spent before the last stage, or there is none, or it is not known how much of it `gradual` takes.
        """
        lr = (3e-4 if self.similar_to_imagenet else 1e-3) if self.lr is None else self.lr
        stages = [self._cached_head()]
        if self.head_cycles:
            schedule = Sgdr(self.head_cycles, warmup=self.warmup)
            stages.append(Stage("head", self.size, train="head", lr=lr, schedule=schedule, optimizer=self.optimizer))
        if self.gradual:
            stages.append(self._body("gradual", 1, lr, self.gradual))
        if self.cycles:
            stages.append(self._body("all" if self.train == "all" else "unfrozen", self.train, lr, self._last_schedule()))
        else:
            require(self.budget is None, "budget", self.budget, "with cycles=0 there is no last stage that could take it; leave it out")
        return tuple(stages)

    def _body(self, name: str, train: int | str | tuple[str, ...], lr: Rates, schedule: Schedule) -> Stage:
        if isinstance(lr, Find):
            lr = replace(lr, ratio=self.ratio)
        elif isinstance(lr, int | float) and self.ratio > 1:
            lr = Decay(lr, 1 / self.ratio)
        return Stage(name, self.size, train=train, lr=lr, schedule=schedule, bn=self.bn, patience=self.patience, optimizer=self.optimizer)

    def _cached_head(self) -> Stage:
        augmented = self.views > 0
        if self.cached is None:
            return Stage("cached head", self.size, "head", solve=Solve(), precompute=True, augment=augmented, views=self.views)
        return Stage(
            "cached head",
            self.size,
            train="head",
            lr=self.lr if isinstance(self.lr, Find) else HEAD,
            schedule=self.cached,
            precompute=True,
            augment=augmented,
            views=self.views,
            optimizer=self.optimizer,
        )

    def _last_schedule(self) -> Sgdr:
        cycle_len = self.cycle_len
        if self.budget is not None:
            fix = f"its length must be in epochs, of which budget={self.budget:g} has to leave the rest; or leave the budget out"
            require(not (self.gradual and lengths(self.gradual)), "gradual", self.gradual, fix)
            spent = self.head_cycles + (len(self.gradual.table(1000).scale) / 1000 if self.gradual else 0)
            fix = f"the stages before the last take {spent:g} epochs; give more, or shorten them"
            require(self.budget > spent, "budget", self.budget, fix)
            cycle_len = (self.budget - spent) / sum(self.cycle_mult**i for i in range(self.cycles))
        return Sgdr(self.cycles, cycle_len, self.cycle_mult, warmup=self.warmup)


def _with_fields_of[**P, R](kind: Callable[P, object]) -> Callable[[Callable[..., R]], Callable[P, R]]:
    """Give a function the arguments of a dataclass, for editors, type checkers and `help`."""

    def decorate(function: Callable[..., R]) -> Callable[P, R]:
        returned = inspect.signature(function).return_annotation
        function.__signature__ = inspect.signature(kind).replace(return_annotation=returned)  # pyright: ignore[reportFunctionMemberAccess]
        return function

    return decorate


@_with_fields_of(Lesson2)
def lesson2(*args: Any, **fields: Any) -> tuple[Stage, ...]:
    """Return the stages of the eight-step recipe, whose settings `help(Lesson2)` describes.

    Example:
        >>> [stage.name for stage in lesson2(96, similar_to_imagenet=False)]
        ['cached head', 'all']
    """
    return Lesson2(*args, **fields).stages()
