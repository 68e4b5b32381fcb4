"""Writes an experiment as a Python file, which `experiment_file` loads again."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import augment, datasets, models, schedules
from ..core.experiment import Experiment
from ..core.expression import expression, given_fields
from ..core.files import write_atomically
from ..core.validation import require
from .experiment_file import check_new_file


def save_experiment(experiment: Experiment, path: str | Path) -> Path:
    """Write an experiment as a file for `sgdr-jax train`; return its path.

    Args:
        experiment: what to write; fields at their defaults are left out.
        path: of the file, which must not exist.

    Raises:
        InputError: the path does not end in .py, is taken, or the experiment has a class that only a notebook or another file defines, or
            two of one name.
    """
    path = Path(path)
    check_new_file(path, "path")
    write_atomically(path, experiment_source(experiment))
    return path


def experiment_source(experiment: Experiment) -> str:
    """Return the text of an experiment file. Raises InputError as `save_experiment`.

    Example:
        >>> from sgdr_jax import Sgdr, Stage
        >>> from sgdr_jax.datasets import Synthetic
        >>> from sgdr_jax.models import ResNet18
        >>> print(experiment_source(Experiment("rings", Synthetic(), ResNet18(), (Stage("all", schedule=Sgdr(3)),))))
        from sgdr_jax import Experiment, Sgdr, Stage
        from sgdr_jax.datasets import Synthetic
        from sgdr_jax.models import ResNet18
        <BLANKLINE>
        experiment = Experiment(
            name="rings",
            data=Synthetic(),
            model=ResNet18(),
            stages=(Stage(name="all", schedule=Sgdr(cycles=3)),),
        )
        <BLANKLINE>
    """
    homes: dict[str, set[str]] = {}
    named: dict[str, type] = {}
    for kind in _kinds(experiment):
        name, home, other = kind.__name__, _home(kind), named.setdefault(kind.__name__, kind)
        fix = f"{_home(other)} has one of that name in the experiment too; give your own class another name"
        require(kind is other, "class", f"{home}.{name}", fix)
        homes.setdefault(home, set()).add(name)
    imports = "\n".join(f"from {home} import {', '.join(sorted(names))}" for home, names in sorted(homes.items()))
    return f"{imports}\n\nexperiment = {expression(experiment, before=len('experiment = '))}\n"


def _kinds(value: Any) -> Iterator[type]:
    """Yield the classes that the expression of a value names."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield type(value)
        for item in given_fields(value).values():
            yield from _kinds(item)
    elif isinstance(value, tuple):
        for item in value:
            yield from _kinds(item)
    elif isinstance(value, Path):
        yield Path


def _home(kind: type) -> str:
    """Return the public module that a class is imported from. Raises InputError if a file cannot import it."""
    if kind is Path:
        return "pathlib"
    name, package = kind.__name__, __name__.partition(".")[0]
    for room in (sys.modules[package], schedules, augment, datasets, models):
        if name in room.__all__ and getattr(room, name) is kind:
            return room.__name__
    where, fix = kind.__module__, "move the class to a module of its own, and import it from there"
    require(where != "__main__" and not where.startswith("experiment_file_"), "class", f"{where}.{name}", fix)
    return where
