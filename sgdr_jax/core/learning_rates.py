"""Peak learning rates of a stage: given per group, derived from depth, or found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .kinds import Config
from .validation import finite, require


class _Rates(Config):
    def _label(self, name: str) -> str:
        return f"lr.{name}"


@dataclass(frozen=True)
class Spread(_Rates):
    """Geometric learning rates from the first trained group to the last: `Spread(1e-4, 1e-2)` on three groups is 1e-4, 1e-3, 1e-2.

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
class Decay(_Rates):
    """Layer-wise decay: the last trained group has the rate `lr`, each one before it `factor` times the next one's.

    A model whose `cuts` are all its blocks has a rate for each block.

    Source: Howard & Ruder 2018 (factor 1/2.6).
    """

    lr: float
    """Learning rate of the last trained group."""
    factor: float = 0.75
    """Rate of a group relative to the next one's, 0…1, above 0."""

    def __post_init__(self) -> None:
        require(finite(self.lr) and self.lr > 0, "lr.lr", self.lr, "use a positive number")
        require(finite(self.factor) and 0 < self.factor <= 1, "lr.factor", self.factor, "use a number in 0…1, above 0")


@dataclass(frozen=True)
class Find(_Rates):
    """Learning-rate finder at the start of the stage; its rule chooses the rate of the head.

    The finder raises the rate geometrically from `start` to `stop` over `steps` updates on a copy of the state, several times from the
    same state with other orders of the images; the rules read the mean of the curves.
    """

    rule: Literal["combined", "valley", "steep", "minimum", "slide"] = "combined"
    """Rule that reads the rate off the curve; see `lr_curve.combined` and `lr_curve.suggest`."""
    ratio: float | tuple[float, ...] = 1.0
    """Divisor from each layer group's rate to the one before it (3 to 10 in the recipe). Several are tried in turn: another than the first,
    the rule of thumb, is chosen only if its loss falls clearly further."""
    start: float = 1e-5
    """Lowest rate tried."""
    stop: float = 1.0
    """Highest rate tried; the test ends earlier when the loss diverges."""
    steps: int = 40
    """Largest number of updates per order."""
    orders: int = 0
    """Number of orders of the images, with a curve each; 0: six on cached activations, which cost little, otherwise two."""
    epochs: float = 1.0
    """Longest length of an order, in epochs."""
    lowest: float = 1e-5
    """Lower bound of the choice."""
    highest: float = 1.0
    """Upper bound of the choice."""

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
