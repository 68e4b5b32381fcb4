"""Sweeps as data: one base experiment and axes along which its fields vary, expanded to runs.

    sweep = Sweep(
        "rates",
        base,
        axes=(grid({"stages.0.lr": (1e-3, 1e-2)}), arms({"recipe": {}, "no augmentation": {"augment": ()}})),
        seeds=(0, 1, 2),
    )

Axes are combined as a product. Each arm, one choice along every axis, is run once per seed. Fields have the dotted names of the command
line: `stages.1.lr`, `optimizer.weight_decay`, `stages.head.schedule.cycle_mult` (a stage by its name), `stages.*.size` (all stages). Runs
with the same seed share their randomness: the same initial head, order of examples and augmentation draws in every arm.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ..core.errors import InputError, did_you_mean
from ..core.experiment import Experiment
from ..core.field_docs import Documented
from ..core.serialization import config_hash
from ..core.validation import is_name, require, whole
from .search_space import Domain, NumericDomain, Search, short_name, value_text

type Values = tuple[tuple[str, object], ...]
"""Pairs of a field's dotted name and its value, in order."""


BEST = "best trial"
"""Name of the arm of a search's best trial."""


@dataclass(frozen=True)
class Point(Documented):
    """One choice along an axis."""

    values: Values
    """Fields and their values; none for the unchanged base."""
    name: str = ""
    """Name of the arm; by default derived from its values."""


@dataclass(frozen=True)
class Axis(Documented):
    """Choices along one axis of a sweep; made by `grid`, `zipped`, `arms` and `chain`."""

    points: tuple[Point, ...]
    """Choices, in order."""


def grid(values: Mapping[str, Sequence[object]]) -> Axis:
    """Combine the values of several fields in all ways; the last field changes fastest.

    Example:
        >>> [point.values for point in grid({"batch_size": (16, 32)}).points]
        [(('batch_size', 16),), (('batch_size', 32),)]
    """
    _check_lists(values)
    return Axis(tuple(Point(tuple(zip(values, choice, strict=True))) for choice in itertools.product(*values.values())))


def zipped(values: Mapping[str, Sequence[object]]) -> Axis:
    """Change several fields together: their first values, their second values, ….

    Raises:
        InputError: where the fields have different numbers of values.

    Example:
        >>> [point.values for point in zipped({"batch_size": (16, 32), "stages.0.lr": (0.1, 0.2)}).points]
        [(('batch_size', 16), ('stages.0.lr', 0.1)), (('batch_size', 32), ('stages.0.lr', 0.2))]
    """
    _check_lists(values)
    lengths = {name: len(choices) for name, choices in values.items()}
    require(len(set(lengths.values())) <= 1, "zipped", lengths, "give every field the same number of values")
    return Axis(tuple(Point(tuple(zip(values, choice, strict=True))) for choice in zip(*values.values(), strict=True)))


def arms(named: Mapping[str, Mapping[str, object]]) -> Axis:
    """Make an axis of named choices, each of which sets any fields; `{}` is the unchanged base.

    Example:
        >>> [point.name for point in arms({"recipe": {}, "no augmentation": {"augment": ()}}).points]
        ['recipe', 'no augmentation']
    """
    good = bool(named) and all(isinstance(name, str) and name for name in named)
    require(good, "arms", list(named), "give at least one arm, each with a name, a text")
    return Axis(tuple(Point(tuple(values.items()), name) for name, values in named.items()))


def chain(*axes: Axis) -> Axis:
    """Join the choices of several axes, one after the other, to one axis.

    Example:
        >>> len(chain(grid({"batch_size": (16, 32)}), arms({"recipe": {}})).points)
        3
    """
    require(bool(axes), "chain", axes, "give at least one axis")
    return Axis(tuple(point for axis in axes for point in axis.points))


def _check_lists(values: Mapping[str, Sequence[object]]) -> None:
    require(bool(values), "axis", values, "name at least one field")
    for name, choices in values.items():
        require(isinstance(name, str), "axis", name, "name fields by text, such as stages.0.lr")
        require(isinstance(choices, (tuple, list)) and len(choices) > 0, name, choices, "give a tuple of one value or more")


@dataclass(frozen=True)
class Sweep(Documented):
    """A base experiment, the axes along which it varies, and the seeds of every arm; lists and ranges become the tuples of its fields."""

    name: str
    """Name of the sweep and, by default, of its folder."""
    base: Experiment
    """Experiment whose fields the arms change."""
    axes: tuple[Axis, ...] = ()
    """Axes, combined as a product; () for the base alone."""
    seeds: tuple[int, ...] = (0,)
    """Seeds that every arm is run with."""
    baseline: str = ""
    """Name of the arm that the others are compared with; by default the first."""
    question: str = ""
    """Question that the sweep answers, in prose; shown with its results."""
    search: Search | None = None
    """Trials beside the arms, run with the first seed; the best trial is repeated with the other seeds, as one more arm."""

    def __post_init__(self) -> None:
        require(is_name(self.name), "sweep.name", self.name, "use a non-empty name without / and control characters")
        for name in ("axes", "seeds"):
            if isinstance(value := getattr(self, name), (list, range)):
                object.__setattr__(self, name, tuple(value))
        seeds = isinstance(self.seeds, tuple) and bool(self.seeds) and all(map(whole, self.seeds))
        require(seeds, "sweep.seeds", self.seeds, "give a tuple of at least one whole number, such as (0, 1, 2)")
        axes = isinstance(self.axes, tuple) and all(isinstance(axis, Axis) for axis in self.axes)
        require(axes, "sweep.axes", self.axes, "give a tuple of axes, such as (grid(...),)")
        require(self.search is None or isinstance(self.search, Search), "sweep.search", self.search, "use Search(...), or None")
        require(len(set(self.seeds)) == len(self.seeds), "sweep.seeds", self.seeds, "give each seed once")
        for name in ("baseline", "question"):
            value = getattr(self, name)
            require(isinstance(value, str), f"sweep.{name}", value, "give a text")


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep.

    Attributes:
        number: position in the sweep, from 0.
        arm: name of the arm.
        values: fields that the arm sets, with their values.
        seed: seed of the run.
        experiment: experiment to run.
        hash: `config_hash` of the experiment; names the run folder.
    """

    number: int
    arm: str
    values: Values
    seed: int
    experiment: Experiment
    hash: str


def expand(sweep: Sweep) -> tuple[SweepRun, ...]:
    """List all runs, arm by arm, and within each arm by seed.

    Raises:
        InputError: for an unknown field (with the nearest names), a field that two axes set, a value that the experiment rejects, an
            unknown baseline, two arms with the same name or the same config.
    """
    runs: list[SweepRun] = []
    owners: dict[str, str] = {}
    names = _names(sweep)
    require(len(set(names)) == len(names), "sweep.axes", [n for n in names if names.count(n) > 1][:1], "give every arm a different name")
    _check_space(sweep)
    known = not sweep.baseline or sweep.baseline in names
    require(known, "sweep.baseline", sweep.baseline, f"{did_you_mean(sweep.baseline, names)}the arms are {', '.join(names)}")
    for name, points in zip(names, itertools.product(*(axis.points for axis in sweep.axes)), strict=True):
        values = tuple(pair for point in points for pair in point.values)
        fields = [field for field, _ in values]
        require(len(set(fields)) == len(fields), f"arm {name!r}", fields, "set every field along one axis only")
        require("seed" not in fields, f"arm {name!r}: seed", dict(values).get("seed"), "set the seeds of all arms with Sweep.seeds")
        for seed in sweep.seeds:
            try:
                experiment = with_values(sweep.base, (*values, ("seed", seed)))
            except InputError as error:
                raise InputError(f"arm {name!r}: {error}") from error
            key = config_hash(experiment)
            if (owner := owners.setdefault(key, name)) != name:
                raise InputError(f"arms {owner!r} and {name!r} are the same experiment ({key}); remove one of them")
            runs.append(SweepRun(len(runs), name, values, seed, experiment, key))
        if overwritten := _overwritten(sweep.base, values):
            raise InputError(f"arm {name!r}: {overwritten}")
    return tuple(runs)


def _check_space(sweep: Sweep) -> None:
    """Raise InputError for a space with fields that the base lacks, or with values that it rejects."""
    space = sweep.search.space if sweep.search else {}
    for field, domain in space.items():
        require(field != "seed", "search.space", field, "set the seeds with Sweep.seeds; trials use the first")
        try:
            for value in (*domain.ends, *_between(domain)):
                with_values(sweep.base, ((field, value),))
        except InputError as error:
            raise InputError(f"search.space: {error}") from error
    for end in (0, -1):
        if overwritten := _overwritten(sweep.base, tuple((field, domain.ends[end]) for field, domain in space.items())):
            raise InputError(f"search.space: {overwritten}")


def _between(domain: Domain) -> tuple[float, ...]:
    """Return a number between the ends of a domain of infinitely many; one that is not whole."""
    return (domain.low + (domain.high - domain.low) / math.pi,) if isinstance(domain, NumericDomain) and not domain.count else ()


def _overwritten(base: Experiment, values: Values) -> str:
    """Name a field that has an effect alone, but none beside the ones after it, which contain its own; "" where there is none."""
    for i, (field, _) in enumerate(values):
        words = field.split(".")
        later = [other for other, _ in values[i + 1 :] if len(parts := other.split(".")) <= len(words) and parts[0] == words[0]]
        with suppress(InputError):  # Some values are only valid together.
            alone = with_values(base, values[i : i + 1]) if later else base
            if alone != base and with_values(base, (*values[:i], *values[i + 1 :])) == with_values(base, values):
                return f"{field} has no effect before {later[-1]}, which sets it anew; put it last, or leave one out"
    return ""


def trial_run(sweep: Sweep, number: int, values: Values) -> SweepRun:
    """Return trial `number` of the search: the base with these values and the first seed.

    Raises:
        InputError: where the values do not go together.
    """
    experiment = with_values(sweep.base, (*values, ("seed", sweep.seeds[0])))
    return SweepRun(number, f"trial {number}", values, sweep.seeds[0], experiment, config_hash(experiment))


def confirmation_runs(sweep: Sweep, values: Values) -> tuple[SweepRun, ...]:
    """List the runs of the best trial's values with the seeds that took no part in its selection, as an arm beside the others."""
    experiments = (with_values(sweep.base, (*values, ("seed", seed))) for seed in sweep.seeds[1:])
    return tuple(SweepRun(i, BEST, values, e.seed, e, config_hash(e)) for i, e in enumerate(experiments, len(expand(sweep))))


def all_arms(sweep: Sweep, runs: Sequence[SweepRun]) -> list[str]:
    """List the names of the arms of these runs, and of the best trial of a search."""
    return [*dict.fromkeys(run.arm for run in runs), *([BEST] if sweep.search else [])]


def baseline_name(sweep: Sweep) -> str:
    """Return the name of the arm that the others are compared with."""
    return sweep.baseline or _names(sweep)[0]


def _names(sweep: Sweep) -> list[str]:
    """List the names of all arms: given ones, or "lr=0.01, size=96", with each field's name as short as is unique."""
    fields = list(dict.fromkeys(field for axis in sweep.axes for point in axis.points for field, _ in point.values))
    short = {field: short_name(field, fields) for field in fields}

    def name(point: Point) -> str:
        return point.name or ", ".join(f"{short[field]}={value_text(value)}" for field, value in point.values)

    return [", ".join(map(name, points)) or "base" for points in itertools.product(*(axis.points for axis in sweep.axes))]


# ---- fields by their dotted names ----


def with_values(experiment: Experiment, values: Values) -> Experiment:
    """Return the experiment with fields set by their dotted names, in order.

    Raises:
        InputError: for an unknown field or a value that the experiment rejects.
    """
    for field, value in values:
        experiment = _set(experiment, field.split("."), value, field)
    return experiment


def _set(owner: Any, words: list[str], value: object, field: str) -> Any:
    """Return `owner` with one field within it set; `words` is the rest of the field's dotted name."""
    word, rest = words[0], words[1:]
    if isinstance(owner, tuple):
        if word != "*":
            return _set_item(owner, words, value, field)
        return tuple(_set(item, rest, value, field) if rest else value for item in owner)
    if not dataclasses.is_dataclass(owner) or isinstance(owner, type):
        parent = field.rsplit("." + word, 1)[0]
        raise InputError(f"unknown field {field}: {parent} is {owner!r}; set {parent} as a whole")
    names = [f.name for f in dataclasses.fields(owner)]
    near = did_you_mean(word, names) or f"it has {', '.join(names)}"
    require(word in names, "field", field, f"{type(owner).__name__} has no {word}; {near}")
    try:
        return dataclasses.replace(owner, **{word: _set(getattr(owner, word), rest, value, field) if rest else value})
    except TypeError as error:  # A check compared the value with one of another type.
        raise InputError(f"{field} is {value!r}; {error}") from error


def _set_item(items: tuple[object, ...], words: list[str], value: object, field: str) -> tuple[object, ...]:
    """Return `items` with one of them changed, which is named by its position or by its own name."""
    names = [getattr(item, "name", "") for item in items]
    i = int(words[0]) if words[0].isdecimal() else names.index(words[0]) if words[0] in names else -1
    offered = ", ".join(f"{k} ({name})" if name else str(k) for k, name in enumerate(names)) or "none"
    require(0 <= i < len(items), "field", field, f"there is no {words[0]}: there are {offered}")
    return (*items[:i], _set(items[i], words[1:], value, field) if words[1:] else value, *items[i + 1 :])
