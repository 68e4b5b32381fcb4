"""Search over fields of an experiment: their domains, the number of trials, the sampler and the pruner.

    sweep = Sweep("rates", base, search=Search({"stages.body.lr": LogUniform(1e-5, 1e-1), "batch_size": Categorical((16, 32))}, trials=40))

A trial is the base with one value for each field of the space, run with the first seed of the sweep; it is judged by the validation images
alone. `optuna_study` draws the trials, `trial_records` reads how they stand.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..core.field_docs import Documented
from ..core.validation import require, whole


@dataclass(frozen=True)
class Domain(Documented):
    """Base class of the sets of values that a field may take."""

    @property
    def ends(self) -> tuple[object, ...]:
        """Values that the experiment must accept: the outermost ones, or all."""
        raise NotImplementedError

    @property
    def count(self) -> int:
        """Number of values; 0 where there are infinitely many."""
        return 0

    def value(self, number: int) -> object:
        """Return a value of finitely many by its number, from 0."""
        raise NotImplementedError


@dataclass(frozen=True)
class NumericDomain(Domain):
    """Base class of the domains of numbers."""

    low: float
    """Smallest value."""
    high: float
    """Largest value."""

    @property
    def ends(self) -> tuple[float, float]:
        return self.low, self.high

    def _check(self, least: float = -math.inf) -> None:
        name = type(self).__name__
        finite = all(isinstance(x, (int, float)) and math.isfinite(x) for x in self.ends)
        require(finite, name, self.ends, "give two finite numbers")
        require(self.low > least, f"{name}.low", self.low, f"use a number above {least:g}")
        require(self.low < self.high, f"{name}.high", self.high, f"use a number above low ({self.low:g})")


@dataclass(frozen=True)
class LogUniform(NumericDomain):
    """Number above 0 with a uniformly distributed logarithm, such as a learning rate."""

    def __post_init__(self) -> None:
        self._check(least=0.0)


@dataclass(frozen=True)
class Uniform(NumericDomain):
    """Uniformly distributed number."""

    step: float | None = None
    """Distance of the values from `low` upwards; None for all numbers."""

    def __post_init__(self) -> None:
        self._check()
        fits = self.step is None or 0 < self.step <= (self.high - self.low) * (1 + 1e-9)
        require(fits, "Uniform.step", self.step, "use a part of high - low, or None")

    @property
    def count(self) -> int:
        return 0 if self.step is None else int((self.high - self.low) / self.step + 1e-9) + 1

    def value(self, number: int) -> float:
        assert self.step is not None
        return min(self.low + number * self.step, self.high)


@dataclass(frozen=True)
class Integer(NumericDomain):
    """Uniformly distributed whole number; both ends are included."""

    low: int
    """Smallest value."""
    high: int
    """Largest value."""
    log: bool = False
    """Whether its logarithm is uniformly distributed; low must then be at least 1."""

    def __post_init__(self) -> None:
        self._check(least=0.0 if self.log else -math.inf)
        require(all(isinstance(x, int) for x in self.ends), "Integer", self.ends, "use whole numbers, or Uniform")

    @property
    def count(self) -> int:
        return self.high - self.low + 1

    def value(self, number: int) -> int:
        return self.low + number


@dataclass(frozen=True)
class Categorical(Domain):
    """One of several values without an order, such as schedules or optimizers."""

    values: tuple[object, ...]
    """Two or more different values."""

    def __post_init__(self) -> None:
        good = isinstance(self.values, (tuple, list)) and len(self.values) > 1
        require(good, "Categorical.values", self.values, "give a tuple of two values or more")
        require(len(set(self.names)) == len(self.names), "Categorical.values", self.names, "give each value once")

    @property
    def ends(self) -> tuple[object, ...]:
        return tuple(self.values)

    @property
    def count(self) -> int:
        return len(self.values)

    def value(self, number: int) -> object:
        return self.values[number]

    @property
    def names(self) -> tuple[str, ...]:
        """Texts of the values, which stand for them in a shared queue."""
        return tuple(value_text(value) for value in self.values)


@dataclass(frozen=True)
class Pruner(Documented):
    """Base class of rules that stop a trial early, at the end of a cycle."""


@dataclass(frozen=True)
class Median(Pruner):
    """Stops a trial whose best value so far is worse than the median of the finished trials at the end of the same cycle.

    Source: Golovin et al. 2017, "Google Vizier"; Optuna's MedianPruner.
    """

    startup: int = 5
    """Number of finished trials before any is stopped."""
    warmup: int = 0
    """Number of a trial's first cycle ends at which it is never stopped."""

    def __post_init__(self) -> None:
        require(self.startup >= 1, "Median.startup", self.startup, "use 1 or more")
        require(self.warmup >= 0, "Median.warmup", self.warmup, "use 0 or more")


@dataclass(frozen=True)
class Halving(Pruner):
    """Asynchronous successive halving (ASHA).

    At the cycle ends first, first·factor, first·factor², … only the best 1 in `factor` of the trials that have come so far continue.

    Source: Li et al. 2020, "A system for massively parallel hyperparameter tuning".
    """

    first: int = 1
    """Cycle end at which trials are first compared, from 1."""
    factor: int = 3
    """Inverse of the share of trials that continue."""

    def __post_init__(self) -> None:
        require(self.first >= 1, "Halving.first", self.first, "use 1 or more")
        require(self.factor >= 2, "Halving.factor", self.factor, "use 2 or more")


@dataclass(frozen=True)
class Search(Documented):
    """A search over fields of the base experiment."""

    space: Mapping[str, Domain]
    """Domains of fields by their dotted names, as in an axis."""
    trials: int | None = None
    """Number of trials, pruned and failed ones included; None with sampler="grid": the whole grid."""
    sampler: Literal["tpe", "cmaes", "random", "grid"] = "tpe"
    """Sampler: tree-structured Parzen estimator, CMA-ES (two or more numbers only), random, or the whole grid in order."""
    pruner: Pruner | None = Median()
    """Rule that stops trials early; None for none."""
    objective: Literal["accuracy", "loss"] = "accuracy"
    """Objective on the validation images: highest accuracy (mean average precision of multi-label data) or lowest loss. Test images
    select nothing."""
    startup: int = 10
    """Number of random trials before tpe uses their results."""
    seed: int = 0
    """Seed of the sampler; draw n is a function of the seed, n and the results known by then."""

    def __post_init__(self) -> None:
        good = isinstance(self.space, Mapping) and bool(self.space)
        require(good, "search.space", self.space, 'give fields and their domains, such as {"stages.0.lr": LogUniform(1e-4, 1e-1)}')
        for field, domain in self.space.items():
            require(isinstance(field, str), "search.space", field, "name fields by text, such as stages.0.lr")
            require(isinstance(domain, Domain), f"search.space[{field!r}]", domain, "use one of LogUniform, Uniform, Integer, Categorical")
        samplers = ("tpe", "cmaes", "random", "grid")
        require(self.sampler in samplers, "search.sampler", self.sampler, f"use one of {', '.join(samplers)}")
        require(self.objective in ("accuracy", "loss"), "search.objective", self.objective, "use accuracy or loss")
        require(self.pruner is None or isinstance(self.pruner, Pruner), "search.pruner", self.pruner, "use Median(), Halving() or None")
        require(whole(self.startup) and self.startup >= 1, "search.startup", self.startup, "use 1 or more, a whole number")
        if self.sampler == "grid":
            endless = [field for field, domain in self.space.items() if not domain.count]
            require(
                not endless,
                "search.sampler",
                "grid",
                f"{', '.join(endless)} has infinitely many values: use Categorical, Integer, Uniform(step=)",
            )
        if self.sampler == "cmaes":
            choices = [field for field, domain in self.space.items() if isinstance(domain, Categorical)]
            require(not choices, "search.sampler", "cmaes", f"{', '.join(choices)} is not a number: use tpe")
            require(len(self.space) > 1, "search.sampler", "cmaes", "it needs two or more fields: use tpe")
        given = self.trials is not None or self.sampler == "grid"
        good = given and (self.trials is None or (whole(self.trials) and self.trials >= 1))
        require(good, "search.trials", self.trials, "use 1 or more, a whole number")
        require(whole(self.seed) and self.seed >= 0, "search.seed", self.seed, "use 0 or more, a whole number")

    @property
    def count(self) -> int:
        """Number of trials in total."""
        grid = math.prod(domain.count for domain in self.space.values()) if self.sampler == "grid" else None
        return min(x for x in (self.trials, grid) if x is not None)


def grid_values(search: Search, number: int) -> dict[str, object]:
    """Return the values of trial `number` of a grid; the last field changes fastest.

    Example:
        >>> grid_values(Search({"a": Integer(1, 2), "b": Categorical(("x", "y"))}, sampler="grid"), 1)
        {'a': 1, 'b': 'y'}
    """
    values: dict[str, object] = {}
    for field, domain in reversed(list(search.space.items())):
        number, own = divmod(number, domain.count)
        values[field] = domain.value(own)
    return {field: values[field] for field in search.space}


def to_unit(domain: NumericDomain, value: float) -> float:
    """Map a number to its position in its domain, 0…1, on the domain's linear or logarithmic scale."""
    low, high, x = (np.log(v) if _by_log(domain) else float(v) for v in (*domain.ends, value))
    return float((x - low) / (high - low))


def from_unit(domain: NumericDomain, share: float) -> float:
    """Map a position in a domain, 0…1, to the nearest value of the domain.

    Example:
        >>> from_unit(LogUniform(1e-4, 1e-2), 0.5), from_unit(Integer(1, 4), 0.9)
        (0.001, 4)
    """
    low, high = (math.log10(v) if _by_log(domain) else float(v) for v in domain.ends)
    x = low + min(max(share, 0.0), 1.0) * (high - low)
    x = min(max(10**x if _by_log(domain) else x, domain.ends[0]), domain.ends[1])
    if isinstance(domain, Integer):
        return round(x)
    if isinstance(domain, Uniform) and domain.step:
        return domain.value(min(max(math.ceil((x - domain.low) / domain.step - 0.5), 0), domain.count - 1))
    return float(x)


def _by_log(domain: NumericDomain) -> bool:
    return isinstance(domain, LogUniform) or (isinstance(domain, Integer) and domain.log)


# ---- in words ----


def value_text(value: object) -> str:
    """Format a field's value: "0.01", "(0.001, 0.01)", "Sgdr(cycles=2)" (only the fields that differ from their defaults)."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = [f.name for f in dataclasses.fields(value) if getattr(value, f.name) != f.default]
        return f"{type(value).__name__}({', '.join(f'{name}={value_text(getattr(value, name))}' for name in changed)})"
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(value_text, value))})"
    return f"{value:g}" if isinstance(value, float) else str(value)


def short_name(field: str, fields: Sequence[str]) -> str:
    """Return the shortest end of a field's dotted name that is unique among `fields`.

    Example:
        >>> short_name("stages.0.lr", ["stages.0.lr", "stages.1.lr", "batch_size"])
        '0.lr'
    """
    words = field.split(".")
    ends = [".".join(words[-n:]) for n in range(1, len(words) + 1)]
    unique = (end for end in ends if sum(other == end or other.endswith("." + end) for other in fields) == 1)
    return next(unique, field)


def describe_search(search: Search) -> str:
    """Describe a search in one line."""
    best = "highest validation accuracy" if search.objective == "accuracy" else "lowest validation loss"
    pruning = f"pruned at cycle ends by {value_text(search.pruner)}" if search.pruner else "none pruned"
    return f"{search.count} trials by {search.sampler} for the {best}, {pruning}"
