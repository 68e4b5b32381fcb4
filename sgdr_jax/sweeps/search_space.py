"""What an adaptive search looks for: fields and what they may be, how many trials, what draws them, what ends one early.

    sweep = Sweep("rates", base, search=Search({"stages.body.lr": LogUniform(1e-5, 1e-1), "batch_size": Categorical((16, 32))}, trials=40))

A trial is the base with one value for each field of the space, run with the first seed of the sweep; it is judged on the validation images
alone. `study` draws the trials, `trials` reads how they stand.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..core.validation import require


@dataclass(frozen=True)
class Domain:
    """What the values of a field may be."""

    @property
    def ends(self) -> tuple[Any, ...]:
        """Values that the experiment must accept: the outermost, or all."""
        raise NotImplementedError

    @property
    def points(self) -> tuple[Any, ...]:
        """All values, for a grid; () where they are no finite number."""
        return ()


@dataclass(frozen=True)
class LogUniform(Domain):
    """A number whose logarithm is as likely anywhere between those of two others, as learning rates are."""

    low: float
    """Smallest, above 0."""
    high: float
    """Largest."""

    def __post_init__(self) -> None:
        _check_ends(self, self.low, self.high, least=0.0)

    @property
    def ends(self) -> tuple[float, float]:
        return self.low, self.high


@dataclass(frozen=True)
class Uniform(Domain):
    """A number as likely anywhere between two others."""

    low: float
    """Smallest."""
    high: float
    """Largest."""
    step: float | None = None
    """Only `low` and every so much above it; None: anything."""

    def __post_init__(self) -> None:
        _check_ends(self, self.low, self.high)
        fits = self.step is None or 0 < self.step <= (self.high - self.low) * (1 + 1e-9)
        require(fits, "Uniform.step", self.step, "use a part of high - low, or None")

    @property
    def ends(self) -> tuple[float, float]:
        return self.low, self.high

    @property
    def points(self) -> tuple[float, ...]:
        if self.step is None:
            return ()
        count = int((self.high - self.low) / self.step + 1e-9) + 1
        return tuple(min(self.low + i * self.step, self.high) for i in range(count))


@dataclass(frozen=True)
class Integer(Domain):
    """A whole number between two others, both included."""

    low: int
    """Smallest."""
    high: int
    """Largest."""
    log: bool = False
    """Whether it is the logarithm that is as likely anywhere; then low is at least 1."""

    def __post_init__(self) -> None:
        _check_ends(self, self.low, self.high, least=0.0 if self.log else -math.inf)
        require(all(isinstance(x, int) for x in self.ends), "Integer", self.ends, "use whole numbers, or Uniform")

    @property
    def ends(self) -> tuple[int, int]:
        return self.low, self.high

    @property
    def points(self) -> tuple[int, ...]:
        return tuple(range(self.low, self.high + 1))


@dataclass(frozen=True)
class Categorical(Domain):
    """One of several values of any kind, such as schedules or optimizers, in no order."""

    values: tuple[Any, ...]
    """At least two, no two alike."""

    def __post_init__(self) -> None:
        good = isinstance(self.values, (tuple, list)) and len(self.values) > 1
        require(good, "Categorical.values", self.values, "give a tuple of two values or more")
        require(len(set(self.names)) == len(self.names), "Categorical.values", self.names, "give each value once")

    @property
    def ends(self) -> tuple[Any, ...]:
        return tuple(self.values)

    @property
    def points(self) -> tuple[Any, ...]:
        return tuple(self.values)

    @property
    def names(self) -> tuple[str, ...]:
        """The values in words, by which a store knows them."""
        return tuple(text(value) for value in self.values)


def _check_ends(domain: Domain, low: float, high: float, least: float = -math.inf) -> None:
    name, ok = type(domain).__name__, all(isinstance(x, (int, float)) and math.isfinite(x) for x in (low, high))
    require(ok, name, (low, high), "give two finite numbers")
    require(low > least, f"{name}.low", low, f"use a number above {least:g}")
    require(low < high, f"{name}.high", high, f"use a number above low ({low:g})")


@dataclass(frozen=True)
class Pruner:
    """What ends a trial early, at a cycle's end."""


@dataclass(frozen=True)
class Median(Pruner):
    """Ends a trial whose best figure so far is below the median of what finished trials had at the same cycle's end. Source: Golovin et
    al. 2017, "Google Vizier"; Optuna's MedianPruner."""

    startup: int = 5
    """Finished trials before any is ended."""
    warmup: int = 0
    """Cycle ends of a trial at which it is never ended."""

    def __post_init__(self) -> None:
        require(self.startup >= 1, "Median.startup", self.startup, "use 1 or more")
        require(self.warmup >= 0, "Median.warmup", self.warmup, "use 0 or more")


@dataclass(frozen=True)
class Halving(Pruner):
    """Successive halving without waiting: at the cycle ends first, first·factor, first·factor², … only the best 1 in `factor` of those that
    have come so far go on. Source: Li et al. 2020, "A system for massively parallel hyperparameter tuning" (ASHA)."""

    first: int = 1
    """Cycle's end at which trials are first compared, from 1."""
    factor: int = 3
    """One in so many goes on."""

    def __post_init__(self) -> None:
        require(self.first >= 1, "Halving.first", self.first, "use 1 or more")
        require(self.factor >= 2, "Halving.factor", self.factor, "use 2 or more")


@dataclass(frozen=True)
class Search:
    """A search over fields of the base experiment."""

    space: Mapping[str, Domain]
    """Fields by their dotted names, as in an axis, and what they may be."""
    trials: int | None = None
    """How many are drawn; those that are ended early, or fail, count. None: with sampler="grid" all there are."""
    sampler: Literal["tpe", "cmaes", "random", "grid"] = "tpe"
    """What draws them: a tree-structured Parzen estimator, CMA-ES (numbers only, two or more), chance, or one after the other."""
    pruner: Pruner | None = Median()
    """What ends a trial early; None: nothing."""
    objective: Literal["accuracy", "loss"] = "accuracy"
    """What counts, on the validation images: the highest accuracy, or the lowest loss. The test images choose nothing."""
    startup: int = 10
    """Trials that tpe draws by chance before it learns from them."""
    seed: int = 0
    """Of the draws: the n-th is a function of this, n, and what is known by then."""

    def __post_init__(self) -> None:
        good = isinstance(self.space, Mapping) and bool(self.space)
        require(good, "search.space", self.space, 'give fields and what they may be, such as {"stages.0.lr": LogUniform(1e-4, 1e-1)}')
        for field, domain in self.space.items():
            kinds = ", ".join(kind.__name__ for kind in Domain.__subclasses__())
            require(isinstance(domain, Domain), f"search.space[{field!r}]", domain, f"use one of {kinds}")
        samplers = ("tpe", "cmaes", "random", "grid")
        require(self.sampler in samplers, "search.sampler", self.sampler, f"use one of {', '.join(samplers)}")
        require(self.objective in ("accuracy", "loss"), "search.objective", self.objective, "use accuracy or loss")
        require(self.pruner is None or isinstance(self.pruner, Pruner), "search.pruner", self.pruner, "use Median(), Halving() or None")
        require(self.startup >= 1, "search.startup", self.startup, "use 1 or more")
        if self.sampler == "grid":
            endless = [field for field, domain in self.space.items() if not domain.points]
            require(
                not endless, "search.sampler", "grid", f"{', '.join(endless)} has endless values: use Categorical, Integer, Uniform(step=)"
            )
        if self.sampler == "cmaes":
            choices = [field for field, domain in self.space.items() if isinstance(domain, Categorical)]
            require(not choices, "search.sampler", "cmaes", f"{', '.join(choices)} is no number: use tpe")
            require(len(self.space) > 1, "search.sampler", "cmaes", "it needs two fields or more: use tpe")
        given = self.trials is not None or self.sampler == "grid"
        require(given and (self.trials is None or self.trials >= 1), "search.trials", self.trials, "give a number of 1 or more")

    @property
    def count(self) -> int:
        """Trials in all."""
        whole = math.prod(len(domain.points) for domain in self.space.values()) if self.sampler == "grid" else None
        return min(x for x in (self.trials, whole) if x is not None)

    def better(self, value: float, other: float) -> bool:
        """Whether one value of the objective beats another."""
        return value > other if self.objective == "accuracy" else value < other


def grid_values(search: Search, number: int) -> dict[str, Any]:
    """The values of trial `number` of a grid; the last field changes fastest.

    >>> grid_values(Search({"a": Integer(1, 2), "b": Categorical(("x", "y"))}, sampler="grid"), 1)
    {'a': 1, 'b': 'y'}
    """
    chosen = next(itertools.islice(itertools.product(*(domain.points for domain in search.space.values())), number, None))
    return dict(zip(search.space, chosen, strict=True))


def to_unit(domain: Domain, value: float) -> float:
    """Where a number lies in its domain, 0…1, as the domain counts (by the logarithm or not)."""
    low, high, x = (np.log(v) if _by_log(domain) else float(v) for v in (*domain.ends, value))
    return float((x - low) / (high - low))


def from_unit(domain: Domain, share: float) -> Any:
    """The number that lies there, on the nearest value that the domain has.

    >>> from_unit(LogUniform(1e-4, 1e-2), 0.5), from_unit(Integer(1, 4), 0.9)
    (0.001, 4)
    """
    low, high = (math.log10(v) if _by_log(domain) else float(v) for v in domain.ends)
    x = low + min(max(share, 0.0), 1.0) * (high - low)
    x = min(max(10**x if _by_log(domain) else x, domain.ends[0]), domain.ends[1])
    if isinstance(domain, Integer):
        return round(x)
    return min(domain.points, key=lambda point: abs(point - x)) if domain.points else float(x)


def _by_log(domain: Domain) -> bool:
    return isinstance(domain, LogUniform) or (isinstance(domain, Integer) and domain.log)


# ---- in words ----


def text(value: Any) -> str:
    """A field's value in a few words: "0.01", "(0.001, 0.01)", "Sgdr(cycles=2)" (only the fields that differ from their defaults)."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        told = [f for f in dataclasses.fields(value) if getattr(value, f.name) != f.default]
        return f"{type(value).__name__}({', '.join(f'{f.name}={text(getattr(value, f.name))}' for f in told)})"
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(text, value))})"
    return f"{value:g}" if isinstance(value, float) else str(value)


def shortest(field: str, fields: Sequence[str]) -> str:
    """As much of a field's dotted name, from its end, as tells it from the others.

    >>> shortest("stages.0.lr", ["stages.0.lr", "stages.1.lr", "batch_size"])
    '0.lr'
    """
    words = field.split(".")
    ends = [".".join(words[-n:]) for n in range(1, len(words) + 1)]
    alone = (end for end in ends if sum(other == end or other.endswith("." + end) for other in fields) == 1)
    return next(alone, field)


def described(search: Search) -> str:
    """How it searches, in a line."""
    best = "highest validation accuracy" if search.objective == "accuracy" else "lowest validation loss"
    ends = f"ended early at cycle ends by {text(search.pruner)}" if search.pruner else "none ended early"
    return f"{search.count} trials by {search.sampler} for the {best}, {ends}"
