"""JSON files, read with the kinds of values that a type declares.

`TypedDict`s, named tuples and dataclasses describe what the files of runs and sweeps hold. A file of someone else's making, or one that
is damaged, is refused here in one line, so that what reads the values need not doubt them.
"""

# Values of unknown kinds are what this module is about.
# pyright: basic

from __future__ import annotations

import functools
import json
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from .errors import InputError, did_you_mean
from .validation import shown

MAX_DEPTH = 100
"""Bound on the nesting of lists and objects in a file."""

type Check = Callable[[Any], Any]
"""Returns the value, with null as NaN where the type is float; raises `WrongKind`."""


class WrongKind(Exception):
    """A value is of another kind than its type; collects the path to the value on its way up."""

    def __init__(self, reason: str, names: Sequence[str] = ()) -> None:
        super().__init__(reason)
        self.path = ""
        self.value: object = None
        self.names = names  # known values, where the value is a name

    def within(self, step: str) -> WrongKind:
        """Put a step before the path."""
        self.path = step + self.path
        return self

    def __str__(self) -> str:
        return f"{self.path.lstrip('.')} {self.args[0]}" if self.path else f"the whole {self.args[0]}"


def read_json[T](path: Path, kind: type[T] | Any, fix: str, *, whole: bool = True) -> T | None:
    """Read a JSON file; None where there is none.

    Args:
        path: of the file, UTF-8.
        kind: type of the value; of a TypedDict fields may be missing if they are not required, and unknown ones are ignored.
        fix: end of the message, what to do about a file that cannot be used.
        whole: require the fields that the type requires; otherwise any may be missing.

    Raises:
        InputError: "PATH cannot be read (REASON); FIX".
    """
    try:
        return parse_json(path.read_bytes(), kind, whole=whole)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}); {fix}") from error


def parse_json[T](text: bytes, kind: type[T] | Any, *, whole: bool = True) -> T:
    """Parse JSON data of a type. Raises ValueError with a reason in one line.

    Example:
        >>> parse_json(b'{"a": [1, 2.5]}', dict[str, list[float]])
        {'a': [1, 2.5]}
        >>> parse_json(b'{"a": [1, "x"]}', dict[str, list[float]])
        Traceback (most recent call last):
        ValueError: a[1] is 'x', not a number
    """
    if text.count(b"[") + text.count(b"{") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
        raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
    data = json.loads(text)
    if b"\\ud" in text or b"\\uD" in text:
        json.dumps(data, ensure_ascii=False).encode()  # raises ValueError for halves of characters, which cannot be written again
    try:
        return _check(kind, whole)(data)
    except WrongKind as error:
        raise ValueError(str(error)) from None


def checked[T](value: Any, kind: type[T] | Any, where: str) -> T:
    """Return a value that is of a type. Raises InputError, naming the value by `where`."""
    try:
        return _check(kind, True)(value)
    except WrongKind as error:
        raise InputError(f"{where}{error.path} {error.args[0]}") from None


def _depth(text: bytes) -> int:
    """Return a bound on the nesting: brackets in strings count too."""
    depth = most = 0
    for byte in text:
        if byte in b"[{":
            depth += 1
            most = max(most, depth)
        elif byte in b"]}":
            depth -= 1
    return most


def _check(kind: Any, whole: bool) -> Check:
    """Return the check of a type; types that JSON data cannot have, such as those of experiment files, are checked by `isinstance`."""
    try:
        return _made(kind, whole)
    except TypeError:  # not hashable
        return _make(kind, whole)


def _make(kind: Any, whole: bool) -> Check:
    while isinstance(kind, typing.TypeAliasType):
        kind = kind.__value__
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.NotRequired, typing.Required, typing.Annotated):
        return _check(args[0], whole)
    if origin in (typing.Union, types.UnionType):
        return _union(args, whole)
    if origin is Literal:
        return _literal(args)
    if kind is None or kind is types.NoneType:
        return _plain(lambda value: value is None, "null")
    if kind in _SCALARS:
        return _SCALARS[kind]
    base = origin or kind
    if isinstance(base, type) and base is not typing.Any:
        if typing.is_typeddict(base):
            return _typed_dict(base, whole)
        if base in (list, tuple, Sequence):
            return _items(base, args, whole)
        if base in (dict, Mapping):
            return _entries(args, whole)
        if base is not object and isinstance(base, type) and not getattr(base, "_is_protocol", False):
            return _plain(lambda value: _is(value, base), f"of type {base.__name__}")
    return lambda value: value


def _is(value: object, kind: type) -> bool:
    """Return whether a value is an instance; classes of an experiment file that was loaded twice count as one."""
    name = (kind.__module__, kind.__qualname__)
    return isinstance(value, kind) or any((base.__module__, base.__qualname__) == name for base in type(value).__mro__)


_made = functools.cache(_make)


def _plain(ok: Callable[[Any], bool], name: str) -> Check:
    def check(value: Any) -> Any:
        if not ok(value):
            raise WrongKind(f"is {shown(value, 60)}, not {name}")
        return value

    return check


def _number(value: Any) -> Any:
    if value is None:  # JSON has no NaN
        return math.nan
    if isinstance(value, bool) or not isinstance(value, (int, float)) or (isinstance(value, int) and abs(value) >= 1 << 63):
        raise WrongKind(f"is {shown(value, 60)}, not a number")
    return value


_SCALARS: dict[Any, Check] = {
    bool: _plain(lambda value: isinstance(value, bool), "true or false"),
    int: _plain(lambda value: isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63, "an integer"),
    float: _number,
    str: _plain(lambda value: isinstance(value, str), "a text"),
    Path: _plain(lambda value: isinstance(value, (str, Path)), "a path"),
}


def _union(kinds: Sequence[Any], whole: bool) -> Check:
    checks = [_check(kind, whole) for kind in kinds]
    nullable = types.NoneType in kinds

    def check(value: Any) -> Any:
        if nullable and value is None:
            return None
        reasons = []
        for one in checks:
            try:
                return one(value)
            except WrongKind as error:
                reasons.append(error)
        # The member that the value is meant to be: of records with a name of their kind, the one that has this name.
        meant = [reason for reason in reasons if not reason.names] or reasons
        if len(meant) == 1:
            raise meant[0]
        if meant is reasons:
            raise _not_one_of(reasons[0].value, [name for reason in reasons for name in reason.names], reasons[0].path)
        deepest = max(meant, key=lambda error: len(error.path))
        if deepest.path or not all(", not " in reason.args[0] for reason in meant):
            raise deepest
        wanted = dict.fromkeys(reason.args[0].rpartition(", not ")[2] for reason in meant)
        raise WrongKind(f"is {shown(value, 60)}, not {' or '.join(wanted)}")

    return check


def _not_one_of(value: object, names: Sequence[str], path: str = "") -> WrongKind:
    error = WrongKind(f"is {shown(value, 60)}, not {', '.join(names)}; {did_you_mean(str(value), names, 1)}".rstrip("; "), names)
    error.path, error.value = path, value
    return error


def _literal(values: Sequence[Any]) -> Check:
    def check(value: Any) -> Any:
        if not any(type(value) is type(known) and value == known for known in values):
            raise _not_one_of(value, [str(known) for known in values])
        return value

    return check


def _items(base: type, kinds: Sequence[Any], whole: bool) -> Check:
    fixed = base is tuple and not (len(kinds) == 2 and kinds[1] is Ellipsis) and bool(kinds)
    each = [_check(kind, whole) for kind in kinds if kind is not Ellipsis] or [_check(Any, whole)]

    def check(value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            raise WrongKind(f"is {shown(value, 60)}, not a list")
        if fixed and len(value) != len(each):
            raise WrongKind(f"has {len(value)} entries, not {len(each)}")
        new = []
        for i, item in enumerate(value):
            try:
                new.append(each[i if fixed else 0](item))
            except WrongKind as error:
                raise error.within(f"[{i}]") from None
        return type(value)(new)

    return check


def _entries(kinds: Sequence[Any], whole: bool) -> Check:
    each = _check(kinds[1] if kinds else Any, whole)

    def check(value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise WrongKind(f"is {shown(value, 60)}, not an object")
        new = {}
        for key, item in value.items():
            try:
                new[key] = each(item)
            except WrongKind as error:
                raise error.within(f".{key}") from None
        return new

    return check


def _required(kind: Any) -> set[str]:
    """Return the required fields; `__required_keys__` is wrong where annotations are postponed."""
    inherited = [base for base in types.get_original_bases(kind) if typing.is_typeddict(base)]
    hints = {name: typing.get_origin(hint) for name, hint in typing.get_type_hints(kind, include_extras=True).items()}
    own = set(hints).difference(*(base.__annotations__ for base in inherited))
    named = {name for name in own if hints[name] is (typing.NotRequired if kind.__total__ else typing.Required)}
    return (own - named if kind.__total__ else named).union(*map(_required, inherited))


def _typed_dict(kind: Any, whole: bool) -> Check:
    checks = {name: _check(hint, whole) for name, hint in typing.get_type_hints(kind).items()}
    required = _required(kind) if whole else set()

    def check(value: Any) -> Any:
        if not isinstance(value, dict):
            raise WrongKind(f"is {shown(value, 60)}, not an object")
        new = dict(value)
        for name, one in checks.items():
            if name in value:
                try:
                    new[name] = one(value[name])
                except WrongKind as error:
                    raise error.within(f".{name}") from None
            elif name in required:
                raise WrongKind(f"has no field {name}; {did_you_mean(name, value, 1)}".rstrip("; "))
        return new

    return check
