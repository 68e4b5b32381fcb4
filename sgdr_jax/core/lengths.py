"""Lengths of schedules, in epochs or other units, and their conversion to whole steps."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np

from .errors import InputError
from .types import Length, Schedule
from .validation import require, whole

MAX_STEPS = 100_000_000
"""Most updates of a cycle, and of all cycles of a schedule: their tables take two gigabytes."""


@dataclass(frozen=True)
class Steps(Length):
    """Length in updates: epochs = count / (updates per epoch).

    Example:
        >>> from sgdr_jax.schedules import Sgdr
        >>> Sgdr(cycle_len=Steps(500)).table(steps_per_epoch=100).ends
        (500,)
    """

    count: float = 1
    """Number of updates, above 0; fractions are rounded half up."""

    def __post_init__(self) -> None:
        require(self.count > 0, "steps", self.count, "use a positive number")


@dataclass(frozen=True)
class Images(Length):
    """Length in training images shown: epochs = count / (images per epoch).

    Example:
        >>> in_steps(Images(300), Clock(steps=10, images=200, budget=None))
        Steps(count=15.0)
    """

    count: float = 1
    """Number of images, above 0, counted with repetition."""

    def __post_init__(self) -> None:
        require(self.count > 0, "images", self.count, "use a positive number")


@dataclass(frozen=True)
class Share(Length):
    """Length as a share of the experiment's budget: epochs = share · budget.

    Example:
        >>> in_steps(Share(0.75), Clock(steps=10, images=200, budget=12))
        Steps(count=90.0)
    """

    share: float = 1.0
    """Share of the budget, above 0, at most 1."""

    def __post_init__(self) -> None:
        require(0 < self.share <= 1, "share", self.share, "use a share of the budget in 0…1, above 0")


class Clock(NamedTuple):
    """Units that lengths are converted with.

    Attributes:
        steps: updates per epoch.
        images: training images per epoch, counted with repetition.
        budget: epochs of the whole experiment, or None without a budget.
    """

    steps: int
    images: float
    budget: float | None


def images_shown(steps: int, images: int, batch_size: int, repeats: int = 1) -> int:
    """Return the number of images, with repetition, that a stage shows in its first updates; the last batch of a pass is small.

    With `repeats` a batch is shown in so many parts, each with its share of the images so many times; one that would be empty is filled.

    Args:
        steps: number of updates.
        images: training images of the set.
        batch_size: examples of an update.
        repeats: see `Stage.repeats`.

    >>> images_shown(3, images=47, batch_size=46), images_shown(4, images=47, batch_size=46, repeats=2)
    (93, 140)
    """
    before = (-(-images // batch_size) - 1) * repeats  # updates of a pass before those of its last batch
    last = images - before // repeats * batch_size
    parts = [repeats * -(-max(last - i, 0) // repeats) or batch_size for i in range(repeats)]
    passes, rest = divmod(steps, before + repeats)
    return passes * (before * batch_size + sum(parts)) + min(rest, before) * batch_size + sum(parts[: max(rest - before, 0)])


def check_length(length: float | Length, what: str) -> None:
    """Raise InputError unless `length` is a positive number of epochs or a `Length`."""
    require(isinstance(length, Length) or length > 0, what, length, "use a positive number of epochs, or Steps, Images or Share")


def in_steps(value: Any, clock: Clock) -> Any:
    """Replace the lengths that only a plan can convert, `Images` and `Share`, by `Steps`.

    Args:
        value: a schedule, which may hold others, or one of its fields.
        clock: of the stage.

    Raises:
        InputError: a share without a budget.

    Example:
        >>> in_steps(Images(300), Clock(steps=10, images=200, budget=None))
        Steps(count=15.0)
    """
    if isinstance(value, Images):
        return Steps(value.count * clock.steps / clock.images)
    if isinstance(value, Share):
        require(clock.budget is not None, "schedule", value, "a share needs a budget: set Experiment(budget=EPOCHS), or give epochs")
        return Steps(value.share * (clock.budget or 0) * clock.steps)
    if isinstance(value, tuple):
        return tuple(in_steps(item, clock) for item in cast(tuple[Any, ...], value))
    if isinstance(value, Schedule):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        changed = {name: new for name, old in fields.items() if (new := in_steps(old, clock)) != old}
        return dataclasses.replace(value, **changed) if changed else value
    return value


def lengths(schedule: Schedule) -> tuple[Length, ...]:
    """Return the lengths of a schedule, and of those that it holds, that are not in epochs; a warm-up is a part of one.

    Example:
        >>> from sgdr_jax.schedules import Combined, Sgdr
        >>> lengths(Combined(Sgdr(cycle_len=Steps(500)), weight_decay=Sgdr(warmup=Steps(10))))
        (Steps(count=500),)
    """

    def of(value: Any) -> tuple[Length, ...]:
        if isinstance(value, Length):
            return (value,)
        if isinstance(value, tuple):
            return tuple(length for item in cast(tuple[Any, ...], value) for length in of(item))
        return lengths(value) if isinstance(value, Schedule) else ()

    return tuple(length for f in dataclasses.fields(schedule) if f.name != "warmup" for length in of(getattr(schedule, f.name)))


def exact_steps(length: float | Length, steps_per_epoch: int, what: str) -> float:
    """Convert a length to updates without rounding. Raises InputError for one that only a plan can convert."""
    if isinstance(length, Steps):
        return length.count
    if isinstance(length, Length):
        raise InputError(f"{what} is {length}, which has no length outside of a plan; use epochs or Steps")
    return length * steps_per_epoch


def _down(steps: float) -> int:
    """Round down as a decimal number that was written is: 0.29 of 100 steps is 29, not the 28 of binary arithmetic."""
    return math.floor(steps + max(1e-9, 1e-15 * steps))


def whole_steps(length: float | Length, steps_per_epoch: int, what: str, times: float = 1) -> int:
    """Convert `length` · `times` to updates, rounded half up: floor(epochs · times · steps_per_epoch + ½).

    A length counts as the decimal number that was written: 0.29 epochs of 50 steps are 14½, so 15.

    Raises:
        InputError: before rounding it is less than one step, so that a cycle would never reach its peak, or over 100 million; or
            `steps_per_epoch` is not a whole number of at least 1.

    Example:
        >>> whole_steps(1.5, 15, "cycle_len"), whole_steps(Steps(7), 15, "cycle_len", times=3)
        (23, 21)
    """
    require(whole(steps_per_epoch) and steps_per_epoch >= 1, "steps_per_epoch", steps_per_epoch, "use a whole number of at least 1")
    if isinstance(length, Length):
        exact = exact_steps(length, steps_per_epoch, what) * times
        text = f"{exact:g} steps"
    else:
        exact = exact_steps(length * times, steps_per_epoch, what)
        text = f"{length * times:g} epochs of {steps_per_epoch} steps"
    if exact > MAX_STEPS:
        raise InputError(f"{what} is {text}, over 100 million steps; use fewer epochs or cycles")
    if not exact > 1 - 1e-5:  # 1/49 of 49 steps is below one in floating point, and so may be a length that was printed in six digits
        raise InputError(f"{what} is {text}, less than one step; use at least {1 / steps_per_epoch:g} epochs")
    return _down(exact + 0.5)


def rising_steps(warmup: float | Length, steps: int, steps_per_epoch: int, what: str) -> int:
    """Convert a warm-up to updates: a share of `steps`, rounded down, or a `Length`, rounded half up.

    A share counts as the decimal number that was written: 0.29 of 100 steps is 29, not the 28 of binary arithmetic.

    Raises:
        InputError: the warm-up takes all steps.

    Example:
        >>> rising_steps(0.29, 100, 100, "warmup"), rising_steps(Steps(5), 100, 100, "warmup")
        (29, 5)
    """
    rise = whole_steps(warmup, steps_per_epoch, what) if isinstance(warmup, Length) else _down(warmup * steps)
    if rise >= steps:
        raise InputError(f"{what} is {warmup}, {rise} of the {steps} steps; use less, so that the peak is reached")
    return rise


def linear_warmup(steps: int) -> np.ndarray:
    """Return 0, 1/n, … (n - 1)/n for n `steps`, float64 [steps]; 1 would follow.

    >>> linear_warmup(4).tolist(), linear_warmup(0).tolist()
    ([0.0, 0.25, 0.5, 0.75], [])
    """
    return np.arange(steps) / max(steps, 1)


def epoch_cycles(steps: int, steps_per_epoch: int) -> np.ndarray:
    """Return the cycle of each step where every epoch is one, int32 [steps].

    >>> epoch_cycles(5, 2).tolist()
    [0, 0, 1, 1, 2]
    """
    return (np.arange(steps) // steps_per_epoch).astype(np.int32)


def check_momentum(momentum: tuple[float, float]) -> None:
    """Raise InputError unless `momentum` is a pair of numbers in 0…1, below 1."""
    require(all(0 <= m < 1 for m in momentum), "schedule.momentum", momentum, "use two numbers in 0…1, below 1")


def check_warmup(warmup: float | Length) -> None:
    """Raise InputError unless `warmup` is a share in 0…1, below 1, or a `Length`."""
    require(isinstance(warmup, Length) or 0 <= warmup < 1, "schedule.warmup", warmup, "use a share in 0…1, below 1, or Steps or Images")
