"""Conversion of experiments to JSON data and back, and their hash.

Type tags are stable names: "Stage" for types of `core`, "schedules.Sgdr" for those of other rooms, "module:Class" for those outside the
package. They resolve to dataclasses that are already imported, never by importing what the data names.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import sys
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from .errors import InputError, did_you_mean
from .experiment import Eval, Experiment, Parallel, Stage
from .first_tags import FIRST, STABLE
from .json_files import checked
from .kinds import is_default, type_hints
from .learning_rates import Decay, Find, Spread
from .optimizers import Optimizer
from .snapshots import Snapshots
from .solve import Solve
from .text import is_unicode
from .types import OMIT_DEFAULT, Augmentation, Dataset, Length, Model, Schedule
from .validation import require

type Json = bool | int | float | str | list[Json] | dict[str, Json] | None


def _all_subclasses(base: type) -> set[type]:
    return {base}.union(*(_all_subclasses(sub) for sub in base.__subclasses__()))


def _known_types() -> dict[str, type]:
    bases = (
        Dataset,
        Model,
        Schedule,
        Length,
        Augmentation,
        Optimizer,
        Stage,
        Experiment,
        Eval,
        Snapshots,
        Parallel,
        Spread,
        Decay,
        Find,
        Solve,
    )
    kinds = (kind for base in bases for kind in _all_subclasses(base))
    return {_tag(kind): kind for kind in sorted(kinds, key=_is_current)}  # of two with one tag the current one comes last and stays


def _is_current(kind: type) -> bool:
    """Whether a class is the one that its module defines now, not one of an experiment file that has been loaded again since."""
    return getattr(sys.modules.get(kind.__module__), kind.__qualname__, None) is kind


def _tag(kind: type) -> str:
    package, *rooms = kind.__module__.split(".")
    if package != "sgdr_jax":
        return f"{kind.__module__}:{kind.__qualname__}"
    return kind.__qualname__ if rooms[0] == "core" else f"{rooms[0]}.{kind.__qualname__}"


def to_json(value: object) -> Any:
    """Convert a configuration value to JSON data.

    Dataclasses become {"type": tag, field: …} without `OMIT_DEFAULT` fields that have their default, tuples lists, paths strings.

    Raises:
        InputError: a text is a name of a file that is not UTF-8.
        TypeError: a value has no JSON form.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        values = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if not _left_out(value, f)}
        return {"type": _tag(type(value))} | {name: to_json(item) for name, item in values.items()}
    if isinstance(value, (tuple, list)):
        return [to_json(item) for item in cast(Sequence[object], value)]
    if isinstance(value, Path):
        return to_json(str(value))
    if value is None or isinstance(value, (bool, int, float, str)):
        if isinstance(value, str) and not is_unicode(value):
            raise InputError(f"{value!r} is not UTF-8, so no run could record it; rename the file or folder")
        return value
    raise TypeError(f"{value!r} cannot be part of a config")


def _left_out(value: object, field: dataclasses.Field[Any]) -> bool:
    return field.metadata == OMIT_DEFAULT and getattr(value, field.name) == field.default


def from_json(data: Any, parts: Iterable[type] = ()) -> Any:
    """Convert JSON data written by `to_json`, of any version, back to the value; never import or execute what it names.

    Args:
        data: the data.
        parts: classes that stand for those outside of the package that bear their names; see `own_tags`.

    Raises:
        InputError: unknown type or field.
    """
    return _from_json(_retagged(stable_tags(data), own_tags(data, parts)), "config", None)


def own_tags(data: Any, parts: Iterable[type]) -> dict[str, str]:
    """Return the tags in JSON data of classes outside of the package, each with the tag of the class out of `parts` that bears its name.

    A class that was defined in a notebook, a script or an experiment file has another module, so another tag, where it is imported.
    """
    tags, found = {_tag(kind) for kind in parts}, dict[str, str]()
    for tag in _tags(stable_tags(data)):
        alike = [tag] if tag in tags else [own for own in sorted(tags) if _class_name(own) == _class_name(tag)]
        if ":" in tag and alike:
            found[tag] = alike[0]
    return found


def _class_name(tag: str) -> str:
    return re.split(r"[:.]", tag)[-1]


def _tags(data: Json) -> Iterator[str]:
    """Yield the type tags of JSON data."""
    if isinstance(data, dict) and isinstance(tag := data.get("type"), str):
        yield tag
    for item in data.values() if isinstance(data, dict) else data if isinstance(data, list) else ():
        yield from _tags(item)


def _is_dataclass(kind: object) -> bool:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def checked_parts(parts: object) -> tuple[type, ...]:
    """Return the classes that a user gives as `parts` of an experiment. Raises InputError for what is no such class."""
    several: tuple[object, ...] = (parts,)
    if isinstance(parts, Iterable) and not isinstance(parts, str):
        several = tuple(cast(Iterable[object], parts))
    for i, part in enumerate(several):
        fix = "give your own classes, imported from the file that defines them, such as parts=[Exponential]"
        require(_is_dataclass(part), f"parts[{i}]", part, fix)
    return cast(tuple[type, ...], several)


def _from_json(data: Json, path: str, hint: Any) -> Any:
    """Convert a part of the data.

    Args:
        data: the part.
        path: to it, for messages: "config.stages[0]".
        hint: type of the field that it is the value of.
    """
    if isinstance(data, dict):
        return _dataclass(data, path)
    if isinstance(data, list):
        return tuple(_from_json(item, f"{path}[{i}]", None) for i, item in enumerate(data))
    options = typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
    return Path(data) if isinstance(data, str) and Path in options else data


def _dataclass(data: dict[str, Json], path: str) -> Any:
    known, tag = _known_types(), data.get("type")
    near = did_you_mean(str(tag), known, 1)
    own = "if it is a class of your own, give it, as in load(folder, parts=[MyClass]), or its file by --experiment FILE"
    fix = f"{near}no such type is known; {own}"
    require(isinstance(tag, str) and tag in known, f"{path}.type", tag, fix)
    kind = known[str(tag)]
    hints = type_hints(kind)
    names = {f.name for f in dataclasses.fields(kind)}
    unknown = sorted(set(data) - names - {"type"})
    near = did_you_mean(unknown[0], names, 1) if unknown else ""
    require(not unknown, path, unknown, f"{near}{kind.__name__} has the fields {', '.join(sorted(names))}")
    try:
        return kind(
            **{name: _field(kind, name, item, f"{path}.{name}", hints.get(name, Any)) for name, item in data.items() if name != "type"}
        )
    except TypeError as error:
        raise InputError(f"{path} is incomplete; {error}") from error
    except AttributeError as error:
        raise InputError(f"{path} is damaged; {error}") from error


def _field(kind: type, name: str, data: Json, path: str, hint: Any) -> Any:
    """Convert the value of a field, which must be of the field's type."""
    value = _from_json(data, path, hint)
    default = next(field.default for field in dataclasses.fields(kind) if field.name == name)
    _check_kind(value, default, path, hint)
    return value


def _check_kind(value: Any, default: Any, path: str, hint: Any) -> None:
    """Raise InputError unless a value is of a field's type, or the default, about which the type may be wrong."""
    if is_default(value, default):
        return
    if checked(value, hint, path) is not value and value is None:
        raise InputError(f"{path} is None; use a number")


def stable_tags(data: Any) -> Any:
    """Replace the type tags of JSON data, written by any version of the package, by stable names.

    Example:
        >>> stable_tags({"type": "sgdr_jax.schedules.sgdr:Sgdr", "cycles": 2})
        {'type': 'schedules.Sgdr', 'cycles': 2}
    """
    return _retagged(data, STABLE)


def first_tags(data: Any) -> Any:
    """Replace the stable names of JSON data by the tags of the first version, over which hashes are taken so that they never change."""
    return _retagged(data, FIRST)


def _retagged(data: Json, names: Mapping[str, str]) -> Json:
    if isinstance(data, dict):
        tag = data.get("type")
        renamed: dict[str, Json] = {"type": names[tag]} if isinstance(tag, str) and tag in names else {}
        return {key: _retagged(value, names) for key, value in data.items()} | renamed
    return [_retagged(item, names) for item in data] if isinstance(data, list) else data


def key_text(value: Any) -> str:
    """Return a text that is equal for equal settings, such as experiments or datasets; user-defined ones may not be hashable."""
    return json.dumps(to_json(value), sort_keys=True)


def config_hash(experiment: Experiment, tags: Mapping[str, str] = types.MappingProxyType({})) -> str:
    """Return twelve hex digits that change with any field of the experiment except `parallel`, which does not change its numbers.

    Args:
        experiment: the experiment.
        tags: tags of its classes that the recorded configuration had, each with the tag now, as of `own_tags`.
    """
    data = _retagged(to_json(experiment), {now: recorded for recorded, now in tags.items()})
    return hashlib.sha256(json.dumps(first_tags(data) | {"parallel": None}, sort_keys=True).encode()).hexdigest()[:12]
