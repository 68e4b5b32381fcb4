"""Peak learning rates of a stage: given per group, derived from depth, or found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .validation import finite, require


@dataclass(frozen=True)
class Spread:
    """Learning rates in geometric steps from the first trained group to the last: `Spread(1e-4, 1e-2)` on three groups is 1e-4, 1e-3, 1e-2.

    Source: fastai 2's `slice(lo, hi)`.
    """

    lo: float
    """Learning rate of the earliest trained group."""
    hi: float
    """Learning rate of the head."""

    def __post_init__(self) -> None:
        require(finite(self.lo) and self.lo > 0, "lr.lo", self.lo, "use a positive number")
        require(finite(self.hi) and self.hi > 0, "lr.hi", self.hi, "use a positive number")


@dataclass(frozen=True)
class Decay:
    """Layer-wise decay: the last trained group at `lr`, each one before it at `factor` times the next one's rate.

    A model whose `cuts` are all its blocks has a rate for each block. Source: Howard & Ruder 2018 (factor 1/2.6).
    """

    lr: float
    """Learning rate of the last trained group."""
    factor: float = 0.75
    """0…1, above 0."""

    def __post_init__(self) -> None:
        require(finite(self.lr) and self.lr > 0, "lr.lr", self.lr, "use a positive number")
        require(finite(self.factor) and 0 < self.factor <= 1, "lr.factor", self.factor, "use a number in 0…1, above 0")


@dataclass(frozen=True)
class Find:
    """Asks for the learning-rate finder at the start of the stage; the rate of the head is what the rule picks.

    The finder raises the rate geometrically from `start` to `stop` over `steps` updates on a copy of the state, several times with
    other orders of the images, each time from the same state; the rules read the mean of the curves.
    """

    rule: Literal["combined", "valley", "steep", "minimum", "slide"] = "combined"
    """How the rate is read off the curve; see `lr_finder.combined` and `lr_finder.suggest`."""
    ratio: float | tuple[float, ...] = 1.0
    """Each earlier layer group gets the next one's rate divided by this (3 to 10 in the recipe). Several are tried in turn: the first,
    the rule of thumb, is left for another only where that one's loss falls clearly further."""
    start: float = 1e-5
    """Lowest rate tried."""
    stop: float = 1.0
    """Highest rate tried; the test ends earlier when the loss diverges."""
    steps: int = 40
    """Updates of one order at most."""
    orders: int = 0
    """Orders of the images, each with a curve of its own; 0: six on cached activations, which cost little, otherwise two."""
    epochs: float = 1.0
    """No order goes on for longer than this."""
    lowest: float = 1e-5
    """The choice is held above this."""
    highest: float = 1.0
    """The choice is held below this."""

    def __post_init__(self) -> None:
        rules = ("combined", "valley", "steep", "minimum", "slide")
        require(self.rule in rules, "lr.rule", self.rule, "use combined, valley, steep, minimum or slide")
        tried = self.ratio if isinstance(self.ratio, tuple) else (self.ratio,)
        require(bool(tried) and all(finite(r) and r >= 1 for r in tried), "lr.ratio", self.ratio, "use a number of at least 1, or several")
        require(finite(self.start) and self.start > 0, "lr.start", self.start, "use a positive number")
        require(finite(self.stop) and self.stop > self.start, "lr.stop", self.stop, f"use a number above lr.start ({self.start})")
        require(self.steps >= 8, "lr.steps", self.steps, "use at least 8")
        require(0 <= self.orders <= 100, "lr.orders", self.orders, "use 1…100, or 0 for as many as the stage suggests")
        require(finite(self.epochs) and self.epochs > 0, "lr.epochs", self.epochs, "use a positive number")
        require(0 < self.lowest <= self.highest, "lr.lowest", self.lowest, f"use a positive number up to lr.highest ({self.highest})")
