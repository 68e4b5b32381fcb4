"""Experiments as JSON data and back, and their hash.

Type tags resolve to dataclasses that are imported already, never by importing what the data names.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import InputError
from .experiment import Eval, Experiment, Parallel, Stage
from .first_tags import FIRST, STABLE
from .learning_rates import Decay, Find, Spread
from .optimizers import Optimizer
from .snapshots import Snapshots
from .types import Augmentation, Dataset, Length, Model, Schedule
from .validation import require


def _all_subclasses(base: type) -> set[type]:
    return {base}.union(*(_all_subclasses(sub) for sub in base.__subclasses__()))


def _tag(kind: type) -> str:
    """The name of a type in data: "schedules.Sgdr" by its room, "Stage" for what an experiment is made of, "module:Class" elsewhere."""
    package, *rooms = kind.__module__.split(".")
    if package != "sgdr_jax":
        return f"{kind.__module__}:{kind.__qualname__}"
    return kind.__qualname__ if rooms[0] == "core" else f"{rooms[0]}.{kind.__qualname__}"


def stable_tags(data: Any) -> Any:
    """JSON data with the type tags that `to_json` writes today, whichever version of the package wrote them.

    >>> stable_tags({"type": "sgdr_jax.schedules.sgdr:Sgdr", "cycles": 2})
    {'type': 'schedules.Sgdr', 'cycles': 2}
    """
    return _retagged(data, STABLE)


def first_tags(data: Any) -> Any:
    """JSON data with the type tags of the first version, over which hashes are taken so that they never change."""
    return _retagged(data, FIRST)


def _retagged(data: Any, names: Mapping[str, str]) -> Any:
    if isinstance(data, dict):
        tag = data.get("type")
        renamed = {"type": names[tag]} if isinstance(tag, str) and tag in names else {}
        return {key: _retagged(value, names) for key, value in data.items()} | renamed
    return [_retagged(item, names) for item in data] if isinstance(data, list) else data


def _known_types() -> dict[str, type]:
    bases = (Dataset, Model, Schedule, Length, Augmentation, Optimizer, Stage, Experiment, Eval, Snapshots, Parallel, Spread, Decay, Find)
    return {_tag(kind): kind for base in bases for kind in _all_subclasses(base)}


def to_json(value: Any) -> Any:
    """A config value as JSON data: dataclasses become {"type": tag, field: …}, tuples lists, paths strings.

    Raises TypeError for anything a config must not hold.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {"type": _tag(type(value))} | {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, (tuple, list)):
        return [to_json(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{value!r} cannot be part of a config")


def from_json(data: Any) -> Any:
    """The config value that `to_json` wrote. Raises InputError for an unknown type or field; never imports or runs what the data names."""
    return _from_json(stable_tags(data), "config", None)


def _from_json(data: Any, where: str, hint: Any) -> Any:
    if isinstance(data, dict):
        known = _known_types()
        tag = data.get("type")
        fix = "no such type is known; if an experiment file defines it, name that file with --experiment FILE"
        require(isinstance(tag, str) and tag in known, f"{where}.type", tag, fix)
        kind = known[str(tag)]
        hints = typing.get_type_hints(kind)
        names = {f.name for f in dataclasses.fields(kind)}
        unknown = sorted(set(data) - names - {"type"})
        require(not unknown, where, unknown, f"{kind.__name__} has the fields {', '.join(sorted(names))}")
        try:
            return kind(**{name: _from_json(item, f"{where}.{name}", hints[name]) for name, item in data.items() if name != "type"})
        except TypeError as error:
            raise InputError(f"{where} is incomplete; {error}") from error
        except AttributeError as error:
            raise InputError(f"{where} is damaged; {error}") from error
    if isinstance(data, list):
        return tuple(_from_json(item, f"{where}[{i}]", None) for i, item in enumerate(data))
    options = typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
    return Path(data) if isinstance(data, str) and Path in options else data


def config_hash(experiment: Experiment) -> str:
    """Twelve hex digits that change with any field of the experiment but `parallel`, which says where it runs."""
    return hashlib.sha256(json.dumps(first_tags(to_json(experiment)) | {"parallel": None}, sort_keys=True).encode()).hexdigest()[:12]
