"""A sweep: one base experiment, and axes along which its fields vary. Worked out to runs, and kept on disk, without jax.

    sweep = Sweep(
        "rates",
        base,
        axes=(grid({"stages.0.lr": (1e-3, 1e-2)}), arms({"recipe": {}, "no augmentation": {"augment": ()}})),
        seeds=(0, 1, 2),
    )

The axes are combined as a product, and every arm, that is one choice along each axis, is run once for each seed. Fields have the dotted
names of the command line: `stages.1.lr`, `optimizer.weight_decay`, `stages.head.schedule.cycle_mult` (a stage by its name),
`stages.*.size` (all stages). Runs that share a seed share their randomness: the same initial head, order of examples and augmentation
draws in every arm.

A sweep's folder holds sweep.json, what was asked for (see `record`), and runs/HASH, the run folder of each run (see `logbook`); a run is
finished when that has its summary.json.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import InputError
from ..core.experiment import Experiment
from ..core.files import write_atomically
from ..core.serialization import config_hash, first_tags, stable_tags, to_json
from ..core.validation import require
from .search_space import Search, shortest, text

Values = tuple[tuple[str, Any], ...]
"""Fields and the values that they are given, in order."""


@dataclass(frozen=True)
class Point:
    """One choice along an axis."""

    values: Values
    """Fields and their values; none for the base as it is."""
    name: str = ""
    """Names the arm; empty: named after its values."""


@dataclass(frozen=True)
class Axis:
    """The choices along one axis of a sweep; made by `grid`, `zipped`, `arms` and `chain`."""

    points: tuple[Point, ...]
    """The choices, in order."""


def grid(values: Mapping[str, Sequence[Any]]) -> Axis:
    """All combinations of the values of several fields; the last field changes fastest.

    >>> [point.values for point in grid({"batch_size": (16, 32)}).points]
    [(('batch_size', 16),), (('batch_size', 32),)]
    """
    _check_lists(values)
    return Axis(tuple(Point(tuple(zip(values, chosen, strict=True))) for chosen in itertools.product(*values.values())))


def zipped(values: Mapping[str, Sequence[Any]]) -> Axis:
    """Several fields that change together: their first values, their second values, …. Raises InputError unless all have as many.

    >>> [point.values for point in zipped({"batch_size": (16, 32), "stages.0.lr": (0.1, 0.2)}).points]
    [(('batch_size', 16), ('stages.0.lr', 0.1)), (('batch_size', 32), ('stages.0.lr', 0.2))]
    """
    _check_lists(values)
    lengths = {name: len(chosen) for name, chosen in values.items()}
    require(len(set(lengths.values())) <= 1, "zipped", lengths, "give every field as many values as the others")
    return Axis(tuple(Point(tuple(zip(values, chosen, strict=True))) for chosen in zip(*values.values(), strict=True)))


def arms(named: Mapping[str, Mapping[str, Any]]) -> Axis:
    """Named choices, each of which sets any fields; `{}` is the base as it is.

    >>> [point.name for point in arms({"recipe": {}, "no augmentation": {"augment": ()}}).points]
    ['recipe', 'no augmentation']
    """
    require(bool(named) and all(named), "arms", list(named), "name at least one arm, and each of them")
    return Axis(tuple(Point(tuple(values.items()), name) for name, values in named.items()))


def chain(*axes: Axis) -> Axis:
    """The choices of several axes one after the other, as one axis.

    >>> len(chain(grid({"batch_size": (16, 32)}), arms({"recipe": {}})).points)
    3
    """
    require(bool(axes), "chain", axes, "give at least one axis")
    return Axis(tuple(point for axis in axes for point in axis.points))


def _check_lists(values: Mapping[str, Sequence[Any]]) -> None:
    require(bool(values), "axis", values, "name at least one field")
    for name, chosen in values.items():
        require(isinstance(chosen, (tuple, list)) and len(chosen) > 0, name, chosen, "give a tuple of one value or more")


@dataclass(frozen=True)
class Sweep:
    """A base experiment, the axes along which it varies, and the seeds that every arm is run with."""

    name: str
    """Names the sweep's folder."""
    base: Experiment
    """What every run has but for the fields that its arm sets."""
    axes: tuple[Axis, ...] = ()
    """Combined as a product; () for the base alone."""
    seeds: tuple[int, ...] = (0,)
    """Every arm is run once with each."""
    baseline: str = ""
    """Name of the arm that the others are compared with; empty: the first."""
    question: str = ""
    """What it asks, in a sentence or more; shown with its results."""
    search: Search | None = None
    """Trials beside the arms, each with the first seed; the best is then run with the other seeds, as one more arm."""

    def __post_init__(self) -> None:
        require(bool(self.name) and "/" not in self.name, "sweep.name", self.name, "use a non-empty name without /")
        require(
            isinstance(self.seeds, tuple) and bool(self.seeds), "sweep.seeds", self.seeds, "give a tuple of at least one, such as (0, 1, 2)"
        )
        axes = isinstance(self.axes, tuple) and all(isinstance(axis, Axis) for axis in self.axes)
        require(axes, "sweep.axes", self.axes, "give a tuple of axes, such as (grid(...),)")
        require(self.search is None or isinstance(self.search, Search), "sweep.search", self.search, "use Search(...), or None")
        require(len(set(self.seeds)) == len(self.seeds), "sweep.seeds", self.seeds, "give each seed once")


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep.

    Attributes:
        number: position in the sweep, from 0.
        arm: name of the arm.
        values: the fields that the arm sets, and their values.
        seed: of the run.
        experiment: what is run.
        hash: `config.config_hash` of the experiment; names the run folder.
    """

    number: int
    arm: str
    values: Values
    seed: int
    experiment: Experiment
    hash: str


def expand(sweep: Sweep) -> tuple[SweepRun, ...]:
    """All runs: arm by arm, and in each the seeds in order.

    Raises:
        InputError: for an unknown field (with the nearest names), a field that two axes set, a value that the experiment refuses, an
            unknown baseline, two arms of one name or of one config.
    """
    runs: list[SweepRun] = []
    owners: dict[str, str] = {}
    names = _names(sweep)
    require(len(set(names)) == len(names), "sweep.axes", [n for n in names if names.count(n) > 1][:1], "give every arm a name of its own")
    _check_space(sweep)
    known = not sweep.baseline or sweep.baseline in names
    require(known, "sweep.baseline", sweep.baseline, f"use one of {', '.join(names)}{_near(sweep.baseline, names)}")
    for name, points in zip(names, itertools.product(*(axis.points for axis in sweep.axes)), strict=True):
        values = tuple(pair for point in points for pair in point.values)
        fields = [field for field, _ in values]
        require(len(set(fields)) == len(fields), f"arm {name!r}", fields, "set every field along one axis only")
        require("seed" not in fields, f"arm {name!r}: seed", dict(values).get("seed"), "give the seeds of all arms as Sweep.seeds")
        for seed in sweep.seeds:
            try:
                experiment = changed(sweep.base, (*values, ("seed", seed)))
            except InputError as error:
                raise InputError(f"arm {name!r}: {error}") from error
            key = config_hash(experiment)
            if (owner := owners.setdefault(key, name)) != name:
                raise InputError(f"arms {owner!r} and {name!r} are the same experiment ({key}); leave one of them out")
            runs.append(SweepRun(len(runs), name, values, seed, experiment, key))
    return tuple(runs)


def _check_space(sweep: Sweep) -> None:
    """Refuses a space whose fields the base does not have, or with values that it does not accept."""
    for field, domain in sweep.search.space.items() if sweep.search else ():
        require(field != "seed", "search.space", field, "give the seeds as Sweep.seeds; trials have the first")
        try:
            for value in domain.ends:
                changed(sweep.base, ((field, value),))
        except InputError as error:
            raise InputError(f"search.space: {error}") from error


def trial_run(sweep: Sweep, number: int, values: Values) -> SweepRun:
    """Trial `number` of the search: the base with these values and the first seed. Raises InputError where they do not go together."""
    experiment = changed(sweep.base, (*values, ("seed", sweep.seeds[0])))
    return SweepRun(number, f"trial {number}", values, sweep.seeds[0], experiment, config_hash(experiment))


def chosen_runs(sweep: Sweep, values: Values) -> tuple[SweepRun, ...]:
    """The best trial of the search with the seeds that had no part in its choice: an arm beside the others."""
    made = (changed(sweep.base, (*values, ("seed", seed))) for seed in sweep.seeds[1:])
    return tuple(SweepRun(i, "best trial", values, e.seed, e, config_hash(e)) for i, e in enumerate(made, len(expand(sweep))))


def baseline(sweep: Sweep) -> str:
    """Name of the arm that the others are compared with."""
    return sweep.baseline or _names(sweep)[0]


def _names(sweep: Sweep) -> list[str]:
    """Names of all arms: the points' own, or "lr=0.01, size=96", with as much of a field's dotted name as tells it from the others."""
    fields = list(dict.fromkeys(field for axis in sweep.axes for point in axis.points for field, _ in point.values))
    short = {field: shortest(field, fields) for field in fields}

    def name(point: Point) -> str:
        return point.name or ", ".join(f"{short[field]}={text(value)}" for field, value in point.values)

    return [", ".join(map(name, points)) or "base" for points in itertools.product(*(axis.points for axis in sweep.axes))]


# ---- fields by their dotted names ----


def changed(experiment: Experiment, values: Values) -> Experiment:
    """The experiment with fields set by their dotted names, in order. Raises InputError for an unknown field or a refused value."""
    for field, value in values:
        experiment = _set(experiment, field.split("."), value, field)
    return experiment


def _set(owner: Any, words: list[str], value: Any, field: str) -> Any:
    """`owner` with one field within it set."""
    word, rest = words[0], words[1:]
    if isinstance(owner, tuple):
        return (
            tuple(_set(item, rest, value, field) if rest else value for item in owner) if word == "*" else _at(owner, words, value, field)
        )
    if not dataclasses.is_dataclass(owner):
        at = field.rsplit("." + word, 1)[0]
        raise InputError(f"{field} is no field: {at} is {owner!r}; set {at} as a whole")
    names = [f.name for f in dataclasses.fields(owner)]
    require(word in names, "field", field, f"{type(owner).__name__} has no {word}{_near(word, names)}")  # pyright: ignore[reportArgumentType]
    try:
        return dataclasses.replace(owner, **{word: _set(getattr(owner, word), rest, value, field) if rest else value})  # pyright: ignore[reportArgumentType]
    except TypeError as error:  # a check met a value of another kind than it compares with
        raise InputError(f"{field} is {value!r}; {error}") from error


def _at(items: tuple[Any, ...], words: list[str], value: Any, field: str) -> tuple[Any, ...]:
    """`items` with one of them changed, which is named by its position or its own name."""
    names = [getattr(item, "name", "") for item in items]
    i = int(words[0]) if words[0].isdigit() else names.index(words[0]) if words[0] in names else -1
    offered = ", ".join(f"{k} ({name})" if name else str(k) for k, name in enumerate(names)) or "none"
    require(0 <= i < len(items), "field", field, f"there is no {words[0]}: there are {offered}")
    return (*items[:i], _set(items[i], words[1:], value, field) if words[1:] else value, *items[i + 1 :])


def _near(word: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, names, 3, 0.5)
    return f"; did you mean {' or '.join(near)}?" if near else f"; it has {', '.join(names)}"


# ---- what is kept of a sweep ----


def record(sweep: Sweep, runs: Sequence[SweepRun]) -> dict[str, Any]:
    """A sweep as JSON data, for sweep.json: name, hash, question, baseline, seeds, the base experiment, and number, arm, values, seed
    and hash of each run; the search where there is one."""
    rows = [row(run) for run in runs]
    facts = {"name": sweep.name, "question": sweep.question, "baseline": baseline(sweep), "seeds": list(sweep.seeds)}
    facts |= {"base": to_json(sweep.base), "runs": rows}
    if sweep.search:
        space = {field: to_json(domain) for field, domain in sweep.search.space.items()}
        others = {f.name: to_json(getattr(sweep.search, f.name)) for f in dataclasses.fields(sweep.search) if f.name != "space"}
        facts |= {"search": {"space": space} | others}
    return {"hash": hashlib.sha256(json.dumps(first_tags(facts), sort_keys=True).encode()).hexdigest()[:12]} | facts


def row(run: SweepRun) -> dict[str, Any]:
    """A run as JSON data: number, arm, values, seed and hash."""
    return {"number": run.number, "arm": run.arm, "values": {k: to_json(v) for k, v in run.values}, "seed": run.seed, "hash": run.hash}


def keep(folder: str | Path, sweep: Sweep, runs: Sequence[SweepRun]) -> int:
    """Makes the folder of a sweep, or opens it again; returns how many runs it did not hold before.

    A sweep may have grown since, by arms or seeds: what it held before is kept. Raises InputError, and writes nothing, where the folder
    holds a sweep with other runs than these, or something else.
    """
    folder = Path(folder)
    file, now = folder / "sweep.json", record(sweep, runs)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"sweep folder {folder} is a file; use another --dir")
    if not file.exists():
        foreign = sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")) if folder.exists() else []
        if foreign:
            raise InputError(f"sweep folder {folder} holds {foreign[0]} but no sweep.json; it is no sweep folder, use another --dir")
        old: dict[str, Any] = {"runs": []}
    else:
        old = read(folder)
        gone = [row for row in old["runs"] if row["hash"] not in {r.hash for r in runs}]
        if gone:
            what = (
                f"{len(gone)} of its {len(old['runs'])} runs are none of this one's, such as {gone[0]['arm']!r} with seed {gone[0]['seed']}"
            )
            raise InputError(
                f"sweep folder {folder} belongs to sweep {old['name']} ({old['hash']}), this is {now['hash']}: {what}; use another --dir"
            )
        _check_search(folder, old, now)
    if now != old:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(now, indent=1, ensure_ascii=False) + "\n")
    return len(runs) - len(old["runs"])


def _check_search(folder: Path, old: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuses another search than that whose trials the folder has; more of them may be wanted, or others ended early."""
    was, wanted = old.get("search") or {}, now.get("search") or {}
    for name in was:
        if name not in ("trials", "pruner") and wanted.get(name) != was[name]:
            raise InputError(f"sweep folder {folder} has a search with another {name}; use another --dir")
    if was and old["seeds"][:1] != now["seeds"][:1]:
        raise InputError(f"sweep folder {folder} has trials with seed {old['seeds'][0]}, now the first is {now['seeds'][0]}; keep it first")


def read(folder: str | Path) -> dict[str, Any]:
    """What sweep.json of a folder says; see `record`. Raises InputError where there is none, or one that was written with a population."""
    file = Path(folder) / "sweep.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or not {"name", "hash", "baseline", "seeds", "runs"} <= found.keys():
            raise ValueError("it does not describe a sweep")
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{folder} has no sweep.json; name the folder of a sweep") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read ({error}); restore it, or use another --dir") from error
    if "population" in found:
        raise InputError(f"sweep folder {folder} was written with Population, which is no longer supported; use another --dir")
    return stable_tags(found)


def run_folder(folder: str | Path, key: str) -> Path:
    """The run folder of the run with this hash."""
    return Path(folder) / "runs" / key
