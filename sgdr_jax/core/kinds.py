"""Kinds of the values in a config: every part of it checks its fields against their types before it uses them.

Experiments are Python, which does not check types: 2.5 images, or a text for a number, would fail somewhere inside, or be noticed when
a finished run is opened. Whoever makes a part, an experiment file, a notebook or a sweep, makes it through its constructor.
"""

# Values of unknown kinds are what this module is about.
# pyright: basic

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from .errors import InputError, did_you_mean
from .field_docs import Documented
from .json_files import checked
from .validation import shown


class Config(Documented):
    """Base class of the parts of a config, which are frozen dataclasses.

    A subclass's own `__post_init__`, which bounds the values, runs after their kinds are known to be right: it may compare them. Lists
    become the tuples that a field holds, paths its texts, and scalars of NumPy plain numbers, so that `Experiment(stages=[…])` and
    `batch_size=np.int64(8)` are the experiment that they look like.
    """

    _fixes: ClassVar[Mapping[str, str]] = {}
    """Field to what its error says to do, where the names of its types do not tell."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        own: Callable[..., None] = cls.__post_init__
        if hasattr(own, "checks_kinds"):  # inherited
            return

        @functools.wraps(own)
        def after_kinds(self: Config, *given: Any, **named: Any) -> None:
            if type(self).__post_init__ is after_kinds:  # and not one that a subclass calls
                check_fields(self, self._label)
            own(self, *given, **named)

        setattr(after_kinds, "checks_kinds", True)  # noqa: B010
        cls.__post_init__ = after_kinds

    def __post_init__(self) -> None:
        """Bound the values; their kinds are right."""

    def _label(self, name: str) -> str:
        """Return how messages call a field."""
        return f"{type(self).__name__}.{name}"


def check_fields(value: Any, label: Callable[[str], str]) -> None:
    """Raise InputError unless the fields of a dataclass are of their types and a config can hold them.

    Args:
        value: the dataclass; lists and NumPy's scalars in its fields are replaced by what a config holds.
        label: returns how messages call a field.
    """
    hints = type_hints(type(value))
    for field in dataclasses.fields(value):
        if not hasattr(value, field.name):  # set later, by the class itself
            continue
        given = getattr(value, field.name)
        if is_default(given, field.default):
            continue
        where, hint = label(field.name), hints.get(field.name, Any)
        kinds = [typing.get_origin(member) or member for member in _members(hint)]
        item = _plain(given, lists=tuple in kinds, texts=str in kinds and Path not in kinds)
        if item is not given:
            object.__setattr__(value, field.name, item)
        if wrong := _wrong(item, hint, where):
            part, found, fix = wrong
            raise InputError(f"{part} is {shown(found, 60)}; {getattr(value, '_fixes', {}).get(field.name, fix)}")
        for leaf in _leaves(item):
            if dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):  # of one's own, which has not checked itself
                check_fields(leaf, lambda name, where=where: f"{where}.{name}")
            elif leaf is not None and not isinstance(leaf, (bool, int, float, str, Path)):
                fix = "no config can hold it; use numbers, texts, tuples, paths or dataclasses"
                raise InputError(f"{where} is {shown(given, 60)}; {fix}")


def is_default(value: Any, default: Any) -> bool:
    """Return whether a value is the default of its field, about which the type may be wrong."""
    return type(value) is type(default) and (value is default or value == default)


def type_hints(kind: type) -> dict[str, Any]:
    """Return the types of the fields of a class; {} if it names types of the user's own that are imported for type checkers alone."""
    try:
        return _resolved(kind)
    except (NameError, TypeError):
        return {}


_resolved = functools.cache(typing.get_type_hints)  # failures are not kept: a name may be defined later in its module


def _leaves(value: object) -> Iterator[object]:
    """Iterate over what tuples and lists hold, without the parts of a config, which have checked themselves."""
    if isinstance(value, (tuple, list)):
        for item in value:
            yield from _leaves(item)
    elif not isinstance(value, Config):
        yield value


def _plain(value: Any, *, lists: bool, texts: bool = False) -> Any:
    """Return a value with NumPy's scalars as those of Python, and lists as tuples or a path as a text where the field has these."""
    if isinstance(value, np.generic):
        return value.item()
    if texts and isinstance(value, Path):
        return str(value)
    if isinstance(value, (tuple, list)):
        items = [_plain(item, lists=lists) for item in value]
        if isinstance(value, list) and lists:
            return tuple(items)
        if any(new is not old for new, old in zip(items, value, strict=True)) and type(value) in (tuple, list):
            return type(value)(items)
    return value


def _members(hint: Any) -> tuple[Any, ...]:
    """Return the types that a field may have: those of a union, or the one."""
    while isinstance(hint, typing.TypeAliasType):
        hint = hint.__value__
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return tuple(member for part in typing.get_args(hint) for member in _members(part))
    return (hint,)


def _wrong(value: Any, hint: Any, where: str) -> tuple[str, Any, str] | None:
    """Return the part of a value that is not of a type: what messages call it, the part, and what to use; None if all is right."""
    with suppress(InputError):
        same = checked(value, hint, where)
        if same is value or same == value:  # None, as JSON has NaN, is no number here
            return None
    if isinstance(value, int) and abs(value) >= 1 << 63:
        return where, value, "use a smaller number"
    items = [typing.get_args(member) for member in _members(hint) if typing.get_origin(member) is tuple]
    if isinstance(value, tuple) and len(items) == 1 and items[0][1:] == (...,):
        for i, item in enumerate(value):
            if wrong := _wrong(item, items[0][0], f"{where}[{i}]"):
                return wrong
    names = [str(name) for member in _members(hint) if typing.get_origin(member) is Literal for name in typing.get_args(member)]
    near = did_you_mean(value, names, 1) if isinstance(value, str) else ""
    return where, value, f"{near}use {_use(hint)}"


_WORDS: Mapping[Any, tuple[str, str]] = {
    bool: ("True or False", "switches"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("a text", "texts"),
    Path: ("a path", "paths"),
    types.NoneType: ("None", "None"),
}


def _use(hint: Any) -> str:
    """Say what values of a type to use.

    >>> _use(int | tuple[float, ...] | None), _use(Literal["jit", "pmap"]), _use(tuple[float, float])
    ('a whole number, a tuple of numbers or None', 'jit or pmap', 'a tuple of 2 numbers')
    """
    words = list(dict.fromkeys(word for member in _members(hint) for word in _words(member)))
    words = [word for word in words if word != "None"] + ["None"] * ("None" in words)
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]


def _words(kind: Any) -> list[str]:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return [str(value) or '""' for value in args]
    if origin is tuple and args:
        return [f"a tuple of {_several(args[0])}" if args[-1] is ... else f"a tuple of {len(args)} {_several(args[0])}"]
    name = getattr(origin or kind, "__name__", str(kind))
    return [_WORDS[kind][0] if kind in _WORDS else f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"]


def _several(kind: Any) -> str:
    def plural(member: Any) -> str:
        if typing.get_origin(member) is Literal:
            return ", ".join(map(str, typing.get_args(member)))
        return _WORDS[member][1] if member in _WORDS else f"{getattr(member, '__name__', 'tuple')}s"

    return " or ".join(map(plural, _members(kind)))
