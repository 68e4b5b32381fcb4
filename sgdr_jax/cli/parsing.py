"""Parses the options of commands with tyro; invalid options are errors of one line."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce
from operator import or_
from types import UnionType
from typing import Annotated, Any, Union, cast, get_args, get_origin

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from ..core.errors import InputError


def parse[T](kind: type[T], words: Sequence[str], prog: str, default: T | None = None) -> T:
    """Parse the options of a command.

    Args:
        kind: dataclass of the options; its docstring is the description in --help.
        words: command line after the command.
        prog: command, as --help shows it.
        default: values of options that are not given; by default those of the dataclass.

    Raises:
        InputError: for options that do not exist or have invalid values.
    """
    return _call_tyro(lambda: tyro.cli(kind, args=words, **_settings(kind, prog, default)))


def parse_known[T](kind: type[T], words: Sequence[str], prog: str, default: T | None = None) -> tuple[T, list[str]]:
    """Parse the options of a command and return the words that belong to other options; see `parse`."""
    return _call_tyro(lambda: tyro.cli(kind, args=words, return_unknown_args=True, **_settings(kind, prog, default)))


def _settings(kind: type, prog: str, default: object) -> dict[str, Any]:
    settings = {"prog": prog, "description": kind.__doc__, "config": (tyro.conf.AvoidSubcommands,), "registry": REGISTRY}
    return settings if default is None else settings | {"default": default}


def _call_tyro[T](call: Callable[[], T]) -> T:
    """Raise InputError of one line where tyro prints a framed message and exits; exit after --help."""
    message = io.StringIO()
    try:
        with contextlib.redirect_stderr(message):
            return call()
    except SystemExit as exit_:
        if exit_.code in (0, None):
            raise
        raise InputError(_one_line(message.getvalue())) from None


def _one_line(framed: str) -> str:
    """Reduce a framed message of tyro to one line: what is wrong, and similar option names where tyro offers any."""
    text = " ".join(re.sub(r"[│╭╮╰╯─]+|-{5,}", " ", framed).split())
    wrong, _, near = text.partition("Perhaps you meant:")
    names = list(dict.fromkeys(re.findall(r"--[a-z][\w.-]*", near.partition("For full helptext")[0])))
    wrong = wrong.partition("For full helptext")[0].strip()
    # "Title sentence" becomes "sentence".
    wrong = re.sub(r"^(Unrecognized options|Parsing error|Invalid choice|Value error|Missing \w+) ", "", wrong)
    wrong = re.sub(r"^Error parsing [\w.]+: ", "", wrong).partition(" Argument helptext:")[0]
    if value := re.match(r"Error parsing (\S+): no type matching (.+) could be instantiated from (\[.*?\])\. Got errors:", wrong):
        return f"{value[1]} is {value[3]}; use {value[2]}"
    if choice := re.match(r"invalid choice (.+) for argument '(\S+)'\. Expected one of \((.+)\)\.", wrong):
        values = re.findall(r"'([^']*)'", choice[3])
        *others, last = [value for value in values if value != "None"] or values
        return f"{choice[2]} is {choice[1]}; use {', '.join(others)}{' or ' if others else ''}{last}"
    if re.search(r"(?i)options: (true|false)\b", wrong):  # the first word that is not understood: the option before it is known
        return f"{wrong}; a switch takes no value: --NAME or --no-NAME"
    if names:
        return f"{wrong}; did you mean {', '.join(names[:3])}?"
    return wrong if "; " in wrong else f"{wrong}; --help lists the options"  # errors of fields name the fix themselves


class _ValueOrObject:
    """Constructor of dataclasses with fields that hold a plain value or an object, such as `lr: float | Find`, for tyro.

    Without it tyro offers only the options of the object where the default is one (`--lr.steps`), and a positional argument without a
    name where the default is plain. With it `--lr` takes a plain value in both cases.
    """

    def __init__(self) -> None:
        self._delegates = False

    def __call__(self, info: StructTypeInfo) -> StructConstructorSpec | None:
        if self._delegates or not dataclasses.is_dataclass(info.type):
            return None
        self._delegates = True  # tyro's own rule makes the fields, which are then changed
        try:
            spec = ConstructorRegistry.get_struct_spec(info)
        finally:
            self._delegates = False
        if not isinstance(spec, StructConstructorSpec):
            return None
        build, fields, values = spec.instantiate, list[StructFieldSpec](), dict[str, str]()
        for field in spec.fields:
            plain, objects = _split_union(field.type)
            if plain is None or not objects:
                fields.append(_optional(field, plain))
            elif not isinstance(field.default, objects):
                fields.append(replace(field, type=plain))
            else:
                values[field.name] = f"{field.name}_value"
                fields += [replace(field, helptext=None), _value_of(field, plain, values[field.name])]

        def instantiate(**given: Any) -> Any:
            for name, value in values.items():
                plain = given.pop(value)
                given[name] = given[name] if plain is _NOT_GIVEN else plain
            return build(**given)

        return StructConstructorSpec(instantiate, tuple(fields))


_NOT_GIVEN = object()


def _value_of(field: StructFieldSpec, plain: Any, name: str) -> StructFieldSpec:
    """Return an option that replaces the object that a field holds by a plain value."""
    spec = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(plain, set()))
    assert isinstance(spec, PrimitiveConstructorSpec)
    spec = replace(spec, is_instance=lambda _: True, str_from_instance=lambda _: [])
    option = Annotated[Any, spec, tyro.conf.arg(name=field.name)]
    return StructFieldSpec(name, cast(type, option), _NOT_GIVEN, field.helptext)


def _optional(field: StructFieldSpec, plain: Any) -> StructFieldSpec:
    """Leave None out of the values that --help and errors list where it is the default: then it is what not to give the option means."""
    if field.default is not None or type(None) not in get_args(plain):
        return field
    rest = reduce(or_, [kind for kind in get_args(plain) if kind is not type(None)])
    inner = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(rest, set()))
    if not isinstance(inner, PrimitiveConstructorSpec) or inner.nargs != 1:
        return field
    spec = replace(
        inner,
        instance_from_str=lambda words: None if words == ["None"] else inner.instance_from_str(words),
        is_instance=lambda value: value is None or inner.is_instance(value),
        str_from_instance=lambda value: ["None"] if value is None else inner.str_from_instance(value),
        choices=(*inner.choices, "None") if inner.choices else None,  # not named, but accepted, as of every other option
    )
    return replace(field, type=cast(type, Annotated[Any, spec]))


def _split_union(hint: Any) -> tuple[Any, tuple[type, ...]]:
    """Split a union into (union of its plain types or None, its dataclasses); types that are no unions have neither."""
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else ()
    objects = tuple(kind for kind in kinds if dataclasses.is_dataclass(kind))
    plain = [kind for kind in kinds if kind not in objects]
    return (reduce(or_, plain) if plain else None), cast(tuple[type, ...], objects)


REGISTRY = ConstructorRegistry()
REGISTRY.struct_rule(_ValueOrObject())
